"""What lanes do with items: running their stretches, and giving up those whose calls hang."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from batchrun.core.items import ItemResult
from batchrun.core.protocols import Rows
from batchrun.engine.calls import Calls
from batchrun.engine.deadlines import Deadlines
from batchrun.engine.item_run import Finished, ItemRun, run_maker
from batchrun.engine.lane import Lane, LaneHooks
from batchrun.engine.settling import Settling
from batchrun.workflows.plan import Step


class LaneWork:
    """Runs the stretches of items in lanes.

    Args:
        calls: makes the calls.
        settling: settles what comes of them.
        on_abandoned: told what goes on in place of an item whose lane was abandoned, and in which node; on the event loop.
        pack: see `EngineSettings`.

    Attributes:
        is_stopping: nothing may begin any more.
        on_finished: takes what came out of chunks; on the event loop.
    """

    def __init__(
        self,
        calls: Calls,
        settling: Settling,
        on_abandoned: Callable[[ItemRun, Step], None],
        pack: Callable[[Sequence[ItemResult]], Rows | None],
    ) -> None:
        self._calls = calls
        self._settling = settling
        self._deadlines: Deadlines = settling.policy.deadlines
        self._clock = self._deadlines.clock
        self._run_stretch = calls.run_stretch
        self._result = settling.result
        self._on_abandoned = on_abandoned
        self._pack = pack
        self.is_stopping = False
        self.on_finished: Callable[[Finished], None] = lambda _finished: None

    @property
    def hooks(self) -> LaneHooks:
        """What lanes call."""
        return LaneHooks(
            begin=run_maker(len(self._settling.policy.plan.steps)),
            work=self._work,
            pack=self._pack,
            finished=self._chunk_finished,
            is_late=self._is_late,
            abandoned=self._abandoned,
            clock=self._deadlines.clock,
            given_up=self._on_abandoned,
        )

    def _work(self, run: ItemRun, lane: Lane) -> ItemResult | None:
        """In a lane thread: run the item's stretch, and finish it when that was all."""
        is_new, ended = run.started < 0, None
        if self.is_stopping and (self._calls.is_over or is_new):
            run.status = "cancelled"
        elif is_new:
            run.started = now = self._clock()
            ended = self._run_stretch(run, lane, now)
        elif self._deadlines.leaves_time_after(run, 0):
            ended = self._run_stretch(run, lane, self._clock())
        else:
            self._settling.settle_queued(run)
        if run.waiter is None and run.wait_seconds is None and not lane.abandoned:
            return self._result(run, ended)
        return None

    def _chunk_finished(self, chunk: Finished) -> None:
        """Items without a result either wait, or their lane was abandoned when they had just ended."""
        if chunk.waiting:
            ended = [self._settling.result(run) for run in chunk.waiting if run.wait_seconds is None]
            waiting = [run for run in chunk.waiting if run.wait_seconds is not None]
            statuses = Counter(chunk.statuses) + Counter(result.status for result in ended)
            chunk = chunk._replace(results=chunk.results + ended, statuses=statuses, waiting=waiting)
        self.on_finished(chunk)

    def _is_late(self, run: ItemRun, step: Step | None, began: float) -> bool:
        return self._calls.is_over or self._deadlines.is_late(run, step, began)

    def _abandoned(self, run: ItemRun, step: Step | None, began: float) -> ItemRun:
        """Settle an item whose call is past its deadline; the thread keeps the old one and can do it no harm."""
        successor = run.successor = run.fork()
        if not successor.goes_on:  # its call failed at the last moment
            return successor
        if step is None or self._calls.is_over:  # without a step, it was taken away before the first call of its lane
            successor.status = "cancelled"
            return successor
        undone = 0
        for each in self._settling.policy.plan.stages[successor.stage].steps:  # the call may have ended since, and nodes after it begun
            if each is step or each.upstream & undone:
                successor.undo(each)
                undone |= each.bit
        self._settling.settle_failure(successor, step, self._deadlines.timeout(successor, step, began), began, None)
        self._on_abandoned(successor, step)
        return successor
