"""What the calls of one execution have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from batchrun.core.executions import Stop
from batchrun.engine.context import CallContext, CallPorts, Trace
from batchrun.engine.deadlines import Deadlines
from batchrun.engine.item_run import ItemRun
from batchrun.engine.keeping import Keeper, open_node
from batchrun.engine.sharing import SharingPorts, shared
from batchrun.engine.threads import Threads
from batchrun.flow.budget import Spending
from batchrun.workflow.plan import Plan, Step
from batchrun.workflow.scope import Scope


class BudgetUsedUpError(Exception):
    """Raised in place of a call that the budget does not allow."""


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
    batched: Mapping[int, Callable[[Scope], Any]] = field(default_factory=dict)

    @property
    def limits(self) -> Spending | None:
        """What calls are counted against; null when nothing limits them."""
        spending = self.ports.spending
        return spending if spending is not None and spending.is_limited else None

    def callables(self) -> list[Callable[[Scope], Any]]:
        """The calls of the nodes, by position."""
        return [self._callable(step) for step in self.plan.steps]

    def _callable(self, step: Step) -> Callable[[Scope], Any]:
        """The call of a node: counted before it is made where there are limits, and only made where nobody knows what it gives."""
        call = self.batched.get(step.position)
        if call is None:
            call = partial(self.threads.call, step) if step.waits and not step.call_waits else step.call
            call = call if self.limits is None else _counted(call, self.limits)
        is_shared = step.is_deduped or (step.is_cached and self.sharing.cache is not None)
        return shared(step, call, self.sharing) if is_shared else call

    def call_key(self, run: ItemRun, step: Step) -> str:
        """What identifies the calls of a node for an item, whatever happens to them."""
        name = f"{self.ports.execution_id}/{run.source.item_index}/{step.id}/0/{run.generation}"
        return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()

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


def _counted(call: Callable[[Scope], Any], limits: Spending) -> Callable[[Scope], Any]:
    def counted(scope: Scope) -> Any:
        refusal = limits.reserve()
        if refusal is not None:
            raise BudgetUsedUpError(refusal)
        return call(scope)

    return counted
