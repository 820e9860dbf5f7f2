"""What the calls of one execution have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

from batchrun.core.events import Retrying, SentBack, Throttled
from batchrun.core.executions import Stop
from batchrun.engine.context import CallContext, CallPorts, Trace
from batchrun.engine.counting import Limits
from batchrun.engine.deadlines import Deadlines
from batchrun.engine.failures import message_of
from batchrun.engine.item_run import ItemRun
from batchrun.engine.keeping import Keeper, open_node
from batchrun.engine.part_engines import PartEngines
from batchrun.engine.parts import CallParts
from batchrun.engine.sharing import SharingPorts, shared
from batchrun.engine.threads import Threads
from batchrun.flow.retry import Decision
from batchrun.workflows.plan import Plan, Step
from batchrun.workflows.scope import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPolicy:
    """How calls are made.

    Attributes:
        plan: the compiled workflow.
        recording: how much of each call is written down.
        deadlines: how long items and attempts may take.
        ports: what the contexts of the calls share.
        keeper: keeps what nodes of items come to that are not completed; null: nothing is kept.
        on_stop: called with the reason when a retry rule says `stop`, or the budget is used up; from any thread.
        threads: where plain functions are called whose items wait for one another.
        sharing: what the calls have in common that need not all be made.
        prefix: goes before the ids of the nodes: they belong to parts of calls of another node.
        parts: the engines of what calls run as parts of theirs.
        on_sent_back: is told of each call that failed and will be made again; from any thread. Null: nobody wants to know.
        batched: the calls of nodes that are made for several items at once, by position; they count themselves.
    """

    plan: Plan
    recording: Literal["full", "summary", "none"]
    deadlines: Deadlines
    ports: CallPorts
    keeper: Keeper | None
    on_stop: Callable[[Stop], None]
    threads: Threads
    sharing: SharingPorts
    parts: PartEngines[Any]
    prefix: str = ""
    on_sent_back: Callable[[SentBack], None] | None = None
    batched: Mapping[int, Callable[[Scope], Any]] = field(default_factory=dict)

    @property
    def limits(self) -> Limits | None:
        """What calls are counted against; null when nothing limits them."""
        spending = self.ports.spending
        return Limits(spending, self.ports.resting) if spending is not None and spending.is_limited else None

    def callables(self) -> list[Callable[[Scope], Any]]:
        """The calls of the nodes, by position."""
        return [self._callable(step) for step in self.plan.steps]

    def _callable(self, step: Step) -> Callable[[Scope], Any]:
        """The call of a node: counted before it is made where there are limits, and only made where nobody knows what it gives."""
        call, limits = self.batched.get(step.position), self.limits
        if call is None:
            call = partial(self.threads.call, step) if step.waits and not step.call_waits else step.call
            call = call if step.turn is None else _in_turn(call, step.turn)
            call = call if limits is None or step.has_parts or step.asks_person else limits.counted(call, step)
            call = _checked(call, waits=step.waits) if step.has_parts else call
        is_shared = step.is_deduped or (step.is_cached and self.sharing.cache is not None)
        return shared(step, call, self.sharing) if is_shared else call

    def call_key(self, run: ItemRun, step: Step) -> str:
        """What identifies the calls of a node for an item, whatever happens to them."""
        name = f"{self.ports.execution_id}/{run.source.item_index}/{run.path}{step.id}/0/{run.generation}"
        return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()

    def name_of(self, step: Step) -> str:
        """The id of a node as people see it."""
        return f"{self.prefix}{step.id}"

    def parts_of(self, run: ItemRun, step: Step) -> CallParts:
        """The parts of the calls of a node for an item."""
        if step.position not in run.call_parts:
            run.call_parts = {**run.call_parts, step.position: CallParts(self.parts, run, step)}
        return run.call_parts[step.position]

    def context(self, run: ItemRun, step: Step) -> CallContext:
        """The context of a call that is about to be made."""
        return CallContext(
            self.ports,
            step.position,
            open_node(run, step),
            attempt=run.attempt_of(step.position),
            call_key=self.call_key(run, step),
            before=run.traces.get(step.position, Trace()),
        )

    def tell_sent_back(self, run: ItemRun, step: Step, error: BaseException, decision: Decision) -> None:
        """A call failed, and its item is about to be sent back: tell who wants to know."""
        if self.on_sent_back is not None:
            is_throttle = decision.action == "throttle"
            told = (Throttled if is_throttle else Retrying)(
                execution_id=self.ports.execution_id,
                at=datetime.now(UTC),
                item_index=run.source.item_index,
                source_item_id=run.source.id,
                node_id=self.name_of(step),
                failed_attempts=run.failed_calls(step.position) + (not is_throttle),
                wait_seconds=decision.wait_seconds,
                error_type=type(error).__name__,
                message=message_of(error),
            )
            self.on_sent_back(told)


def _in_turn(call: Callable[[Scope], Any], turn: Callable[[Scope], AbstractAsyncContextManager[None]]) -> Callable[[Scope], Any]:
    """A call that waits, made when it is its turn."""

    async def made(scope: Scope) -> Any:
        async with turn(scope):
            return await call(scope)

    return made


def _checked(call: Callable[[Scope], Any], *, waits: bool) -> Callable[[Scope], Any]:
    """A call with parts: what the engine has raised in it holds, even if code of users has caught it."""

    async def awaited(scope: Scope) -> Any:
        parts, value = scope.parts, await call(scope)
        if isinstance(parts, CallParts):
            parts.check()
        return value

    def made(scope: Scope) -> Any:
        parts, value = scope.parts, call(scope)
        if isinstance(parts, CallParts):
            parts.check()
        return value

    return awaited if waits else made
