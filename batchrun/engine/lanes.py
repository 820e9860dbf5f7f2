"""Lane threads: where functions run that do not wait.

A plain function may block or hang, so none runs on the event loop. Handing items over one by one would cost more than
most functions do, so a lane takes a chunk of about 5 ms of work at a time. Lanes are added while work is queued and
the processor is not busy, that is, while calls block. A call that runs past its deadline cannot be stopped: its lane
is abandoned, its item fails, and what was queued behind it moves to other lanes.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from threading import Thread

from batchrun.engine.hints import ProcessHint
from batchrun.engine.item_run import ItemRun
from batchrun.engine.lane import Lane, LaneHooks, LaneSlots
from batchrun.workflows.plan import Step

_CHUNK_SECONDS = 0.005
_LARGEST_CHUNK = 256
_TICK_SECONDS = 0.01
_STUCK_SECONDS = 0.02
_BUSY_PROCESSOR_RATIO = 0.8
_BLOCKING_SECONDS = 0.0002


class LanePool:
    """The lanes of one execution. All methods are called on the event loop."""

    def __init__(self, max_lanes: int, hooks: LaneHooks, hint: ProcessHint | None = None, slots: LaneSlots | None = None) -> None:
        self._max_lanes = max_lanes
        self._hooks = hooks
        self._hint = hint
        self._slots = slots
        self._loop = asyncio.get_running_loop()
        self._lanes: list[Lane] = []
        self._pending: deque[ItemRun] = deque()  # items that have not begun
        self._returning: deque[ItemRun] = deque()  # items that have: they go first
        self._chunk = 1
        self._item_seconds = _CHUNK_SECONDS
        self._ticking: asyncio.TimerHandle | None = None
        self._measured = (0.0, 0.0)
        self._started = 0
        self._abandoned: list[Thread] = []

    @property
    def abandoned_count(self) -> int:
        """Threads of abandoned calls that have still not come back."""
        self._abandoned = [thread for thread in self._abandoned if thread.is_alive()]
        return len(self._abandoned)

    @property
    def is_busy(self) -> bool:
        """Whether anything is queued or at work; abandoned calls do not count."""
        return bool(self._pending or self._returning or any(not lane.is_idle for lane in self._lanes))

    @property
    def current(self) -> list[ItemRun]:
        """The items that lanes are working on; some may end at any moment."""
        return [run for lane in self._lanes for run in lane.current[:]]

    def resize(self, max_lanes: int) -> None:
        """Allow more or fewer lanes. Of those that are too many, each ends after the call that it is in."""
        self._max_lanes = max_lanes
        self._lanes.sort(key=lambda lane: lane.is_idle)  # those at work stay, so that never more work than before
        for lane in self._lanes[max_lanes:]:
            self._put_back(lane.take_back())
        self._dismiss()
        if self._pending or self._returning:
            self._start()

    def submit(self, runs: Iterable[ItemRun]) -> None:
        """Queue items that have not begun; `hooks.finished` gets them when they are done."""
        self._pending.extend(runs)
        self._start()

    def _start(self) -> None:
        self._assign()
        if self._ticking is None:
            self._measured = (time.monotonic(), time.process_time())
            self._ticking = self._loop.call_later(_TICK_SECONDS, self._tick)

    async def run(self, run: ItemRun) -> ItemRun:
        """Queue one item and wait until it is done. Returns what goes on in its place: the item itself unless it was abandoned."""
        waiter: asyncio.Future[ItemRun] = self._loop.create_future()
        run.waiter = waiter
        self._returning.append(run)
        self._start()
        try:
            return await waiter
        except asyncio.CancelledError:
            self._give_up(run)
            raise

    def withdraw(self) -> list[ItemRun]:
        """Take back the items that have not begun."""
        for lane in self._lanes:
            self._put_back(lane.take_back())
        taken = list(self._pending)
        self._pending.clear()
        self._assign()
        return taken

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

    def _assign(self) -> None:
        chunk = self._chunk
        for lane in self._lanes[: self._max_lanes]:
            if not (self._pending or self._returning):
                return
            if lane.is_stuck:
                continue
            # Short work is queued ahead, so that the lane never runs dry; long work only goes to lanes that are free.
            room = chunk - len(lane.inbox) if chunk > 1 else lane.is_idle
            if room * 2 > chunk:
                lane.chunk = chunk
                lane.give(self._next(room))
        if not self._lanes and (self._pending or self._returning):
            self._add_lanes(1)

    def _next(self, count: int) -> list[ItemRun]:
        pending, returning = self._pending, self._returning
        runs = [returning.popleft() for _ in range(min(count, len(returning)))]
        return runs + [pending.popleft() for _ in range(min(count - len(runs), len(pending)))]

    def _put_back(self, runs: list[ItemRun]) -> None:
        for run in reversed(runs):
            (self._returning if run.has_begun else self._pending).appendleft(run)

    def _add_lanes(self, count: int) -> None:
        for _ in range(min(count, self._max_lanes - len(self._lanes))):
            self._started += 1
            slot = self._slots.take() if self._slots is not None else None
            self._lanes.append(Lane(self._started, self._hooks, self._notify, slot))
        self._assign()

    def _dismiss(self) -> None:
        """End lanes that are too many and have nothing to do."""
        for lane in self._lanes[self._max_lanes :]:
            if lane.is_idle:
                lane.close()
                self._lanes.remove(lane)

    def _notify(self, lane: Lane) -> None:
        """In the lane thread: have the event loop collect what is finished."""
        try:
            self._loop.call_soon_threadsafe(self._collect, lane)
        except RuntimeError:  # the loop is closed: the execution ended without this lane
            lane.abandoned = True

    def _collect(self, lane: Lane) -> None:
        runs = lane.collect()
        if not runs:
            return
        lane.is_stuck = lane.is_stuck and bool(lane.current)
        self._adapt((self._hooks.clock() - lane.chunk_began) / len(runs))
        self._assign()
        chunk = [run for run in runs if run.waiter is None]
        for run in runs if len(chunk) < len(runs) else ():
            if run.waiter is not None:
                _tell(run.waiter, run)
        if chunk:
            self._hooks.finished(chunk)

    def _adapt(self, item_seconds: float) -> None:
        self._item_seconds += 0.3 * (item_seconds - self._item_seconds)
        self._chunk = max(1, min(_LARGEST_CHUNK, int(_CHUNK_SECONDS / max(self._item_seconds, 1e-9))))

    def _tick(self) -> None:
        now = self._hooks.clock()
        for lane in list(self._lanes):
            current = lane.current
            runs = current[:]  # the lane may take its item out, or go on to its next call, at any moment
            step, began = lane.step, lane.began
            lane.is_stuck = bool(runs) and now - began > _STUCK_SECONDS
            if lane.is_stuck:
                self._put_back(lane.take_back())
                if self._hooks.is_late(runs[0], step, began):
                    self._abandon(lane, current, step, began)
            if lane.finished:
                self._collect(lane)
        self._dismiss()
        self._assign()
        self._grow()
        self._ticking = self._loop.call_later(_TICK_SECONDS, self._tick) if self.is_busy else None

    def _grow(self) -> None:
        """Add lanes while calls block: work is queued, no lane is free, and the processor is not busy.

        Calls that take microseconds do not block, they wait for the interpreter: more lanes would only get in their way,
        unless all lanes are stuck in longer ones.
        """
        wall, processor = time.monotonic(), time.process_time()
        seconds = max(wall - self._measured[0], 1e-9)
        use = (processor - self._measured[1]) / seconds
        self._measured = (wall, processor)
        if self._hint is not None and not self._abandoned:
            self._hint.saw(seconds, use, self._item_seconds, [lane.step for lane in self._lanes if lane.step and lane.current])
        if not (self._pending or self._returning) or any(lane.is_idle for lane in self._lanes[: self._max_lanes]):
            return
        if use - self.abandoned_count > _BUSY_PROCESSOR_RATIO:  # what an abandoned call burns must not hold up the others
            return
        if self._item_seconds > _BLOCKING_SECONDS or all(lane.is_stuck for lane in self._lanes):
            self._add_lanes(max(1, len(self._lanes)))

    def _give_up(self, run: ItemRun) -> None:
        """Nobody waits for an item any more: it must not begin, and a lane that is in a call of it is left to itself."""
        while run.successor is not None:
            run = run.successor
        if run in self._returning:
            self._returning.remove(run)
        for lane in list(self._lanes):
            if not lane.withdraw(run) and lane.leave(run):
                self._dispose(lane)
                if lane.step is not None:
                    self._hooks.given_up(run, lane.step)
        self._start()

    def _dispose(self, lane: Lane) -> None:
        lane.abandoned = True
        self._lanes.remove(lane)
        self._put_back(lane.take_back())
        self._collect(lane)
        self._abandoned.append(lane.thread)

    def _abandon(self, lane: Lane, current: list[ItemRun], step: Step | None, began: float) -> None:
        try:
            run = current.pop()
        except IndexError:  # it ended at the last moment
            return
        self._dispose(lane)
        waiter, run.waiter = run.waiter, None
        successor = self._hooks.abandoned(run, step, began)
        if successor.goes_on:
            successor.waiter = waiter
            self._returning.append(successor)
        elif waiter is None:
            self._hooks.finished([successor])
        else:
            _tell(waiter, successor)


def _tell(waiter: asyncio.Future[ItemRun], run: ItemRun) -> None:
    run.waiter = None
    if not waiter.done():
        waiter.set_result(run)
