"""The `nadoo` node: a Nadoo Flow, run in this process for each item."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from batchrun.core.checks import KEY, at_least, refuse
from batchrun.core.errors import known_values
from batchrun.core.job import NodeOptions
from batchrun.nodes.guarded import attempted
from batchrun.nodes.identity import identity_of
from batchrun.nodes.nadoo_flows import Blueprint, Inner, Kind, flow_nodes, is_plain_function, kind_of, made
from batchrun.nodes.nadoo_runs import Runner
from batchrun.nodes.outside import ALL, CannotWait, Placement, found, in_processes, library, own, plain
from batchrun.nodes.placement import is_isolating
from batchrun.workflows.node import NodeCall, NodeCompiler
from batchrun.workflows.scope import Scope

PACKAGE = "nadoo_flow"


@dataclass(frozen=True, slots=True, kw_only=True)
class NadooNode(NodeOptions):
    """Runs a Nadoo Flow (`pip install 'batchrun[nadoo]'`).

    The flow is a `WorkflowExecutor`, a chain or a chainable node, or a function that makes one and is called for each item.
    Its `inputs` are what the flow begins with; without them, that is `{{ input }}`. Its nodes are recorded under this node's
    id, a dot and theirs, are tried again by this node's `retry`, and are not run again when the item goes on later. A node
    with `should_interrupt` waits for a person.
    """

    type: Literal["nadoo"] = "nadoo"
    """Runs a Nadoo Flow."""
    flow: Any
    """`module:name` of the flow, or of a function without parameters that makes one."""
    placement: Placement = field(default="auto", metadata={KEY: "in"})
    """Where its nodes are run. auto: those of plain functions in threads, others on the event loop; loop: a promise that none of
    them blocks; thread: all of them in threads; process: the flow as one call in worker processes, without records of its nodes."""
    workers: int | None = None
    """The most worker processes; null: as many as there are cores, and never more than `run.parallelism`."""

    def __post_init__(self) -> None:
        NodeOptions.__post_init__(self)  # a class with slots is made twice, which breaks super()
        refuse(at_least(1, workers=self.workers))

    def bind(self, compiler: NodeCompiler) -> NodeCall | None:
        """Import the flow and check its nodes."""
        names = tuple(compiler.input_names)
        if not names:
            compiler.default_inputs({ALL: "{{ input }}"})
        nadoo = library(PACKAGE, "nadoo", "nadoo-flow-core", compiler)
        given = found(self.flow, compiler, "flow") if nadoo is not None else None
        if given is None:
            return None
        flow, error = attempted(partial(made, given, nadoo))
        kind = kind_of(flow, nadoo)
        if error is not None:
            compiler.problem(f"making the flow failed: {type(error).__name__}: {error}", "flow")
        elif kind is None:
            kinds = "a WorkflowExecutor, a chain or a chainable node"
            compiler.problem(f"must be {kinds}, or a function that makes one; got {type(flow).__qualname__}", "flow")
        if kind is None or not _is_whole(flow, kind, compiler):
            return None
        blueprint = Blueprint(given=given, kind=kind, placement=self.placement, retry=self.retry)
        identity = _identity(given, flow, kind, nadoo)
        in_threads = self.placement == "thread" or (self.placement == "auto" and any(map(is_plain_function, flow_nodes(flow, kind))))
        if self.placement == "process" or (is_isolating() and in_threads):
            return self._in_processes(names, identity, compiler)
        runner = Runner(blueprint, nadoo, compiler)

        async def run(scope: Scope) -> Any:
            return await runner.run(begin_with(scope.inputs if names else scope.inputs[ALL]), scope)

        return NodeCall(call=run, waits=True, has_parts=True, key=lambda scope: scope.inputs, identity=identity)

    def _in_processes(self, names: tuple[str, ...], identity: str, compiler: NodeCompiler) -> NodeCall | None:
        if not isinstance(self.flow, str):
            compiler.problem("in: process needs the flow as module:name, which worker processes can import", "flow")
            return None
        whole = in_processes(partial(run_whole, self.flow), self.id, self.workers, names, compiler)
        if whole is None:
            return None
        call, place = whole
        return NodeCall(
            call=call, waits=True, queues=True, lifespan=place.lifespan, key=lambda scope: scope.inputs, identity=f"process {identity}"
        )


def begin_with(value: Any) -> dict[str, Any]:
    """What a flow begins with: a mapping as it is, anything else as `input`."""
    return own(value) if isinstance(value, dict) else own({ALL: value})


async def run_whole(flow: str, value: Any) -> Any:
    """Run a flow to its end, in a worker process.

    Args:
        flow: `module:name`.
        value: what it begins with.

    Raises:
        CannotWait: it waits for a person.
    """
    module, _, name = flow.partition(":")
    given: Any = importlib.import_module(module)
    for each in name.split("."):
        given = getattr(given, each)
    nadoo = importlib.import_module(PACKAGE)
    kind = kind_of(made(given, nadoo), nadoo)
    if kind is None:
        raise AssertionError("the flow was checked before it was sent")

    async def perform(inner: Inner) -> Any:
        result = await inner.perform()
        if "waits" in result:
            raise CannotWait(f"node {inner.name} of the flow waits for a person, which a flow in: process cannot")
        return result

    blueprint = Blueprint(given=given, kind=kind, placement="loop", retry=None)
    return plain(await blueprint.run(nadoo, begin_with(value), perform))


def _is_whole(flow: Any, kind: Kind, compiler: NodeCompiler) -> bool:
    """Whether an executor begins somewhere and its nodes lead to one another. Problems are reported."""
    if kind == "chain":
        return True
    if not flow.start_node_id:
        compiler.problem("the flow has no start: give one of its nodes the type start-node", "flow")
        return False
    problems = [
        f"node {id!r} of the flow leads to {to!r}, which it does not have; {known_values(to, list(flow.nodes), kind='nodes')}"
        for id, node in flow.nodes.items()
        for to in [*getattr(node, "next_nodes", ()), *getattr(node, "condition_branches", {}).values()]
        if to not in flow.nodes
    ]
    for problem in problems:
        compiler.problem(problem, "flow")
    return not problems


def _identity(given: Any, flow: Any, kind: Kind, nadoo: Any) -> str:
    """What decides what the flow does. Ids are left out where the library draws them at random."""
    parts = [identity_of(given)] if inspect.isroutine(given) else []
    for position, node in enumerate(flow_nodes(flow, kind)):
        does = node.func if isinstance(node, nadoo.FunctionNode) else type(node)
        shape = (
            position if kind == "chain" else node.node_id,
            getattr(node, "next_nodes", None),
            getattr(node, "condition_branches", None),
        )
        parts += [repr(shape), identity_of(does)]
    return "\n".join(parts)
