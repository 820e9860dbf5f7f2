"""Calling nodes: the only place where code of users runs, and where anything it raises is caught.

Whatever happens in here becomes part of the item's state; nothing is raised for an item's failure.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from batchrun.core.executions import Stop
from batchrun.core.items import ItemResult
from batchrun.core.job import DefaultOnFailure
from batchrun.engine.attempt import Attempt, is_cancelled, stoppable
from batchrun.engine.deadlines import Deadlines
from batchrun.engine.failures import error_record, is_abort, message_of
from batchrun.engine.item_run import ItemRun
from batchrun.flow.retry import CallHistory, Decision
from batchrun.workflow.encoding import encode
from batchrun.workflow.node import Render
from batchrun.workflow.plan import Plan, Stage, Step
from batchrun.workflow.scope import Scope
from batchrun.workflow.templates import fresh


class Watched(Protocol):
    """A lane, as far as a call is concerned: what it shows to the watchdog."""

    step: Step | None
    began: float
    abandoned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPolicy:
    """What the calls of one execution have in common.

    Attributes:
        plan: the compiled workflow.
        execution_id: goes into call keys.
        recording: how much of each call is written down.
        deadlines: how long items and attempts may take.
        on_stop: called with the reason when a retry rule says `stop`.
    """

    plan: Plan
    execution_id: str
    recording: Literal["full", "summary", "none"]
    deadlines: Deadlines
    on_stop: Callable[[Stop], None]


class Calls:
    """Calls the nodes of one plan and settles what comes of it."""

    def __init__(self, policy: CallPolicy) -> None:
        self.policy = policy
        self.is_over = False  # nothing may go on any more
        self._deadlines = policy.deadlines
        self._clock = policy.deadlines.clock
        self._full = policy.recording == "full"
        self._records = policy.recording != "none"
        self._stretches = [_stretch(stage) for stage in policy.plan.stages]
        self._epoch = time.time() - self._clock()  # engine clock → seconds since 1970

    def run_stretch(self, run: ItemRun, lane: Watched) -> None:
        """Run the nodes of the item's stage, which do not wait, one after another, in a lane thread.

        This loop is the fast path: a million items of three nodes go through it three million times.
        """
        clock, full, keep, epoch = self._clock, self._full, self._records, self._epoch
        outputs, records = run.outputs, run.records
        recorded = written = None
        for step, position, bit, bind, call, is_plain in self._stretches[run.stage]:
            if run.done & bit or not (is_plain or self._begins(run, step, lane)):
                if not run.goes_on:
                    return
                continue
            lane.began = began = clock()  # before `step`: the watchdog reads the two the other way round
            lane.step = step
            try:
                recorded = None
                run.inputs = inputs = bind(run)
                if full:
                    # Written down at once: the function may change its arguments, and its output may be changed later.
                    recorded = encode(inputs)
                value = call(run)
                if full:
                    written = encode(value)
            except BaseException as error:
                if lane.abandoned or not self.settle_failure(run, step, error, began, recorded):
                    return
                continue
            if lane.abandoned:
                return
            outputs[position] = value
            run.done |= bit
            if keep:
                attempts = 1 if run.calls is None else run.attempt_of(position)
                times = int((began + epoch) * 1e6), (clock() - began) * 1e3
                records.append((position, "completed", attempts, *times, recorded, written, None, run.call_key))

    async def call_waiting(self, run: ItemRun, step: Step, scope: Scope) -> None:
        """Call a node that waits, on the event loop, with a deadline."""
        recorded = None
        attempt = Attempt(run, step, self._deadlines)
        try:
            scope.inputs = step.inputs(scope)
            if self._full:
                recorded = encode(scope.inputs)
            scope.call_key = self._call_key(run, step) if step.sends_call_key else None
            if step.queues:
                scope.sending = attempt.sending
            with attempt.cancel_scope:
                value = await stoppable(step.call(scope), lambda: self.is_over or attempt.cancel_scope.cancel_called)
                written = encode(value) if self._full else None
            run.call_key = scope.call_key
            if attempt.cancel_scope.cancelled_caught:
                self.settle_failure(run, step, attempt.timeout(), attempt.began, recorded)
            else:
                self._settle(run, step, value, (attempt.began, self._clock()), (recorded, written))
        except BaseException as error:  # also what Rust extensions raise when they panic
            if _is_for_us(error):
                raise
            run.call_key = scope.call_key
            self.settle_failure(run, step, error, attempt.began, recorded)
        finally:
            attempt.end()
            run.call_key = None
            if step.queues:
                del scope.sending  # else item and attempt would keep one another alive

    def is_skipped(self, run: ItemRun, step: Step) -> bool:
        """Decide whether a node runs, and note it when it is skipped. A `when` that fails is a failure of its node."""
        began = self._clock()
        wanted = True
        if step.upstream and run.skipped & step.upstream == step.upstream:
            wanted = False
        elif step.when is not None:
            try:
                wanted = bool(step.when(run))
            except BaseException as error:  # conditions may call methods of users' values
                if is_abort(error):
                    raise
                self.settle_failure(run, step, error, began, None)
                return True
        if wanted:
            return False
        run.done |= step.bit
        run.skipped |= step.bit
        if self._records:
            run.records.append((step.position, "skipped", 0, None, 0.0, None, None, None, None))
        return True

    def settle_failure(self, run: ItemRun, step: Step, error: BaseException, began: float, recorded: bytes | None) -> bool:
        """Decide what becomes of an item whose node failed. Returns whether it goes on with its next node."""
        now = self._clock()
        before = (run.calls or {}).get(step.position, CallHistory(0))
        history = before._replace(attempts=before.attempts + 1)
        try:
            decision = step.retry.decide(error, history, random.random)
        except BaseException as second:  # an attribute of the user's exception that raises when it is read
            if is_abort(second):
                raise
            decision = Decision("fail")
        if decision.action == "stop":
            run.status = "cancelled"
            self.policy.on_stop(Stop("rule", f"node {step.id}: {type(error).__name__}: {message_of(error)}"))
        is_throttle = decision.action == "throttle"
        is_retry = decision.action == "retry" and self._deadlines.leaves_time_after(run, decision.wait_seconds)
        if run.status is None and (is_throttle or is_retry):
            self._send_back(run, step, before if is_throttle else history, decision.wait_seconds, throttle=is_throttle)
            return False
        record = error_record(error, step.id)
        if self._records:
            started, duration = self._times(began, now)
            status = "failed" if run.status is None else run.status
            run.records.append((step.position, status, history.attempts, started, duration, recorded, None, record, run.call_key))
        if run.status is not None:
            return False
        if step.on_failure == "stop" or not self._deadlines.leaves_time_after(run, 0):
            run.status, run.error = "failed", record
            return False
        run.done |= step.bit
        run.outputs[step.position] = fresh(step.on_failure.default) if isinstance(step.on_failure, DefaultOnFailure) else None
        return True

    def settle_queued(self, run: ItemRun) -> None:
        """Settle an item whose deadline passed while it waited for a lane."""
        step = next(step for step in self.policy.plan.stages[run.stage].steps if not run.done & step.bit)
        began = self._clock()
        self.settle_failure(run, step, self._deadlines.timeout(run, step, began), began, None)

    def result(self, run: ItemRun) -> ItemResult:
        """The result of an item that has ended."""
        plan, output = self.policy.plan, None
        status, error = run.status, run.error
        if status is None and plan.output_nodes and run.skipped & plan.output_nodes == plan.output_nodes:
            status = "skipped"
        elif status is None:
            try:
                output = plan.output(run)
                output = encode(output) if plan.output_check is None else plan.output_check(output)
                status = "completed"
            except BaseException as problem:  # values of users may run code of theirs when they are written down
                if is_abort(problem):
                    raise
                status, error = "failed", error_record(problem, None)
        if status == "failed" and not self._full:
            self._keep_outputs(run)
        if status != "failed":
            error = None  # another node may have failed before a rule stopped the execution
        if not run.has_begun:
            return ItemResult(run.source, status, None, None, 0, None, 0.0, ())
        started, duration = self._times(run.started, self._clock())
        return ItemResult(run.source, status, output, error, run.attempts, started, duration, run.records)

    def _begins(self, run: ItemRun, step: Step, lane: Watched) -> bool:
        lane.began = self._clock()  # a condition can hang, too
        lane.step = step
        if step.conditional and self.is_skipped(run, step):
            return False
        run.call_key = self._call_key(run, step) if step.sends_call_key else None
        return True

    def _settle(
        self, run: ItemRun, step: Step, value: object, times: tuple[float, float], written: tuple[bytes | None, bytes | None]
    ) -> None:
        run.outputs[step.position] = value
        run.done |= step.bit
        if self._records:
            started, duration = self._times(*times)
            run.records.append((step.position, "completed", run.attempt_of(step.position), started, duration, *written, None, run.call_key))

    def _send_back(self, run: ItemRun, step: Step, history: CallHistory, wait_seconds: float, *, throttle: bool) -> None:
        if throttle:
            run.excluded += wait_seconds
            history = history._replace(throttled=history.throttled + 1, throttled_seconds=history.throttled_seconds + wait_seconds)
        else:
            run.attempts += 1
        run.calls = {**(run.calls or {}), step.position: history}
        run.wait_seconds = max(wait_seconds, run.wait_seconds or 0.0)

    def _times(self, began: float, ended: float) -> tuple[int, float]:
        return int((began + self._epoch) * 1e6), (ended - began) * 1e3

    def _call_key(self, run: ItemRun, step: Step) -> str:
        name = f"{self.policy.execution_id}/{run.source.item_index}/{step.id}/0/0"
        return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()

    def _keep_outputs(self, run: ItemRun) -> None:
        """Failed rows keep the outputs their nodes had, whatever is recorded otherwise."""
        kept = {record[0]: record for record in run.records}
        for step in self.policy.plan.steps:
            if run.done & step.bit and not run.skipped & step.bit:
                record = kept.get(step.position, (step.position, "completed", 1, None, 0.0, None, None, None, None))
                try:
                    written = encode(run.outputs[step.position])
                except BaseException as problem:  # what a value is made of may run code of users, too
                    if is_abort(problem):
                        raise
                    continue
                kept[step.position] = (*record[:6], written, *record[7:])
        run.records = list(kept.values())


def _stretch(stage: Stage) -> list[tuple[Step, int, int, Render, Callable[[Scope], Any], bool]]:
    """What the fast path needs of each step; the last one says that the step always runs and no call key is about."""
    has_keys = any(step.sends_call_key for step in stage.steps)
    return [(step, step.position, step.bit, step.inputs, step.call, not (step.conditional or has_keys)) for step in stage.steps]


def _is_for_us(error: BaseException) -> bool:
    """Whether an exception ends the task, not the call: it comes from us, not from the code of a node that raised it on its own."""
    if isinstance(error, asyncio.CancelledError):
        return is_cancelled()
    return is_abort(error) or isinstance(error, GeneratorExit)
