"""Calling nodes: the only place where code of users runs, and where anything it raises is caught.

Whatever happens in here becomes part of the item's state; nothing is raised for an item's failure.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, Protocol

from batchrun.core.executions import Stop
from batchrun.core.items import ItemResult, Usage
from batchrun.core.job import DefaultOnFailure
from batchrun.engine.attempt import Attempt, SharedAttempt, SharedError, is_for_us, stoppable
from batchrun.engine.failures import error_record, is_abort, message_of
from batchrun.engine.item_run import ItemRun
from batchrun.engine.keeping import with_outputs
from batchrun.engine.policy import BudgetUsedUpError, CallPolicy
from batchrun.flow.retry import CallHistory, Decision
from batchrun.workflow.encoding import encode
from batchrun.workflow.node import Render
from batchrun.workflow.plan import Stage, Step
from batchrun.workflow.scope import Scope
from batchrun.workflow.templates import fresh


class Watched(Protocol):
    """A lane, as far as a call is concerned: what it shows to the watchdog."""

    step: Step | None
    began: float
    abandoned: bool


class Calls:
    """Calls the nodes of one plan and settles what comes of it."""

    def __init__(self, policy: CallPolicy) -> None:
        self.policy = policy
        self.is_over = False  # nothing may go on any more
        self._deadlines = policy.deadlines
        self._clock = policy.deadlines.clock
        self._full = policy.recording == "full"
        self._records = policy.recording != "none"
        self._limits = policy.limits
        self._callables = policy.callables()
        self._stretches = [_stretch(stage, self._callables) for stage in policy.plan.stages]
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
            usage, is_hit = (None, False) if is_plain else self._leave(run, step, value, run)
            if keep:
                attempts = (1 if run.calls is None else run.attempt_of(position)) - is_hit
                at, duration = int((began + epoch) * 1e6), (clock() - began) * 1e3
                records.append((position, "completed", attempts, at, duration, recorded, written, None, run.call_key, usage, is_hit))

    async def call_waiting(self, run: ItemRun, step: Step, scope: Scope) -> None:
        """Call a node that waits, on the event loop, with a deadline."""
        recorded = context = None
        attempt = (Attempt if step.batch is None else SharedAttempt)(run, step, self._deadlines)
        try:
            scope.inputs = step.inputs(scope)
            if self._full:
                recorded = encode(scope.inputs)
            scope.call_key = self.policy.call_key(run, step) if step.sends_call_key else None
            scope.context = context = self.policy.context(run, step) if step.wants_context else None
            scope.sharing = attempt
            if step.queues:
                scope.sending = attempt.sending
            with attempt.cancel_scope:
                call = self._callables[step.position](scope)
                value = await stoppable(call, lambda: self.is_over or attempt.cancel_scope.cancel_called)
                written = encode(value) if self._full else None
            run.call_key, run.context = scope.call_key, context
            if attempt.cancel_scope.cancelled_caught:
                self.settle_failure(run, step, attempt.timeout(), attempt.began, recorded)
            else:
                self._settle(run, step, value, scope, (attempt.began, attempt.ended or self._clock()), (recorded, written))
        except BaseException as error:  # also what Rust extensions raise when they panic
            if is_for_us(error):
                raise
            run.call_key, run.context = scope.call_key, context
            self.settle_failure(run, step, error, attempt.began, recorded, attempt)
        finally:
            attempt.end()
            run.call_key = run.context = scope.context = None
            if context is not None:
                context.end()
            scope.sharing = None  # else item and attempt would keep one another alive
            if step.queues:
                del scope.sending

    def is_skipped(self, run: ItemRun, step: Step) -> bool:
        """Decide whether a node runs, and note it when it is skipped. A `when` that fails is a failure of its node."""
        began = self._clock()
        wanted = run.is_on_the_way_to(step)
        if wanted and step.when is not None:
            try:
                wanted = bool(step.when(run))
            except BaseException as error:  # conditions may call methods of users' values
                if is_abort(error):
                    raise
                self.settle_failure(run, step, error, began, None)
                return True
        if not wanted:
            self._skip(run, step)
        return not wanted

    def settle_failure(
        self, run: ItemRun, step: Step, error: BaseException, began: float, recorded: bytes | None, attempt: Attempt | None = None
    ) -> bool:
        """Decide what becomes of an item whose node failed. Returns whether it goes on with its next node."""
        if isinstance(error, SharedError):
            error = error.error
        if isinstance(error, BudgetUsedUpError):
            run.status = run.status or "cancelled"
            self.policy.on_stop(Stop("budget", str(error)))
            return False
        run.cache_hit = False  # what was found has not become its output
        ended, chance = (None, random.random) if attempt is None else (attempt.ended, attempt.chance)
        trace = run.left_by(step.position)
        before = (run.calls or {}).get(step.position, CallHistory(0))
        history = before._replace(attempts=before.attempts + 1)
        decision = _decision(step, error, history, chance)
        if decision.action == "stop":
            run.status = "cancelled"
            self.policy.on_stop(Stop("rule", f"node {step.id}: {type(error).__name__}: {message_of(error)}"))
        is_throttle = decision.action == "throttle"
        if is_throttle and self._limits is not None and step.batch is None:  # else the call is given back once, not for each item
            self._limits.refund()
        is_retry = decision.action == "retry" and self._deadlines.leaves_time_after(run, decision.wait_seconds)
        if run.status is None and (is_throttle or is_retry):
            run.traces = {**run.traces, step.position: trace}
            run.waits_since = ended
            self._send_back(run, step, before if is_throttle else history, decision.wait_seconds, throttle=is_throttle)
            return False
        self._fail(run, step, error, (began, ended or self._clock()), recorded, trace.usage)
        return run.goes_on

    def _fail(
        self, run: ItemRun, step: Step, error: BaseException, times: tuple[float, float], recorded: bytes | None, usage: Usage | None
    ) -> None:
        """A node has failed for good. Its item fails with it unless it may go on, or is stopped anyway."""
        record = error_record(error, step.id)
        if self._records:
            status = "failed" if run.status is None else run.status
            attempts = run.attempt_of(step.position)
            run.records.append((step.position, status, attempts, *self._times(*times), recorded, None, record, run.call_key, usage, False))
        if run.status is not None:
            return
        if step.on_failure == "stop" or not self._deadlines.leaves_time_after(run, 0):
            run.status, run.error = "failed", record
            return
        run.fail_with(step, fresh(step.on_failure.default) if isinstance(step.on_failure, DefaultOnFailure) else None)

    def settle_queued(self, run: ItemRun) -> None:
        """Settle an item whose deadline passed while it waited for a lane."""
        for step in self.policy.plan.stages[run.stage].steps:
            if run.done & step.bit:
                continue
            if run.is_on_the_way_to(step):
                began = self._clock()
                self.settle_failure(run, step, self._deadlines.timeout(run, step, began), began, None)
                return
            self._skip(run, step)

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
                status, error, output = "failed", error_record(problem, None), None  # a value that was refused must not reach the result
        if status not in ("completed", "skipped") and self.policy.keeper is not None:
            self.policy.keeper.keep([run])
        if status == "failed" and not self._full:
            run.records = with_outputs(run, plan.steps)
        if status != "failed":
            error = None  # another node may have failed before a rule stopped the execution
        if not run.has_begun:
            return ItemResult(run.source, status, None, None, 0, None, 0.0, ())
        started, duration = self._times(run.started, self._clock())
        return ItemResult(run.source, status, output, error, run.attempts, started, duration, run.records)

    def _skip(self, run: ItemRun, step: Step) -> None:
        run.skip(step)
        if self._records:
            run.records.append((step.position, "skipped", 0, None, 0.0, None, None, None, None, None, False))

    def _begins(self, run: ItemRun, step: Step, lane: Watched) -> bool:
        lane.began = self._clock()  # a condition can hang, too
        lane.step = step
        if step.conditional and self.is_skipped(run, step):
            return False
        run.call_key = self.policy.call_key(run, step) if step.sends_call_key else None
        run.context = self.policy.context(run, step) if step.wants_context else None
        return True

    def _settle(
        self,
        run: ItemRun,
        step: Step,
        value: object,
        scope: Scope,
        times: tuple[float, float],
        written: tuple[bytes | None, bytes | None],
    ) -> None:
        usage, is_hit = self._leave(run, step, value, scope)
        if self._records:
            attempts = run.attempt_of(step.position) - is_hit  # which was no call
            run.records.append((step.position, "completed", attempts, *self._times(*times), *written, None, run.call_key, usage, is_hit))

    @staticmethod
    def _leave(run: ItemRun, step: Step, value: object, scope: Scope) -> tuple[Usage | None, bool]:
        """A call has ended well. Returns what it used, and whether its output came from the cache."""
        run.end_with(step, value)
        is_hit, scope.cache_hit = scope.cache_hit, False
        return run.left_by(step.position).usage, is_hit

    def _send_back(self, run: ItemRun, step: Step, history: CallHistory, wait_seconds: float, *, throttle: bool) -> None:
        if throttle:
            run.excluded += wait_seconds
            history = history._replace(throttled=history.throttled + 1, throttled_seconds=history.throttled_seconds + wait_seconds)
        else:
            run.attempts += 1
        run.calls = {**(run.calls or {}), step.position: history}
        run.wait_seconds = max(wait_seconds, run.wait_seconds or 0.0)
        keeper = self.policy.keeper
        if keeper is not None and throttle:
            keeper.keep([run])
        elif keeper is not None:
            keeper.keep_attempts(run, step)

    def _times(self, began: float, ended: float) -> tuple[int, float]:
        return int((began + self._epoch) * 1e6), (ended - began) * 1e3


def _decision(step: Step, error: BaseException, history: CallHistory, chance: Callable[[], float]) -> Decision:
    try:
        return step.retry.decide(error, history, chance)
    except BaseException as second:  # an attribute of the user's exception that raises when it is read
        if is_abort(second):
            raise
        return Decision("fail")


def _stretch(stage: Stage, callables: list[Callable[[Scope], Any]]) -> list[tuple[Step, int, int, Render, Callable[[Scope], Any], bool]]:
    """What the fast path needs of each step; the last one says that the step always runs and no call key or context is about."""
    is_plain = not any(step.sends_call_key or step.wants_context for step in stage.steps)
    return [
        (step, step.position, step.bit, step.inputs, callables[step.position], is_plain and not (step.conditional or step.is_cached))
        for step in stage.steps
    ]
