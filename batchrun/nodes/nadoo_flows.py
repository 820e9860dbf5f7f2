"""Runs of Nadoo Flows: the library's own executor drives copies of the flow's nodes, each of which is a part of the call.

Nothing is shared between items but what nodes refer to: the library keeps what it knows of a run in the run's context, and
nodes may keep things in themselves.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from batchrun.core.errors import InvalidValue
from batchrun.core.policies import Retry
from batchrun.nodes.guarded import attempted, attempted_async
from batchrun.nodes.outside import Placement, StepFailed, node_name, plain
from batchrun.workflows.encoding import encode

Kind: TypeAlias = Literal["executor", "chain"]

_DRAWN = re.compile(r"(fn|pass)_[0-9a-f]{8}")
"""Ids that the library draws at random where none is given: another one in each process."""


class _Failed(BaseException):
    """Carries what a node raised past the executor, which would keep its text alone."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__()
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """A flow, and how it is run.

    Attributes:
        given: the flow, or a function that makes one.
        kind: what it is.
        placement: where its nodes are run.
        retry: the rules for them.
    """

    given: Any
    kind: Kind
    placement: Placement
    retry: Retry | None

    async def run(self, nadoo: Any, data: dict[str, Any], perform: Callable[[Inner], Awaitable[dict[str, Any]]]) -> Any:
        """Run a copy of the flow to its end and return what its last node gave.

        Args:
            nadoo: the library.
            data: what it begins with.
            perform: runs a node.

        Raises:
            StepFailed: the library says that the flow has failed. Or what one of its nodes raised.
        """
        flow = made(self.given, nadoo)
        nodes = [_copied(node) for node in flow_nodes(flow, self.kind)]
        names = _names(nodes, self.kind)
        flow = copy.copy(flow)
        raised: BaseException | None = None
        try:
            if self.kind == "chain":
                flow.nodes = [_Link(Inner(nadoo, node, name), perform) for node, name in zip(nodes, names, strict=True)]
                return await flow.run(data)
            flow.nodes = {node.node_id: _Stand(Inner(nadoo, node, name), perform) for node, name in zip(nodes, names, strict=True)}
            context = await flow.execute(nadoo.WorkflowContext(), data)
        except _Failed as failed:
            raised = failed.error
        if raised is not None:
            raise raised
        if context.status.value != "success":
            raise StepFailed(context.error or f"the flow ended as {context.status.value}")
        last = context.node_contexts.get(context.execution_path[-1]) if context.execution_path else None
        return None if last is None else last.output_data


class Inner:
    """A node of a flow that is about to be run for an item.

    Args:
        nadoo: the library.
        node: a copy for this item.
        name: its id as ids are here.
    """

    def __init__(self, nadoo: Any, node: Any, name: str) -> None:
        self.nadoo = nadoo
        self.node = node
        self.name = name
        self.is_hooked = True
        self.context: Any = None
        self.workflow_context: Any = None

    async def perform(self) -> dict[str, Any]:
        """Run it, and return what the run goes on with, as plain values.

        Raises:
            StepFailed: the node says that it has failed. Or whatever it raises.
        """
        node, context, shared = self.node, self.context, self.workflow_context
        raised: list[BaseException] = []
        if isinstance(node, self.nadoo.FunctionNode):
            node.func = _watched(node.func, node.is_async, raised)
        before = {name: _text(value) for name, value in shared.global_variables.items()}
        if self.is_hooked:
            await node.pre_execute(context, shared)
        result = await node.execute(context, shared)
        if self.is_hooked:
            await node.post_execute(context, shared, result)
        if not result.success and not result.should_interrupt:
            raise raised[-1] if raised else _failure(result)
        said = {
            "output": plain(context.output_data if self.is_hooked and context.output_data else result.output),
            "next_node_id": result.next_node_id,
            "conditional_next": plain(result.conditional_next),
            "waits": plain(shared.waiting_for) or True if result.should_interrupt else None,
            "variables": {name: plain(value) for name, value in shared.global_variables.items() if before.get(name) != _text(value)},
        }
        return {name: value for name, value in said.items() if value or name == "output"}

    def results(self, said: dict[str, Any]) -> Any:
        """What the node gave, for the library."""
        self.workflow_context.global_variables.update(said.get("variables", {}))
        return self.nadoo.NodeResult(
            True, said["output"], next_node_id=said.get("next_node_id"), conditional_next=said.get("conditional_next")
        )


class _Stand:
    """Stands in an executor for a node."""

    def __init__(self, inner: Inner, perform: Callable[[Inner], Awaitable[dict[str, Any]]]) -> None:
        self._inner = inner
        self._perform = perform

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner.node, name)

    async def pre_execute(self, _context: Any, _shared: Any) -> None:
        """What the node does before belongs to its run, which is not made again for an item that goes on later."""

    async def execute(self, context: Any, shared: Any) -> Any:
        self._inner.context, self._inner.workflow_context = context, shared
        said, error = await attempted_async(self._perform(self._inner))
        if said is None:
            raise _Failed(error)
        return self._inner.results(said)

    async def post_execute(self, context: Any, _shared: Any, result: Any) -> None:
        """As `pre_execute`; what the library goes on with."""
        context.output_data = result.output
        context.status = self._inner.nadoo.NodeStatus.SUCCESS


class _Link:
    """Stands in a chain for a node."""

    def __init__(self, inner: Inner, perform: Callable[[Inner], Awaitable[dict[str, Any]]]) -> None:
        self._inner = inner
        self._perform = perform

    async def run(self, data: dict[str, Any]) -> Any:
        inner = self._inner
        inner.is_hooked = False
        inner.workflow_context = inner.nadoo.WorkflowContext(global_variables=dict(data))
        inner.context = inner.nadoo.NodeContext(node_id=inner.node.node_id, node_type=inner.node.node_type, input_data=data)
        return (await self._perform(inner))["output"]


def made(given: Any, nadoo: Any) -> Any:
    """The flow: itself, or what the function makes.

    Raises:
        InvalidValue: the function is async.
    """
    is_flow = kind_of(given, nadoo) is not None or not callable(given)
    if not is_flow and inspect.iscoroutinefunction(given):
        raise InvalidValue("the function that makes the flow must not be async")
    flow = given if is_flow else given()
    return nadoo.NodeChain([flow]) if isinstance(flow, nadoo.ChainableNode) else flow


def kind_of(flow: Any, nadoo: Any) -> Kind | None:
    """What the library can do with it; null: it is no flow."""
    if isinstance(flow, nadoo.WorkflowExecutor):
        return "executor"
    return "chain" if isinstance(flow, nadoo.NodeChain | nadoo.ChainableNode) else None


def flow_nodes(flow: Any, kind: Kind) -> list[Any]:
    """The nodes of a flow."""
    return list(flow.nodes.values() if kind == "executor" else flow.nodes)


def is_plain_function(node: Any) -> bool:
    """Whether a node calls a function that is not async."""
    return getattr(node, "is_async", True) is False


def _copied(node: Any) -> Any:
    """A node of its own for an item, down to the lists, sets and mappings it holds; what else it holds, such as a model, is shared."""
    own = copy.copy(node)
    for name, value in list(getattr(own, "__dict__", {}).items()):
        if isinstance(value, list | dict | set):
            setattr(own, name, copy.copy(value))
    return own


def _names(nodes: list[Any], kind: Kind) -> list[str]:
    names: list[str] = []
    for position, node in enumerate(nodes, 1):
        id = str(node.node_id)
        if kind == "chain" and _DRAWN.fullmatch(id):
            id = getattr(getattr(node, "func", None), "__name__", "passthrough" if id.startswith("pass") else f"node_{position}")
        name = node_name(id, position)
        names.append(f"{name}_{position}" if name in names else name)
    return names


def _watched(function: Callable[[Any], Any], is_async: bool, raised: list[BaseException]) -> Callable[[Any], Any]:  # noqa: FBT001
    """A function that also tells what it raises, of which the library keeps the text alone."""

    def told(outcome: Any) -> Any:
        if outcome.error is not None:
            raised.append(outcome.error)
            raise outcome.error
        return outcome.value

    async def awaited(data: Any) -> Any:
        return told(await attempted_async(function(data)))

    return awaited if is_async else lambda data: told(attempted(lambda: function(data)))


def _failure(result: Any) -> StepFailed:
    error = StepFailed(result.error or "the node gave no reason")
    status = (result.metadata or {}).get("status_code")
    error.http_status = status if type(status) is int else None
    return error


def _text(value: Any) -> bytes | None:
    return attempted(lambda: encode(value)).value
