"""Lane threads: where functions run that do not wait.

A plain function may block or hang, so none runs on the event loop. Handing items over one by one would cost more than
most functions do, so lanes take them from a common queue and hand over what has ended in chunks of about 5 ms of work, or
of 20 ms as rows of the result: where items take microseconds, whatever looks at one in another thread costs as much as they do.
Lanes are added while work is queued and the processor is not busy, that is, while calls block. A call that runs past its
deadline cannot be stopped: its lane is abandoned, and its item fails.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from threading import Thread

from batchrun.core.items import ItemResult, ItemStatus
from batchrun.core.protocols import Rows
from batchrun.engine.hints import ProcessHint
from batchrun.engine.item_run import Finished, ItemRun
from batchrun.engine.lane import Lane, LaneHooks, LaneQueue, LaneSlots, Queued, QueuedItems, drained
from batchrun.workflows.plan import Step

_CHUNK_SECONDS = 0.005
_SHORT_SECONDS, _LONG_CHUNK_SECONDS = 0.0001, 0.02  # items that take less are handed over so many at a time that they become rows first
_LARGEST_CHUNK = 1024
_TICK_SECONDS = 0.01
_STUCK_SECONDS = 0.02
_OVERDUE_SECONDS = 0.06  # a chunk takes longer where others use the processor, too; taken out early, it becomes rows elsewhere
_HUNG_SECONDS = 0.2
_BUSY_PROCESSOR_RATIO = 0.8
_BLOCKING_SECONDS = 0.0002
_LATE_SECONDS = 0.001
_WAITING_RATIO = 0.05


class LanePool:
    """The lanes of one execution. All methods are called on the event loop."""

    def __init__(self, max_lanes: int, hooks: LaneHooks, hint: ProcessHint | None = None, slots: LaneSlots | None = None) -> None:
        self._max_lanes = max_lanes
        self._hooks = hooks
        self._hint = hint
        self._slots = slots
        self._loop = asyncio.get_running_loop()
        self._lanes: list[Lane] = []
        self._queue = LaneQueue()
        self._item_seconds = _CHUNK_SECONDS
        self._ticking: asyncio.TimerHandle | None = None
        self._late_seconds = 0.0  # how late ticks come, on average
        self._measured = (0.0, 0.0)
        self._started = 0
        self._notified = -math.inf
        self._abandoned: list[Thread] = []

    @property
    def abandoned_count(self) -> int:
        """Threads of abandoned calls that have still not come back."""
        self._abandoned = [thread for thread in self._abandoned if thread.is_alive()]
        return len(self._abandoned)

    @property
    def is_busy(self) -> bool:
        """Whether anything is queued or at work; abandoned calls do not count."""
        return bool(self._queue) or any(not lane.is_idle for lane in self._lanes)

    @property
    def current(self) -> list[ItemRun]:
        """The items that lanes are working on; some may end at any moment."""
        return [run for lane in self._lanes for run in lane.current[:]]

    def resize(self, max_lanes: int) -> None:
        """Allow more or fewer lanes. Of those that are too many, each ends after the call that it is in."""
        self._max_lanes = max_lanes
        self._lanes.sort(key=lambda lane: lane.is_idle)  # those at work stay, so that never more work than before
        for position, lane in enumerate(self._lanes):
            lane.is_surplus = position >= max_lanes
        self._dismiss()
        if self._queue:
            self._start(max_lanes)

    def submit(self, items: QueuedItems) -> None:
        """Queue items that have not begun; `hooks.finished` gets them when they are done. Uses the list up."""
        if items:
            count = len(items)
            items.reverse()
            self._queue.fresh.append(items)
            self._start(-(-count // self._queue.chunk))

    def _start(self, count: int) -> None:
        """Wake so many lanes, or as many as there are."""
        for lane in self._lanes[: self._max_lanes]:
            count -= lane.wake()
            if count <= 0:
                break
        if not self._lanes:
            self._add_lanes(1)
        if self._ticking is None:
            self._measured = (time.monotonic(), time.process_time())
            self._tick_later()

    def _tick_later(self) -> None:
        self._ticking = self._loop.call_later(_TICK_SECONDS, self._tick, self._loop.time() + _TICK_SECONDS)

    async def run(self, run: ItemRun) -> ItemRun:
        """Queue one item and wait until it is done. Returns what goes on in its place: the item itself unless it was abandoned."""
        waiter: asyncio.Future[ItemRun] = self._loop.create_future()
        run.waiter = waiter
        self._queue.returning.append(run)
        self._start(1)
        try:
            return await waiter
        except asyncio.CancelledError:
            self._give_up(run)
            raise

    def withdraw(self) -> list[Queued]:
        """Take back the items that have not begun."""
        return self._queue.withdraw()

    def abandon_all(self) -> None:
        """Take every item away from its lane, as if it were past its deadline."""
        for lane in list(self._lanes):
            self._abandon(lane, lane.current, lane.step, lane.began)

    def close(self) -> None:
        """End the threads. Stuck ones stay behind; they are daemons."""
        if self._ticking is not None:
            self._ticking.cancel()
        for lane in self._lanes:
            lane.close()

    def _add_lanes(self, count: int) -> None:
        for _ in range(min(count, self._max_lanes - len(self._lanes))):
            self._started += 1
            slot = self._slots.take() if self._slots is not None else None
            self._lanes.append(Lane(f"batchrun-lane-{self._started}", self._queue, self._hooks, self._notify, slot))

    def _dismiss(self) -> None:
        """End lanes that are too many and have nothing to do."""
        for lane in self._lanes[self._max_lanes :]:
            if lane.is_idle:
                lane.close()
                self._lanes.remove(lane)

    def _notify(self, lane: Lane, patience_seconds: float) -> None:
        """In a lane thread: have the event loop collect what is finished; not at once if it was told a short while ago.

        What it is not told of it collects with the next tick at the latest.
        """
        now = self._hooks.clock()
        if now - self._notified >= patience_seconds:
            self._notified = now
            try:
                self._loop.call_soon_threadsafe(self._collect_done)
            except RuntimeError:  # the loop is closed: the execution ended without this lane
                lane.abandoned = True

    def _collect_done(self) -> None:
        self._collect(dict.fromkeys(drained(self._queue.done)))

    def _collect(self, lanes: Iterable[Lane], *, everything: bool = False) -> None:
        results, statuses, waiting, rows = list[ItemResult](), Counter[ItemStatus](), list[ItemRun](), list[Rows]()
        for lane in lanes:
            for chunk in lane.collect(everything=everything):
                self._adapt(lane.item_seconds)
                results += chunk.results
                rows += chunk.rows
                statuses.update(chunk.statuses)
                for run in chunk.waiting:
                    if run.waiter is None:
                        waiting.append(run)
                    else:
                        _tell(run)
        if results or waiting or rows:
            self._hooks.finished(Finished(results, statuses, waiting, rows))

    def _adapt(self, item_seconds: float) -> None:
        self._item_seconds += 0.3 * (item_seconds - self._item_seconds)
        item_seconds = max(self._item_seconds, 1e-9)
        seconds = _LONG_CHUNK_SECONDS if item_seconds < _SHORT_SECONDS else _CHUNK_SECONDS
        self._queue.chunk = max(1, min(_LARGEST_CHUNK, int(seconds / item_seconds)))

    def _tick(self, due: float) -> None:
        self._late_seconds += 0.3 * (self._loop.time() - due - self._late_seconds)
        self._collect_done()
        now = self._hooks.clock()
        ages: list[float] = []
        for lane in list(self._lanes):
            current = lane.current
            runs = current[:]  # the lane may take its item out, or go on to its next call, at any moment
            step, began = lane.step, lane.began
            ages.append(now - began if runs else 0.0)
            if ages[-1] > _STUCK_SECONDS and self._hooks.is_late(runs[0], step, began):
                self._abandon(lane, current, step, began)
            is_overdue = ages[-1] > _STUCK_SECONDS or now - lane.chunk_began > _OVERDUE_SECONDS
            if is_overdue and (count := len(lane.finished) + len(lane.left)):
                lane.item_seconds = (now - lane.chunk_began) / count
                self._collect([lane], everything=True)
        self._dismiss()
        if self._queue and not self._lanes:
            self._add_lanes(1)
        self._grow(min(ages, default=0.0))
        if self.is_busy:
            self._tick_later()
        else:
            self._ticking = None

    def _grow(self, stuck_seconds: float) -> None:
        """Add lanes while calls block: work is queued, no lane is free, and the processor is not busy.

        Calls that take microseconds do not block. They may wait for the interpreter or the processor, and so does the event loop,
        which comes late then: more lanes would only get in their way. Calls that need next to no processor time wait for something else.

        Args:
            stuck_seconds: how long all lanes have been in the calls that they are in.
        """
        wall, processor = time.monotonic(), time.process_time()
        seconds = max(wall - self._measured[0], 1e-9)
        use = (processor - self._measured[1]) / seconds
        self._measured = (wall, processor)
        if self._hint is not None and not self._abandoned:
            self._hint.saw(seconds, use, self._item_seconds, [lane.step for lane in self._lanes if lane.step and lane.current])
        if not self._queue or any(lane.is_waiting for lane in self._lanes[: self._max_lanes]):
            return
        if use - self.abandoned_count > _BUSY_PROCESSOR_RATIO:  # what an abandoned call burns must not hold up the others
            return
        are_busy = not self._abandoned and any(lane.busy_ratio > _WAITING_RATIO for lane in self._lanes)
        is_late = are_busy and self._late_seconds > _LATE_SECONDS
        if stuck_seconds > (_HUNG_SECONDS if is_late else _STUCK_SECONDS) or (self._item_seconds > _BLOCKING_SECONDS and not is_late):
            self._add_lanes(max(1, len(self._lanes)))

    def _give_up(self, run: ItemRun) -> None:
        """Nobody waits for an item any more: it must not begin, and a lane that is in a call of it is left to itself."""
        while run.successor is not None:
            run = run.successor
        with suppress(ValueError):
            self._queue.returning.remove(run)
        for lane in list(self._lanes):
            if lane.leave(run):
                self._dispose(lane)
                if lane.step is not None:
                    self._hooks.given_up(run, lane.step)
        if self._queue:
            self._start(1)

    def _dispose(self, lane: Lane) -> None:
        lane.abandoned = True
        self._lanes.remove(lane)
        self._collect([lane], everything=True)
        self._abandoned.append(lane.thread)

    def _abandon(self, lane: Lane, current: list[ItemRun], step: Step | None, began: float) -> None:
        try:
            run = current.pop()
        except IndexError:  # it ended at the last moment
            return
        self._dispose(lane)
        waiter, run.waiter = run.waiter, None
        successor = self._hooks.abandoned(run, step, began)
        successor.waiter = waiter
        if successor.goes_on:
            self._queue.returning.append(successor)
            self._start(1)
        elif waiter is None:
            self._hooks.finished(Finished([], {}, [successor]))
        else:
            _tell(successor)


def _tell(run: ItemRun) -> None:
    waiter, run.waiter = run.waiter, None
    if waiter is not None and not waiter.done():
        waiter.set_result(run)
