"""Calls of the function of a plan that is nothing but that function, without a run until one is needed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from batchrun.core.items import NodeRecord
from batchrun.engine.attempt import LATE, going_on, is_for_us
from batchrun.engine.calls import Calls
from batchrun.engine.item_run import ItemRun
from batchrun.engine.quick import QuickCall
from batchrun.engine.settling import Settling
from batchrun.flow.reach import Reach
from batchrun.workflows.encoding import bounded, encode
from batchrun.workflows.scope import Scope


class QuickCaller:
    """Makes such calls for one plan.

    Args:
        calls: knows how its nodes are called.
        settling: takes what comes of calls that have a run.

    Attributes:
        is_plain: the plan is one plain function, whatever comes of it.
        is_async: the plan is one async function.
    """

    def __init__(self, calls: Calls, settling: Settling) -> None:
        policy, stages = calls.policy, calls.policy.plan.stages
        is_one = len(stages) == len(policy.plan.steps) == 1
        self.is_plain = is_one and not stages[0].waits and calls.stretches[0][0][5]
        self.is_async = is_one and bool(calls.walks[0])
        self._calls = calls
        self._settling = settling
        self._deadlines = policy.deadlines
        self._clock = policy.deadlines.clock
        self._full = policy.recording == "full"
        self._records = policy.recording != "none"

    def call(self, data: dict[str, Any]) -> QuickCall:
        """Call the plain function, in a lane thread."""
        ((_, _, _, bind, call, _, most),) = self._calls.stretches[0]
        scope, recorded, began, inputs = Scope(data, []), None, self._clock(), data
        try:
            scope.inputs = inputs = bind(scope)
            if self._full:
                recorded = encode(inputs)
            value = call(scope)
            written = bounded(encode(value), most) if self._full else None
        except BaseException as error:
            return QuickCall(None, None, error, began, inputs, recorded)
        return QuickCall(value, self._record(began, recorded, written), None, began, inputs, recorded)

    async def call_on_loop(self, data: dict[str, Any], begin: Callable[[], ItemRun]) -> QuickCall | None:
        """Call the async function. When it waits, it gets a run from `begin`: what comes of it is in there, and not returned."""
        ((_, _, _, bind, call, _, most),) = self._calls.stretches[0]
        scope, recorded, began, inputs = Scope(data, []), None, self._clock(), data
        value = written = rest = None
        with Reach(self._clock) as reach:
            try:
                scope.inputs = inputs = bind(scope)
                if self._full:
                    recorded = encode(inputs)
                making = call(scope)
                try:
                    awaited = making.send(None)
                except StopIteration as end:
                    value = end.value
                else:
                    rest = going_on(making, awaited, self._calls.nothing_goes_on, reach)
                if self._full and rest is None:
                    written = bounded(encode(value), most)
            except BaseException as error:
                if is_for_us(error):
                    raise
                return QuickCall(None, None, error, began, inputs, recorded)
            if rest is not None:
                await self._go_on(begin(), rest, reach, began, recorded)
                return None
        return QuickCall(value, self._record(began, recorded, written), None, began, inputs, recorded)

    def settle(self, run: ItemRun, call: QuickCall) -> None:
        """Settle a call that has failed: now it has a run."""
        if call.error is not None:
            self._settling.settle_failure(run, self._settling.policy.plan.steps[0], call.error, call.began, call.recorded)

    async def _go_on(self, run: ItemRun, call: Awaitable[Any], reach: Reach, began: float, recorded: bytes | None) -> None:
        """Await the rest of a call that waits, up to its deadline."""
        step, written = self._settling.policy.plan.steps[0], None
        left_seconds = self._deadlines.attempt_seconds(run, step, self._clock() - began)
        if left_seconds is not None:
            reach.arm(left_seconds)
        try:
            value = await call
            if self._full and value is not LATE:
                written = bounded(encode(value), step.max_output_bytes)
        except BaseException as error:
            if is_for_us(error):
                raise
            self._settling.settle_failure(run, step, error, began, recorded)
            return
        if value is LATE:
            self._settling.settle_failure(run, step, self._deadlines.timeout(run, step, began), began, recorded)
        else:
            self._settling.settle(run, step, value, run, (began, self._clock()), (recorded, written))

    def _record(self, began: float, recorded: bytes | None, written: bytes | None) -> NodeRecord | None:
        if not self._records:
            return None
        at, duration = int((began + self._settling.epoch) * 1e6), (self._clock() - began) * 1e3
        return (0, "completed", 1, at, duration, recorded, written, None, None, None, False)
