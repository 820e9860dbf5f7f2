"""Lane threads: where functions run that do not wait.

A plain function may block or hang, so none runs on the event loop. Handing items over one by one would cost more than
most functions do, so a lane takes a chunk of about 5 ms of work at a time. Lanes are added while work is queued and
the processor is not busy, that is, while calls block. A call that runs past its deadline cannot be stopped: its lane
is abandoned, its item fails, and what was queued behind it moves to other lanes.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread

from batchrun.engine.item_run import ItemRun
from batchrun.workflow.plan import Step

_CHUNK_SECONDS = 0.005
_LARGEST_CHUNK = 256
_TICK_SECONDS = 0.01
_STUCK_SECONDS = 0.02
_BUSY_PROCESSOR_RATIO = 0.8
_BLOCKING_SECONDS = 0.0002


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneHooks:
    """What the pool calls.

    Attributes:
        work: runs an item's stretch; in the lane thread.
        finished: takes items submitted in chunks, done; on the event loop.
        is_late: whether the call of an item, begun then, is past its deadline.
        abandoned: settles an item whose call was abandoned and gives back what goes on in its place.
        clock: seconds; never goes back.
    """

    work: Callable[[ItemRun, Lane], None]
    finished: Callable[[list[ItemRun]], None]
    is_late: Callable[[ItemRun, Step | None, float], bool]
    abandoned: Callable[[ItemRun, Step | None, float], ItemRun]
    clock: Callable[[], float]


class Lane:
    """One thread and the items queued for it.

    Its deques and lists are shared with the event loop thread: every operation on them is a single atomic one.
    """

    __slots__ = (
        "_hooks",
        "_notify",
        "_wake",
        "abandoned",
        "began",
        "chunk",
        "chunk_began",
        "current",
        "finished",
        "inbox",
        "is_stuck",
        "step",
    )

    def __init__(self, number: int, hooks: LaneHooks, notify: Callable[[Lane], None]) -> None:
        self._hooks = hooks
        self._notify = notify
        self._wake: SimpleQueue[bool] = SimpleQueue()
        self.inbox: deque[ItemRun] = deque()
        self.finished: deque[ItemRun] = deque()
        self.current: list[ItemRun] = []  # the item being run; whoever pops it, thread or event loop, owns it
        self.step: Step | None = None
        self.began = math.inf  # when the current call began
        self.chunk = 1
        self.chunk_began = 0.0
        self.abandoned = False
        self.is_stuck = False  # its call is a long one: nothing is queued behind it
        Thread(target=self._main, name=f"batchrun-lane-{number}", daemon=True).start()

    @property
    def is_idle(self) -> bool:
        """Whether the thread has nothing to do."""
        return not self.inbox and not self.current and not self.finished

    def give(self, runs: Iterable[ItemRun]) -> None:
        """Queue items. Called on the event loop."""
        self.inbox.extend(runs)
        self._wake.put(True)

    def close(self) -> None:
        """End the thread once it is idle."""
        self._wake.put(False)

    def _main(self) -> None:
        inbox, finished = self.inbox, self.finished
        work, clock = self._hooks.work, self._hooks.clock
        while True:
            try:
                run = inbox.popleft()
            except IndexError:
                if finished:
                    self._notify(self)
                if not self._wake.get():
                    return
                continue
            if not finished:
                self.chunk_began = clock()
            self.began = math.inf  # else the item would look as old as the last call of this lane until its own begins
            self.current = current = [run]
            work(run, self)
            try:
                current.pop()
            except IndexError:
                return  # the deadline passed while the call ran: the item is no longer ours
            finished.append(run)
            if len(finished) >= self.chunk:
                self._notify(self)


class LanePool:
    """The lanes of one execution. All methods are called on the event loop."""

    def __init__(self, max_lanes: int, hooks: LaneHooks) -> None:
        self._max_lanes = max_lanes
        self._hooks = hooks
        self._loop = asyncio.get_running_loop()
        self._lanes: list[Lane] = []
        self._pending: deque[ItemRun] = deque()
        self._chunk = 1
        self._item_seconds = _CHUNK_SECONDS
        self._ticking: asyncio.TimerHandle | None = None
        self._measured = (0.0, 0.0)
        self._started = 0
        self.abandoned_count = 0

    @property
    def pending(self) -> int:
        """Items queued and not yet given to a lane."""
        return len(self._pending)

    def submit(self, runs: Iterable[ItemRun]) -> None:
        """Queue items; `hooks.finished` gets them when they are done."""
        self._pending.extend(runs)
        self._assign()
        if self._ticking is None:
            self._measured = (time.monotonic(), time.process_time())
            self._ticking = self._loop.call_later(_TICK_SECONDS, self._tick)

    async def run(self, run: ItemRun) -> ItemRun:
        """Queue one item and wait until it is done. Returns what goes on in its place: the item itself unless it was abandoned."""
        waiter: asyncio.Future[ItemRun] = self._loop.create_future()
        run.waiter = waiter
        self.submit((run,))
        return await waiter

    def withdraw(self) -> list[ItemRun]:
        """Take back the items no lane has started; those submitted by `run` stay."""
        taken = list(self._pending)
        self._pending.clear()
        for lane in self._lanes:
            taken += _emptied(lane.inbox)
        waited_for = [run for run in taken if run.waiter is not None]
        if waited_for:
            self.submit(waited_for)
        return [run for run in taken if run.waiter is None]

    def abandon_all(self) -> None:
        """Take every item away from its lane, as if it were past its deadline."""
        for lane in list(self._lanes):
            self._abandon(lane, lane.current)

    def close(self) -> None:
        """End the threads. Stuck ones stay behind; they are daemons."""
        if self._ticking is not None:
            self._ticking.cancel()
        for lane in self._lanes:
            lane.close()

    def _assign(self) -> None:
        pending, chunk = self._pending, self._chunk
        for lane in self._lanes:
            if not pending:
                return
            if lane.is_stuck:
                continue
            # Short work is queued ahead, so that the lane never runs dry; long work only goes to lanes that are free.
            room = chunk - len(lane.inbox) if chunk > 1 else lane.is_idle
            if room * 2 > chunk:
                lane.chunk = chunk
                lane.give([pending.popleft() for _ in range(min(room, len(pending)))])
        if pending and not self._lanes:
            self._add_lanes(1)

    def _add_lanes(self, count: int) -> None:
        for _ in range(min(count, self._max_lanes - len(self._lanes))):
            self._started += 1
            self._lanes.append(Lane(self._started, self._hooks, self._notify))
        self._assign()

    def _notify(self, lane: Lane) -> None:
        """In the lane thread: have the event loop collect what is finished."""
        try:
            self._loop.call_soon_threadsafe(self._collect, lane)
        except RuntimeError:  # the loop is closed: the execution ended without this lane
            lane.abandoned = True

    def _collect(self, lane: Lane) -> None:
        runs = _emptied(lane.finished)
        if not runs:
            return
        lane.is_stuck = lane.is_stuck and bool(lane.current)
        self._adapt((self._hooks.clock() - lane.chunk_began) / len(runs))
        self._assign()
        chunk: list[ItemRun] = []
        for run in runs:
            if run.waiter is None:
                chunk.append(run)
            else:
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
            runs = current[:]  # the lane may take its item out at any moment
            lane.is_stuck = bool(runs) and now - lane.began > _STUCK_SECONDS
            if lane.is_stuck:
                self._pending.extendleft(reversed(_emptied(lane.inbox)))
                if self._hooks.is_late(runs[0], lane.step, lane.began):
                    self._abandon(lane, current)
            if lane.finished:
                self._collect(lane)
        self._assign()
        self._grow()
        busy = self._pending or any(not lane.is_idle for lane in self._lanes)
        self._ticking = self._loop.call_later(_TICK_SECONDS, self._tick) if busy else None

    def _grow(self) -> None:
        """Add lanes while calls block: work is queued, no lane is free, and the processor is not busy.

        Calls that take microseconds do not block, they wait for the interpreter: more lanes would only get in their way,
        unless all lanes are stuck in longer ones.
        """
        wall, processor = time.monotonic(), time.process_time()
        use = (processor - self._measured[1]) / max(wall - self._measured[0], 1e-9)
        self._measured = (wall, processor)
        if not self._pending or use > _BUSY_PROCESSOR_RATIO or any(lane.is_idle for lane in self._lanes):
            return
        if self._item_seconds > _BLOCKING_SECONDS or all(lane.is_stuck for lane in self._lanes):
            self._add_lanes(max(1, len(self._lanes)))

    def _abandon(self, lane: Lane, current: list[ItemRun]) -> None:
        step, began = lane.step, lane.began
        try:
            run = current.pop()
        except IndexError:  # it ended at the last moment
            return
        lane.abandoned = True
        self._lanes.remove(lane)
        self._pending.extendleft(reversed(_emptied(lane.inbox)))
        self._collect(lane)
        self.abandoned_count += 1
        waiter, run.waiter = run.waiter, None
        successor = self._hooks.abandoned(run, step, began)
        if successor.goes_on:
            successor.waiter = waiter
            self._pending.append(successor)
        elif waiter is None:
            self._hooks.finished([successor])
        else:
            _tell(waiter, successor)


def _emptied(queue: deque[ItemRun]) -> list[ItemRun]:
    taken: list[ItemRun] = []
    try:
        while True:
            taken.append(queue.popleft())
    except IndexError:
        return taken


def _tell(waiter: asyncio.Future[ItemRun], run: ItemRun) -> None:
    run.waiter = None
    if not waiter.done():
        waiter.set_result(run)
