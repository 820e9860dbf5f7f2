"""Nadoo Flows for tests: real nodes of the library, small enough to be read at a glance."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from nadoo_flow import BaseNode, FunctionNode, NodeResult, WorkflowExecutor
from nadoo_flow.resilience import RetryableNode, RetryPolicy

Does = Callable[[Any, Any], Awaitable[NodeResult]]


class Step(BaseNode):
    """A node that does what it is told, and counts its calls in itself."""

    def __init__(self, id: str, does: Does) -> None:
        super().__init__(id, "custom", id, {})
        self.does = does
        self.calls: list[int] = []

    async def execute(self, node_context: Any, workflow_context: Any) -> NodeResult:
        self.calls.append(node_context.input_data.get("n", 0))
        return await self.does(node_context, workflow_context)


class Patient(RetryableNode):
    """A node with the library's own retries."""

    def __init__(self, fails: int, attempts: int) -> None:
        policy = RetryPolicy(max_attempts=attempts, initial_delay=1, jitter=0)
        super().__init__("patient", "start-node", "patient", {}, policy)
        self.left = fails

    async def _execute_with_retry(self, node_context: Any, workflow_context: Any) -> NodeResult:
        self.left -= 1
        if self.left >= 0:
            raise ConnectionError("not now")
        return NodeResult(success=True, output={"left": self.left})


def line(*steps: Any) -> WorkflowExecutor:
    """Nodes one after the other; the first one is the start."""
    flow = WorkflowExecutor()
    steps[0].node_type = "start-node"
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        if following is not None:
            step.add_next_node(following.node_id)
        flow.add_node(step)
    return flow


def giving(**output: Any) -> Does:
    """Gives the same each time."""

    async def does(node_context: Any, workflow_context: Any) -> NodeResult:
        return NodeResult(success=True, output=output)

    return does


async def doubles(node_context: Any, workflow_context: Any) -> NodeResult:
    """Leaves what the next one reads, and lets others go before it."""
    workflow_context.set_global_variable("doubled", 2 * node_context.input_data["n"])
    await asyncio.sleep(0)
    return NodeResult(success=True, output={"ok": True})


async def reads(node_context: Any, workflow_context: Any) -> NodeResult:
    """What the one before has left."""
    return NodeResult(success=True, output={"doubled": workflow_context.get_global_variable("doubled")})


async def asks(node_context: Any, workflow_context: Any) -> NodeResult:
    """Waits for a person, who may choose the way."""
    routes = {"accept": "accepted", "refuse": "refused"}
    return NodeResult(success=True, output={"draft": "Dear Ada", "route": "refuse"}, should_interrupt=True, conditional_next=routes)


def asking() -> WorkflowExecutor:
    """A flow that waits for a person between two nodes."""
    flow = line(Step("draft-it", giving(text="Dear Ada")), Step("review", asks))
    for answer in ("accepted", "refused"):
        flow.add_node(Step(answer, giving(answer=answer)))
    return flow


def upper(data: dict[str, Any]) -> dict[str, Any]:
    """A plain function."""
    return {"text": data["text"].upper()}


CHAIN = FunctionNode(upper) | FunctionNode(lambda data: {"size": len(data["text"])}, node_id="size")
FLOW = line(Step("first", doubles), Step("second", reads))
WAITS = asking()
NOT_A_FLOW = 3
