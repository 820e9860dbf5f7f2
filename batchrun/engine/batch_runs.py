"""Items of a plan that is one node whose calls are made for many of them: none needs a task, or a future, of its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

from batchrun.core.items import Item
from batchrun.engine.attempt import SharedAttempt
from batchrun.engine.batcher import Batcher
from batchrun.engine.failures import is_abort
from batchrun.engine.item_run import Finished, ItemRun
from batchrun.engine.members import Member
from batchrun.engine.open_items import OpenItems
from batchrun.engine.settling import Settling
from batchrun.workflows.encoding import bounded, encode


class BatchRuns:
    """Runs items through such a plan, in chunks. All methods are called on the event loop.

    Args:
        batcher: makes the calls.
        settling: takes what comes of them.
        open_items: is told of the items.
        run_of: makes the run of an item.

    Attributes:
        on_finished: takes items that have ended, and those that must wait before they are tried again.
    """

    def __init__(self, batcher: Batcher, settling: Settling, open_items: OpenItems, run_of: Callable[[Item], ItemRun]) -> None:
        self._batcher = batcher
        self._settling = settling
        self._step = batcher.step
        self._deadlines = settling.policy.deadlines
        self._full = settling.policy.recording == "full"
        self._records = settling.policy.recording != "none"
        self._epoch = settling.epoch
        self._open = open_items
        self._run_of = run_of
        self._loop = asyncio.get_running_loop()
        self._fresh: list[ItemRun] = []
        self.on_finished: Callable[[Finished], None] = lambda _finished: None

    def submit(self, items: Iterable[Item]) -> None:
        """Have items join those that wait to be called."""
        now, joined_at, members = self._deadlines.clock(), self._loop.time(), []
        for run in map(self._run_of, items):
            self._open.add(run)
            if run.started < 0:
                run.started = now  # also where nothing is left to be called: an item that never began has no output
            if run.done & self._step.bit or run.wait_seconds is not None:  # an earlier run has come so far
                self._end(run)
                continue
            if (member := self._joining(run, joined_at)) is not None:
                members.append(member)
        self._batcher.join(members)

    def abandon_all(self) -> None:
        """Let items end as cancelled, whether their calls return or not."""
        for member in [member for member in self._batcher.members if member.on_answer == self._answered]:
            member.is_done = True
            self._batcher.leave(member)
            member.scope.status, member.scope.error = "cancelled", None
            self._end(member.scope)

    def _joining(self, run: ItemRun, at: float) -> Member | None:
        attempt = run.sharing = SharedAttempt(run, self._step, self._deadlines)
        recorded = None
        try:
            run.inputs = self._step.inputs(run)
            if self._full:
                recorded = encode(run.inputs)
        except BaseException as error:  # values of users may run code of theirs
            if is_abort(error):
                raise
            self._settling.settle_failure(run, self._step, error, attempt.began, recorded, attempt)
            self._end(run)
            return None
        return Member(run, at, self._answered, recorded)

    def _answered(self, member: Member) -> None:
        run, step, attempt, recorded, error = member.scope, self._step, member.attempt, member.recorded, member.error
        if error is None:
            try:
                written = bounded(encode(member.output), step.max_output_bytes) if self._full else None
                run.outputs[0] = member.output
                run.done |= step.bit
                if self._records:
                    began, ended = attempt.began, attempt.ended or self._deadlines.clock()
                    attempts = 1 if run.calls is None and not run.earlier else run.attempt_of(0)
                    at, duration = int((began + self._epoch) * 1e6), (ended - began) * 1e3
                    run.records.append((0, "completed", attempts, at, duration, recorded, written, None, None, None, False))
            except BaseException as problem:  # as above
                if is_abort(problem):
                    raise
                error = problem
        if error is not None:
            self._settling.settle_failure(run, step, error, attempt.began, recorded, attempt)
        self._end(run)

    def _end(self, run: ItemRun) -> None:
        """For now: the items of a call are handed over together."""
        run.sharing = None  # else item and attempt would keep one another alive
        self._open.remove(run)
        self._fresh.append(run)
        if len(self._fresh) == 1:
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        runs, self._fresh = self._fresh, []
        results = [self._settling.result(run) for run in runs if run.wait_seconds is None or run.status is not None]
        waiting = [run for run in runs if run.wait_seconds is not None and run.status is None]
        self.on_finished(Finished(results, Counter(result.status for result in results), waiting))
