"""Calling nodes: the only place where code of users runs, and where anything it raises is caught."""

from __future__ import annotations

import types
from collections.abc import Callable, Generator, Sequence
from math import floor, inf
from typing import Any, Protocol

from batchrun.engine.attempt import LATE, Attempt, SharedAttempt, going_on, is_for_us, stoppable
from batchrun.engine.item_run import ItemRun
from batchrun.engine.settling import Settling
from batchrun.flow.reach import Reach
from batchrun.workflows.encoding import CUT, OPTIONS, bounded, dumps, encode, encode_other, encode_slowly
from batchrun.workflows.node import Render
from batchrun.workflows.plan import Stage, Step
from batchrun.workflows.scope import Scope


class Watched(Protocol):
    """A lane, as far as a call is concerned: what it shows to the watchdog."""

    step: Step | None
    began: float
    abandoned: bool


class Unwatched:
    """A lane that nobody watches: what it calls is part of a call that is watched."""

    step: Step | None = None
    began = 0.0
    abandoned = False


class Calls:
    """Calls the nodes of one plan.

    Args:
        settling: takes what comes of it.

    Attributes:
        is_over: nothing may go on any more.
        stretches: by stage, what each of its nodes needs to be called.
        walks: by stage, what `walk` does from there on; empty where it is not the way to run the stage.
    """

    def __init__(self, settling: Settling) -> None:
        self.policy = policy = settling.policy
        self.is_over = False
        self._settling = settling
        self._deadlines = policy.deadlines
        self._clock = policy.deadlines.clock
        self._full = policy.recording == "full"
        self._records = policy.recording != "none"
        self._callables = policy.callables()
        self.stretches = [_stretch(stage, self._callables) for stage in policy.plan.stages]
        self.walks = [_walk(policy.plan.stages[at:], self._callables) for at in range(len(policy.plan.stages))]
        self._epoch = settling.epoch
        self._item_seconds = inf if policy.deadlines.item_timeout_seconds is None else policy.deadlines.item_timeout_seconds

    def run_stretch(self, run: ItemRun, lane: Watched, now: float) -> float | None:  # noqa: C901, PLR0912 - calls cost more than branches
        """Run the nodes of the item's stage, which do not wait, one after another, in a lane thread.

        This loop is the fast path: a million items of three nodes go through it three million times.

        Args:
            run: the item.
            lane: what shows the call to the watchdog.
            now: engine clock: each node begins when the one before has ended, and the clock need not be read twice.

        Returns:
            when the last node ended; null: the item does not go on.
        """
        clock, full, keep, epoch = self._clock, self._full, self._records, self._epoch
        outputs, records, calls, done = run.outputs, run.records, run.calls, run.done
        recorded = written = None
        for step, position, bit, bind, call, is_plain, most in self.stretches[run.stage]:
            if done & bit or not (is_plain or self._begins(run, step, lane)):
                if not run.goes_on:
                    return None
                continue
            lane.began = began = now if is_plain else clock()  # before `step`: the watchdog reads the two the other way round
            lane.step = step
            try:
                recorded = None
                run.inputs = inputs = bind(run)
                if full:
                    # Written down at once: the function may change its arguments, and its output may be changed later.
                    try:  # as `encode` does, without its call
                        recorded = dumps(inputs, encode_other, OPTIONS)[CUT]
                    except TypeError:
                        recorded = encode_slowly(inputs)
                value = call(run)
                if full:
                    try:
                        written = dumps(value, encode_other, OPTIONS)[CUT]
                    except TypeError:
                        written = encode_slowly(value)
                    if len(written) > most:
                        bounded(written, most)
            except BaseException as error:
                if lane.abandoned or not self._settling.settle_failure(run, step, error, began, recorded):
                    return None
                now = clock()
                continue
            if lane.abandoned:
                return None
            if not is_plain:
                self._settling.settle(run, step, value, run, (began, clock()), (recorded, written))
                now = clock()
                continue
            outputs[position] = value
            run.done |= bit
            now = clock()
            if keep:
                attempts = 1 if calls is None else run.attempt_of(position)
                at, duration = floor((began + epoch) * 1e6), (now - began) * 1e3
                records.append((position, "completed", attempts, at, duration, recorded, written, None, None, None, False))
        return now

    @types.coroutine  # which is woken up through one frame less than what is async would be
    def walk(self, run: ItemRun, reach: Reach) -> Generator[Any, Any, ItemRun]:  # noqa: C901, PLR0912 - as above
        """Run plain nodes that wait, each the only one of its stage, one after another on the event loop, as a lane does a stretch.

        A call gets what it takes to end it at its deadline when it waits for the first time, and most of what is async need not wait.
        """
        clock, full, keep, epoch = self._clock, self._full, self._records, self._epoch
        outputs, records, ended = run.outputs, run.records, clock()
        for stage, (step, position, bit, bind, call, seconds, most) in enumerate(self.walks[run.stage], run.stage):
            run.stage = stage
            if run.done & bit:
                continue
            recorded, written, began = None, None, ended
            try:
                run.inputs = inputs = bind(run)
                recorded = encode(inputs) if full else None
                making = call(run)
                try:
                    awaited = making.send(None)
                    reach.arm_until(min(began + seconds, run.started + run.excluded + self._item_seconds))
                    while True:  # as `going_on` does, without a frame of its own
                        try:
                            sent = yield awaited
                        except BaseException as error:  # what it awaits has failed, or it is cancelled
                            awaited = making.throw(error)
                        else:
                            awaited = making.send(sent)
                            continue
                        value = yield from going_on(making, awaited, self.nothing_goes_on, reach)
                        break
                except StopIteration as end:
                    value = end.value
                    reach.has_ended()
                except BaseException as error:
                    if not reach.has_ended(error):
                        raise
                    value = LATE
                if value is LATE:
                    raise self._deadlines.timeout(run, step, began)  # noqa: TRY301 - it is settled as what the call itself raises
                if full:
                    written = bounded(encode(value), most)
            except BaseException as error:  # as in `call_waiting`
                if is_for_us(error):
                    raise
                if not self._settling.settle_failure(run, step, error, began, recorded):
                    break
                ended = clock()
                continue
            outputs[position], ended = value, clock()
            run.done |= bit
            if keep:
                attempts = 1 if run.calls is None and not run.earlier else run.attempt_of(position)
                at, duration = floor((began + epoch) * 1e6), (ended - began) * 1e3
                records.append((position, "completed", attempts, at, duration, recorded, written, None, None, None, False))
        return run

    async def call_waiting(self, run: ItemRun, step: Step, scope: Scope, reach: Reach | None = None) -> None:
        """Call a node that waits, on the event loop, with a deadline; `reach` is that of the task, null: it has none."""
        if step.batch is not None:
            await self._call_waiting(run, step, scope, SharedAttempt(run, step, self._deadlines))
        elif reach is not None:
            await self._call_waiting(run, step, scope, Attempt(run, step, self._deadlines, reach))
        else:
            with Reach(self._clock) as own:
                await self._call_waiting(run, step, scope, Attempt(run, step, self._deadlines, own))

    async def _call_waiting(self, run: ItemRun, step: Step, scope: Scope, attempt: Attempt) -> None:
        recorded = context = None
        try:
            scope.inputs = step.inputs(scope)
            if self._full:
                recorded = encode(scope.inputs)
            scope.call_key = self.policy.call_key(run, step) if step.sends_call_key else None
            scope.context = context = self.policy.context(run, step) if step.wants_context else None
            scope.sharing = attempt
            if step.has_parts:
                scope.parts = self.policy.parts_of(run, step).begin(scope.slot, attempt.put_off_end)
            if step.queues:
                scope.sending, scope.queued, scope.is_late = attempt.sending, attempt.queued, attempt.is_late
                scope.resting = self.policy.ports.resting
            value = await stoppable(self._callables[step.position](scope), self.nothing_goes_on, attempt.reach)
            run.call_key, run.context = scope.call_key, context
            if value is LATE:
                late, scope.outage = attempt.timeout(scope.outage), None
                self._settling.settle_failure(run, step, late, attempt.began, recorded)
            else:
                written = bounded(encode(value), step.max_output_bytes) if self._full else None
                self._settling.settle(run, step, value, scope, (attempt.began, attempt.ended or self._clock()), (recorded, written))
        except BaseException as error:  # also what Rust extensions raise when they panic
            if is_for_us(error):
                raise
            run.call_key, run.context = scope.call_key, context
            self._settling.settle_failure(run, step, error, attempt.began, recorded, attempt)
        finally:
            attempt.end()
            run.call_key = run.context = scope.context = None
            if context is not None:
                context.end()
            scope.sharing = scope.parts = None  # else item and attempt would keep one another alive
            if step.queues:
                del scope.sending, scope.queued, scope.is_late, scope.resting

    def nothing_goes_on(self) -> bool:
        """Whether nothing may go on any more."""
        return self.is_over

    def _begins(self, run: ItemRun, step: Step, lane: Watched) -> bool:
        lane.began = self._clock()  # a condition can hang, too
        lane.step = step
        if step.conditional and self._settling.is_skipped(run, step):
            return False
        run.call_key = self.policy.call_key(run, step) if step.sends_call_key else None
        run.context = self.policy.context(run, step) if step.wants_context else None
        if step.has_parts:
            run.parts = self.policy.parts_of(run, step).begin(run.slot)
        return True


def _walk(
    stages: Sequence[Stage], callables: list[Callable[[Scope], Any]]
) -> list[tuple[Step, int, int, Render, Callable[[Scope], Any], float, int]]:
    """What `walk` needs of each node that it can run from here on; the last but one is how long a call may take."""
    walked = []
    for stage in stages:
        entry, *others = _stretch(stage, callables)
        step, is_plain = entry[0], entry[5]
        is_own = step.call_waits and step.batch is None and not (step.is_deduped or step.queues or step.asks_person)
        if others or not (stage.waits and is_plain and is_own and step.turn is None):
            break
        walked.append((*entry[:5], inf if step.timeout_seconds is None else step.timeout_seconds, entry[6]))
    return walked


def _stretch(
    stage: Stage, callables: list[Callable[[Scope], Any]]
) -> list[tuple[Step, int, int, Render, Callable[[Scope], Any], bool, int]]:
    """What the fast path needs of each step; the last but one says that it always runs and no call key or context is about."""
    is_plain = not any(step.sends_call_key or step.wants_context or step.has_parts for step in stage.steps)
    plain = {step.position for step in stage.steps if is_plain and not (step.conditional or step.is_cached)}
    return [
        (step, at, step.bit, step.inputs, callables[at], at in plain, step.max_output_bytes)
        for at, step in ((step.position, step) for step in stage.steps)
    ]
