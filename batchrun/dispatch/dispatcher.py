"""The dispatcher: keeps a bounded number of items at work until all have ended, or it is told to stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Generic

import anyio
from anyio.abc import TaskGroup

from batchrun.core.executions import Stop
from batchrun.core.items import Item
from batchrun.core.job import Run
from batchrun.dispatch.counts import Counts
from batchrun.dispatch.crew import Crew
from batchrun.dispatch.handover import HandOver
from batchrun.dispatch.neighbours import Chunk, Rooms, Runner, Waiting
from batchrun.dispatch.slots import NoSlot, Slots, WorkerSlot, at_most
from batchrun.dispatch.supply import Supply
from batchrun.flow.failure import policy_breach

_LARGEST_BACKLOG = 4_000  # results handed over and not yet written
_LONGEST_QUEUE = 2_000  # items queued for lanes
_POLL_SECONDS = 0.05
_LONGEST_HOLD_SECONDS = 0.05  # all workers together let others have the event loop that often, if none of their items waits


class Dispatcher(Generic[Waiting]):
    """Runs every item of a feed. Their ordinals may have gaps.

    Items that may wait are run by workers, each of which pulls one item after another: there is no task, lock or queue
    per item. Items that never wait are handed to the engine in chunks.

    Args:
        engine: runs the items.
        rooms: where items come from and where results go.
        run: how the items are run.
        counts: the items that ended in earlier runs of the execution and are not run again; null: none.
        total: items of the execution; those that are not among the feed are left for another run. Null: there are no others.

    Attributes:
        counts: items that have ended, in earlier runs or in this one.
        stop_cause: why the dispatcher stopped early; null while it did not.
    """

    def __init__(self, engine: Runner[Waiting], rooms: Rooms, run: Run, counts: Counts | None = None, total: int | None = None) -> None:
        self.counts = replace(counts) if counts is not None else Counts()
        self.stop_cause: Stop | None = None
        self._engine = engine
        self._feed = rooms.feed
        self._sink = rooms.sink
        self._ended_items = HandOver(self.counts, rooms.sink, on_failed=self._judge, on_broken=self._sink_broke)
        self._run = run = at_most(run, run.parallelism, total)
        self._slots = Slots(run.parallelism)
        self._max_open = self._most_open(run)
        self._total = total
        self._ended_before = self.counts.ended
        self._longest_hold_seconds = max(_LONGEST_HOLD_SECONDS / run.parallelism, 0.001)
        self._supply = Supply(rooms.feed)
        self._loading = asyncio.Lock()
        self._crew = Crew(self._nothing_goes_on)
        self._parked = self._submitted = 0  # items of chunks: those that wait, and all
        self._changed = asyncio.Event()
        self._awaited: Callable[[], bool] = lambda: True
        self._group: TaskGroup | None = None
        self._grace_scope = anyio.CancelScope()

    @property
    def loaded_items(self) -> int:
        """Items taken from the feed; each of them has a result once the dispatcher has ended."""
        return self._feed.loaded

    @property
    def open_items(self) -> int:
        """Items that have been started or queued and have not ended."""
        return self._supply.begun_items - self._ended

    @property
    def _ended(self) -> int:
        return self.counts.ended - self._ended_before

    def resize(self, parallelism: int) -> None:
        """Work on this many items at once from now on; call it on the event loop.

        More begin at once. Fewer: none begins before enough of those at work have ended or wait. Items held at all follow,
        unless `max_open_items` says how many.

        Raises:
            ValueError: `parallelism` is below 1, or above `max_open_items`.
        """
        self._run = at_most(self._run, parallelism, self._total)
        self._max_open = self._most_open(self._run)
        self._engine.resize(parallelism)
        self._slots.resize(self._run.parallelism)
        self._changed.set()
        if self._crew.workers:  # it has begun, and runs items by workers
            for _ in range(self._slots.free):
                self._start_another()

    def stop(self, cause: Stop) -> None:
        """Start no more items; those at work may go on for the grace period. Further calls change nothing."""
        if self.stop_cause is not None:
            return
        self.stop_cause = cause
        self._engine.stop_waiting()
        self._ended_items.end_unstarted(self._engine.withdraw())
        self._changed.set()
        self._crew.look()
        asyncio.get_running_loop().call_later(self._run.grace_seconds, self.abandon)

    def abandon(self) -> None:
        """Wait no longer for items at work."""
        self._engine.abandon_all()
        self._grace_scope.cancel()

    async def run_chunks(self) -> None:
        """Run all items, in chunks: for work that never waits on the event loop.

        Raises:
            ExecutionError: the dataset cannot be read or results cannot be written any further.
        """
        await self._in_group(self._feed_chunks)

    async def run_items(self) -> None:
        """Run all items, each by a worker.

        Raises:
            ExecutionError: the dataset cannot be read or results cannot be written any further.
        """
        await self._in_group(self._start_workers)

    async def _in_group(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            with self._grace_scope:
                async with anyio.create_task_group() as group:
                    self._group = group
                    await body()
        finally:
            self._feed.close()
            self._ended_items.flush()  # what has ended is kept, whatever ends the run
        self._ended_items.end_unstarted(self._supply.taken())
        fault = self._ended_items.broken or self._supply.fault
        if fault is not None:
            raise fault
        self._judge(at_end=self._total in (None, self.counts.processed))

    def _most_open(self, run: Run) -> int:
        # Of two batches one can fill up while the other one is being called.
        return run.max_open_items or max(4 * run.parallelism, 2 * self._engine.largest_batch)

    def _is_stopping(self) -> bool:
        return self.stop_cause is not None or self._ended_items.broken is not None

    # Items by workers

    async def _start_workers(self) -> None:
        for _ in range(self._run.parallelism):
            self._start_worker()

    def _start_worker(self) -> None:
        self._crew.join()
        self._tasks.start_soon(self._work)

    def _nothing_goes_on(self) -> None:
        is_end = not self._supply.has_items or self._is_stopping()
        if is_end or self._crew.workers or not self._has_room():  # else the next chunk is on its way
            self._engine.send_waiting(is_end=is_end)

    def _start_another(self) -> None:
        """Start a worker if there is a slot, a seat and an item for it."""
        if self._supply.has_items and self._slots.free > 0 and self._crew.workers < self._max_open and not self._is_stopping():
            self._start_worker()

    def _item_waits(self) -> None:
        self._crew.wait()
        self._start_another()
        self._crew.look()

    @property
    def _tasks(self) -> TaskGroup:
        if self._group is None:
            raise RuntimeError("the dispatcher is not running")
        return self._group

    async def _work(self) -> None:
        slot, held = WorkerSlot(self._slots, self._item_waits, self._crew.go_on), self._supply.held
        ended, turn, since, slots, engine = self._ended_items, -1, 0.0, self._slots, self._engine
        await slots.acquire()
        try:
            with engine.reach() as reach:
                while (item := held.popleft() if held and not self._is_surplus() else await self._next_item()) is not None:
                    ended.end_one(await engine.run(item, slot, reach))
                    if turn != ended.turns:
                        turn, since = ended.turns, time.monotonic()
                    elif time.monotonic() - since > self._longest_hold_seconds:
                        await asyncio.sleep(0)  # items whose functions never wait would keep everybody else waiting
                    if slots.waiters:
                        break  # an item that has waited goes on in this place
        finally:
            slots.release()
            self._crew.leave()

    async def _next_item(self) -> Item | None:
        supply, held = self._supply, self._supply.held
        while not held and not supply.is_exhausted and not self._is_surplus():
            async with self._loading:
                if not held and not supply.is_exhausted:
                    held.extend(await self._load())
        return held.popleft() if held and not self._is_surplus() else None

    def _is_surplus(self) -> bool:
        """Whether a worker must take no further item."""
        is_stopping = self.stop_cause is not None or self._ended_items.broken is not None
        return is_stopping or self._slots.free < 0 or self._crew.workers > self._max_open

    async def _load(self) -> list[Item]:
        await self._until(lambda: self._sink.backlog <= _LARGEST_BACKLOG or self._is_stopping())
        return [] if self._is_stopping() else await self._supply.load()

    # Items in chunks

    async def _feed_chunks(self) -> None:
        try:
            while not (self._supply.is_exhausted and self._has_ended()):
                self._crew.look()
                await self._until(self._has_room)
                if self._is_stopping():
                    break
                if self._supply.held:  # items that were taken back, or for which there was no room
                    self._submit(self._supply.taken())
                elif not self._supply.is_exhausted:
                    items = await self._load()
                    if self._is_stopping():
                        self._supply.put_back(items)
                        break
                    self._submit(items)
                else:
                    await self._until(lambda: bool(self._supply.held) or self._has_ended())
        finally:
            with anyio.CancelScope(shield=True):  # what lanes hold ends soon after the grace period, too
                await self._until(self._has_ended)

    def _submit(self, items: list[Item]) -> None:
        if self._engine.largest_batch:  # they count as open as soon as they wait to be called
            room = max(self._max_open - self._submitted + self._ended, 0)
            self._supply.put_back(items[room:])
            items = items[:room]
        self._submitted += len(items)
        self._engine.submit(items, self._chunk_finished)

    def _has_ended(self) -> bool:
        """Whether all items have ended that were submitted, and none was taken back."""
        return self._ended >= self._submitted and (not self._supply.held or self._is_stopping())

    def _has_room(self) -> bool:
        at_work, is_batch = self._submitted - self._ended, self._engine.largest_batch > 0
        has_place = at_work < self._max_open if is_batch else at_work - self._parked < _LONGEST_QUEUE and self._parked < self._max_open
        return self._is_stopping() or (has_place and self._sink.backlog < _LARGEST_BACKLOG)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition() and self._ended_items.broken is None:
            self._awaited = condition
            self._changed.clear()
            with anyio.move_on_after(_POLL_SECONDS if self._sink.backlog else None):  # the backlog shrinks without telling
                await self._changed.wait()

    def _chunk_finished(self, chunk: Chunk[Waiting]) -> None:
        self._ended_items.end(chunk.results, chunk.statuses, chunk.rows)
        if self._engine.largest_batch:
            self._crew.look()
        for run in chunk.waiting:
            self._parked += 1
            self._tasks.start_soon(self._finish, run)
        if self._parked >= self._max_open:
            held_back = self._engine.withdraw()
            self._submitted -= len(held_back)
            self._supply.put_back(held_back)
        if self._awaited() or self._sink.backlog >= _LARGEST_BACKLOG:  # whoever waits for that must look at it again and again
            self._changed.set()

    async def _finish(self, run: Waiting) -> None:
        try:
            self._ended_items.end_one(await self._engine.finish(run, NoSlot(self._crew.look)))
        finally:
            self._parked -= 1
            self._changed.set()

    # Ended items

    def _sink_broke(self) -> None:
        self._changed.set()
        self.abandon()

    def _judge(self, *, at_end: bool = False) -> None:
        breach = policy_breach(self._run.failure_policy, failed=self.counts.failed, completed=self.counts.completed_here, at_end=at_end)
        if breach is not None:
            self.stop(Stop("failure_policy", breach))
