"""Settling what comes of a call: what becomes of its item, and what is written down about it.

Nothing is raised for an item's failure: it becomes part of the item's state.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from math import floor
from typing import Any

from batchrun.core.errors import NodeError
from batchrun.core.executions import Stop
from batchrun.core.items import ItemResult, ItemStatus, NodeRecord, NodeStatus, Usage
from batchrun.core.job import DefaultOnFailure
from batchrun.engine.attempt import Attempt, SharedError
from batchrun.engine.counting import BudgetUsedUpError
from batchrun.engine.failures import error_record, is_abort, message_of
from batchrun.engine.item_run import ItemRun, new_tuple
from batchrun.engine.keeping import not_waiting, with_outputs
from batchrun.engine.part import PartEnded, PartSentBack
from batchrun.engine.policy import CallPolicy
from batchrun.flow.retry import CallHistory, Decision
from batchrun.workflows.decisions import DecidedElsewhere, NeedsDecision, Rejected, StoppedAtRest
from batchrun.workflows.encoding import bounded, encode
from batchrun.workflows.plan import Step
from batchrun.workflows.scope import Scope
from batchrun.workflows.templates import fresh


class Settling:
    """Settles what comes of the calls of one plan.

    Args:
        policy: how calls are made.
    """

    def __init__(self, policy: CallPolicy) -> None:
        self.policy = policy
        self._deadlines = policy.deadlines
        self._clock = policy.deadlines.clock
        self._full, self._records = policy.recording == "full", policy.recording != "none"
        self._limits = policy.limits
        self._output_of, self._check, self._read = policy.plan.output, policy.plan.output_check, policy.plan.output_nodes
        self._most_bytes = policy.plan.max_output_bytes
        self.epoch = time.time() - self._clock()  # engine clock → seconds since 1970

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
        parts = run.call_parts.get(step.position)
        if parts is not None:
            error = parts.meant(error)
        if isinstance(error, PartSentBack | PartEnded | NeedsDecision | StoppedAtRest | BudgetUsedUpError):
            self._interrupt(run, step, error, began, recorded)
            return False
        run.cache_hit = False  # what was found has not become its output
        ended, chance = (None, random.random) if attempt is None else (attempt.ended, attempt.chance)
        trace = run.left_by(step.position)
        before = (run.calls or {}).get(step.position, CallHistory(0))
        history = before._replace(attempts=before.attempts + 1)
        decision = _decision(step, error, history, chance)
        if parts is not None and parts.record_of(error) is not None:
            decision = Decision("fail")  # the node that raised it has been tried again as its own rules say
        if run.status == "waiting" and decision.action == "fail" and step.on_failure == "stop":
            run.status = None  # the item fails, whatever the person would have said
            run.records = not_waiting(run.records)
        if decision.action == "stop":
            run.status = "waiting" if run.status == "waiting" else "cancelled"
            self.policy.on_stop(Stop("rule", f"node {self.policy.name_of(step)}: {type(error).__name__}: {message_of(error)}"))
        is_throttle = decision.action == "throttle"
        # A call of a batch is given back once, not for each item, and one that has parts was never counted.
        if is_throttle and self._limits is not None and step.batch is None and not step.has_parts:
            self._limits.spending.refund()
        is_retry = decision.action == "retry" and self._deadlines.leaves_time_after(run, decision.wait_seconds)
        if run.status is None and (is_throttle or is_retry):
            run.traces = {**run.traces, step.position: trace}
            run.waits_since = ended
            if is_throttle and isinstance(error, NodeError) and error.outage is not None:
                run.excluded += (ended or self._clock()) - began  # finding out that a service is away may take long, too
            self.policy.tell_sent_back(run, step, error, decision)
            self._send_back(run, step, before if is_throttle else history, decision.wait_seconds, throttle=is_throttle)
            return False
        self._fail(run, step, error, (began, ended or self._clock()), recorded, trace.usage)
        return run.goes_on

    def _interrupt(
        self,
        run: ItemRun,
        step: Step,
        error: PartSentBack | PartEnded | NeedsDecision | StoppedAtRest | BudgetUsedUpError,
        began: float,
        recorded: bytes | None,
    ) -> None:
        """The item cannot go on now, though its node has not failed."""
        match error:
            case PartSentBack(run=part):
                run.wait_seconds, run.waits_since = part.wait_seconds, part.waits_since
            case PartEnded(status=status):
                run.status = run.status or status
                self._take_parts(run, step, is_waiting=run.status == "waiting")
            case NeedsDecision():
                self._wait_for_person(run, step, error, began, recorded)
            case StoppedAtRest():
                run.status = run.status or "cancelled"
            case BudgetUsedUpError():
                run.status = run.status or "cancelled"
                self.policy.on_stop(Stop("budget", str(error)))

    def _fail(
        self, run: ItemRun, step: Step, error: BaseException, times: tuple[float, float], recorded: bytes | None, usage: Usage | None
    ) -> None:
        """A node has failed for good. Its item fails with it unless it may go on, or is stopped anyway."""
        parts = run.call_parts.get(step.position)
        record = (parts.record_of(error) if parts is not None else None) or error_record(error, self.policy.name_of(step))
        self._take_parts(run, step)
        if self._records:
            status: NodeStatus = "failed" if run.status is None else "cancelled"
            attempts = run.attempt_of(step.position)
            run.records.append((step.position, status, attempts, *self._times(*times), recorded, None, record, run.call_key, usage, False))
        if run.status is not None:
            return
        if step.on_failure == "stop" or not self._deadlines.leaves_time_after(run, 0):
            run.status, run.error = "failed", record
            run.fails(error)
            return
        run.fail_with(step, fresh(step.on_failure.default) if isinstance(step.on_failure, DefaultOnFailure) else None)

    def _wait_for_person(self, run: ItemRun, step: Step, asked: NeedsDecision, began: float, recorded: bytes | None) -> bool:
        """The item goes on when somebody has decided; other nodes that run beside this one end first."""
        try:
            written = bounded(encode(asked.shown), step.max_output_bytes)
        except BaseException as problem:  # as in `result`
            if is_abort(problem):
                raise
            return self.settle_failure(run, step, problem, began, recorded)
        usage, checkpoint = run.left_by(step.position)
        self._take_parts(run, step)
        started, duration = self._times(began, self._clock())
        run.status = run.status or "waiting"
        status: NodeStatus = "waiting" if run.status == "waiting" else "cancelled"  # another node has ended the item
        record: NodeRecord = (step.position, status, 0, started, duration, recorded, written, None, None, usage, False)
        if self._records:
            run.records.append(record)
        if status == "waiting" and self.policy.keeper is not None:
            self.policy.keeper.keep_waiting(run, step, record, checkpoint if isinstance(asked, DecidedElsewhere) else None)
        return False

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

    def result(self, run: ItemRun, ended: float | None = None) -> ItemResult:
        """The result of an item that has ended, by the engine clock then; null: now."""
        status, output, error = run.status, None, None
        if status is not None:
            error = run.error if status == "failed" else None  # another node may have failed before a rule stopped the execution
            if status == "cancelled" and run.has_waited:
                status = "waiting"  # it was stopped on its way to the node that waits
        elif run.skipped and (read := self._read) and run.skipped & read == read:
            status = "skipped"
        else:
            try:
                output, status = self._output(run), "completed"
            except BaseException as problem:  # values of users may run code of theirs when they are written down
                if is_abort(problem):
                    raise
                status, error = "failed", error_record(problem, None)  # a value that was refused must not reach the result
        if status not in ("completed", "skipped"):
            self._leave_unfinished(run, status)
        if run.started < 0:
            return ItemResult(run.source, status, None, None, 0, None, 0.0, ())
        at, duration = floor((run.started + self.epoch) * 1e6), ((self._clock() if ended is None else ended) - run.started) * 1e3
        return new_tuple(ItemResult, (run.source, status, output, error, run.attempts, at, duration, run.records))

    def _output(self, run: ItemRun) -> Any:
        output = self._output_of(run)
        if self._check is None:
            last = run.records[-1] if self._full and run.records else None
            # The node that ended last has written it down, and nobody could have changed it since.
            is_written = last is not None and last[1] == "completed" and last[0] >= 0 and run.outputs[last[0]] is output
            return bounded(last[6] if last is not None and is_written and last[6] is not None else encode(output), self._most_bytes)
        output = self._check(output)
        if not self._full:  # else it was measured when its node gave it
            bounded(encode(output), self._most_bytes)
        return output

    def _skip(self, run: ItemRun, step: Step) -> None:
        run.skip(step)
        if self._records:
            run.records.append((step.position, "skipped", 0, None, 0.0, None, None, None, None, None, False))

    def settle(
        self,
        run: ItemRun,
        step: Step,
        value: object,
        scope: Scope,
        times: tuple[float, float],
        written: tuple[bytes | None, bytes | None],
    ) -> None:
        """A call that waits has ended well.

        Args:
            run: the item.
            step: the node.
            value: what it gave.
            scope: what it saw.
            times: when it began and ended.
            written: its inputs and output, as JSON.
        """
        usage, is_hit = self.leave(run, step, value, scope)
        if self._records:
            attempts = run.attempt_of(step.position) - is_hit  # which was no call
            run.records.append((step.position, "completed", attempts, *self._times(*times), *written, None, run.call_key, usage, is_hit))

    def _leave_unfinished(self, run: ItemRun, status: ItemStatus) -> None:
        """The item has ended before all that it was to do: keep what has ended."""
        for step in self.policy.plan.steps if run.call_parts else ():
            self._take_parts(run, step, is_waiting=status == "waiting")
        if self.policy.keeper is not None:
            self.policy.keeper.keep([run])
        if status == "failed" and not self._full:
            run.records = with_outputs(run, self.policy.plan.steps)

    def _take_parts(self, run: ItemRun, step: Step, *, is_waiting: bool = False) -> None:
        """A call with parts is over for good: write down what these did."""
        if step.has_parts and step.position in run.call_parts:
            is_kept = not run.done & step.bit
            is_shown = self._records or is_kept
            records = run.call_parts[step.position].end(is_kept=is_kept, is_waiting=is_waiting, has_outputs=is_shown and not self._full)
            if is_shown:
                run.records += records
            run.parts = None  # they and the run would keep one another alive
            run.call_parts = {position: parts for position, parts in run.call_parts.items() if position != step.position}

    def leave(self, run: ItemRun, step: Step, value: object, scope: Scope) -> tuple[Usage | None, bool]:
        """A call has ended well. Returns what it used, and whether its output came from the cache."""
        run.end_with(step, value)
        is_hit, scope.cache_hit = scope.cache_hit, False
        self._take_parts(run, step)
        return run.left_by(step.position).usage, is_hit

    def _send_back(self, run: ItemRun, step: Step, history: CallHistory, wait_seconds: float, *, throttle: bool) -> None:
        if throttle:
            run.excluded += wait_seconds
            history = history._replace(throttled=history.throttled + 1, throttled_seconds=history.throttled_seconds + wait_seconds)
        else:
            run.attempts += 1
        if step.position in run.call_parts:
            run.call_parts[step.position].forget_failures()
        run.calls = {**(run.calls or {}), step.position: history}
        run.wait_seconds = max(wait_seconds, run.wait_seconds or 0.0)
        keeper = self.policy.keeper
        if keeper is not None and throttle:
            keeper.keep([run])
        elif keeper is not None:
            keeper.keep_attempts(run, step)

    def _times(self, began: float, ended: float) -> tuple[int, float]:
        return floor((began + self.epoch) * 1e6), (ended - began) * 1e3


def _decision(step: Step, error: BaseException, history: CallHistory, chance: Callable[[], float]) -> Decision:
    try:
        decision = step.retry.decide(error, history, chance)
        is_final = isinstance(error, Rejected) and decision.action != "stop"  # whoever said so is not asked again
        return Decision("fail") if is_final else decision
    except BaseException as second:  # an attribute of the user's exception that raises when it is read
        if is_abort(second):
            raise
        return Decision("fail")
