"""One lane thread, and the items that lanes take."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from time import thread_time
from typing import Protocol, TypeAlias, TypeVar

from batchrun.core.items import Item, ItemResult
from batchrun.core.protocols import Rows
from batchrun.engine.item_run import Finished, ItemRun
from batchrun.engine.part_run import PartRun
from batchrun.workflows.plan import Step

Queued: TypeAlias = Item | ItemRun
"""What waits for a lane. An item that has not begun has no run yet: made in the thread that uses it up, a run costs half."""

QueuedItems: TypeAlias = list[Item] | list[ItemRun]
"""Items that have not begun, the first of them at the end."""

Each = TypeVar("Each")

_LONG_SECONDS = 0.002
_PATIENCE_SECONDS = 0.005  # calls that take long end one by one: all lanes together hand over that often


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneHooks:
    """What the pool calls.

    Attributes:
        begin: makes the run of an item; in the lane thread.
        work: runs an item's stretch, there, too. Returns the result of an item that was submitted in a chunk and has ended, else null.
        pack: makes rows of the results of a chunk, there, too; null where it makes none.
        finished: takes what came out of chunks; on the event loop.
        is_late: whether the call of an item, begun then, is past its deadline.
        given_up: told of an item that nobody waits for any more, and of the node whose call its lane is in.
        abandoned: settles an item whose call was abandoned and gives back what goes on in its place.
        clock: seconds; never goes back.
    """

    begin: Callable[[Item], ItemRun]
    work: Callable[[ItemRun, Lane], ItemResult | None]
    pack: Callable[[list[ItemResult]], Rows | None]
    finished: Callable[[Finished], None]
    is_late: Callable[[ItemRun, Step | None, float], bool]
    abandoned: Callable[[ItemRun, Step | None, float], ItemRun]
    clock: Callable[[], float]
    given_up: Callable[[ItemRun, Step], None] = lambda _run, _step: None


class LaneSlots(Protocol):
    """Where lanes mark what they are at, for whoever looks when they do not come back."""

    def take(self) -> memoryview:
        """A slot for one more lane, which takes one number."""


class LaneQueue:
    """The items that wait for lanes: put in on the event loop, taken by lanes one by one. Each operation is a single atomic one.

    The event loop never looks at an item of a chunk: for another core, each look costs as much as a tenth of all work there is
    for an item.

    Attributes:
        done: lanes that have handed something over which is not collected yet.
        returning: items that have begun: they go first.
        fresh: chunks of others, each of which all lanes use up together: what is not held here any longer is freed by the lane that
            has run it, while it is in its cache.
        chunk: so many items that have ended are handed over at a time.
    """

    __slots__ = ("chunk", "done", "fresh", "returning")

    def __init__(self) -> None:
        self.done: deque[Lane] = deque()
        self.returning: deque[ItemRun] = deque()
        self.fresh: deque[QueuedItems] = deque()
        self.chunk = 1

    def __bool__(self) -> bool:
        return bool(self.returning or self.fresh)

    def after(self, used: QueuedItems) -> QueuedItems:
        """The chunk that comes after one which is used up; an empty one: there is none."""
        with suppress(ValueError):  # another lane was faster
            self.fresh.remove(used)
        with suppress(IndexError):
            return self.fresh[0]
        return []

    def withdraw(self) -> list[Queued]:
        """Take all out that have not begun."""
        taken: list[Queued] = []
        for chunk in drained(self.fresh):
            with suppress(IndexError):
                while True:
                    taken.append(chunk.pop())
        return taken


def drained(queue: deque[Each]) -> list[Each]:
    """Take all out of a queue that other threads use, too."""
    taken: list[Each] = []
    with suppress(IndexError):
        while True:
            taken.append(queue.popleft())
    return taken


class Lane:
    """One thread that takes items from a queue.

    Its deques and lists are shared with the event loop thread: every operation on them is a single atomic one.
    """

    __slots__ = (
        "_hooks",
        "_notify",
        "_queue",
        "_slot",
        "_wake",
        "abandoned",
        "began",
        "busy_ratio",
        "chunk_began",
        "chunks",
        "current",
        "finished",
        "is_surplus",
        "is_waiting",
        "item_seconds",
        "left",
        "step",
        "thread",
    )

    def __init__(
        self, name: str, queue: LaneQueue, hooks: LaneHooks, notify: Callable[[Lane, float], None], slot: memoryview | None
    ) -> None:
        self._queue = queue
        self._hooks = hooks
        self._notify = notify  # has the event loop collect what is done, unless it did less than so many seconds ago
        self._slot = slot  # takes the ordinal of each item that is begun
        self._wake: SimpleQueue[bool] = SimpleQueue()
        self.finished: deque[ItemResult] = deque()  # of the chunk that is being worked on
        self.left: deque[ItemRun] = deque()  # items that ended otherwise
        self.chunks: deque[Finished] = deque()  # to be collected
        self.current: list[ItemRun] = []  # the item being run; whoever pops it, thread or event loop, owns it
        self.step: Step | None = None
        self.began = math.inf  # when the current call began
        self.chunk_began = math.inf
        self.item_seconds = 0.0  # of the last chunk
        self.busy_ratio = 0.0  # how much of them the processor was at it
        self.abandoned = False
        self.is_surplus = False  # takes no more items
        self.is_waiting = False
        self.thread = Thread(target=self._main, name=name, daemon=True)
        self.thread.start()

    @property
    def is_idle(self) -> bool:
        """Whether the thread has nothing to do, and nothing is left to collect."""
        return self.is_waiting and not (self.chunks or self.finished or self.left)

    def wake(self) -> bool:
        """Have the thread look whether there is work. Called on the event loop, as are the next two. Returns whether it waited."""
        if not self.is_waiting:
            return False
        self.is_waiting = False
        self._wake.put(True)
        return True

    def leave(self, run: ItemRun) -> bool:
        """Take the item away that the thread is at work on. Returns whether it was this one."""
        try:
            self.current.remove(run)
        except ValueError:
            return False
        return True

    def collect(self, *, everything: bool) -> list[Finished]:
        """Take the chunks out that are done; and what there is of the next one, too, if that is long under way or the last one."""
        chunks = drained(self.chunks)
        if everything and (self.finished or self.left):
            chunks.append(Finished.of(drained(self.finished), drained(self.left)))
        return chunks

    def close(self) -> None:
        """End the thread once it is idle."""
        self._wake.put(False)

    def _main(self) -> None:  # noqa: C901 - a call for a branch would cost more than the branch
        queue, returning, finished, left = self._queue, self._queue.returning, self.finished, self.left
        begin, work, clock, slot = self._hooks.begin, self._hooks.work, self._hooks.clock, self._slot
        fresh: QueuedItems = []
        count, before = 0, thread_time()
        self.chunk_began = clock()
        while True:
            queued: Queued | None = None
            if not self.is_surplus:
                try:
                    queued = returning.popleft() if returning else fresh.pop()
                except IndexError:  # it is used up, or another lane was faster
                    fresh = fresh or queue.after(fresh)
                    if queue:
                        continue
            if queued is None:
                before, count = self._hand_over(count, before), 0
                if not self._rest():
                    return
                self.chunk_began = clock()
                continue
            self.began = math.inf  # else the item would look as old as the last call of this lane until its own begins
            run = queued if isinstance(queued, ItemRun) else begin(queued)
            self.current = current = [run]
            if slot is not None:
                slot[0] = _whole(run).source.ordinal if run.path else run.source.ordinal
            result = work(run, self)
            try:
                current.pop()
            except IndexError:
                return  # the deadline passed while the call ran: the item is no longer ours
            if result is None:
                left.append(run)
            else:
                finished.append(result)
            count += 1
            if count >= queue.chunk:
                before, count = self._hand_over(count, before), 0

    def _hand_over(self, count: int, before: float) -> float:
        """Have the event loop collect what is finished: so many items, less those that it has taken already.

        Returns:
            the processor time of this thread, which `before` is at the begin of the chunk.
        """
        if not count:
            return before
        now, processor = self._hooks.clock(), thread_time()
        seconds, self.chunk_began = now - self.chunk_began, now
        self.item_seconds, self.busy_ratio = seconds / count, (processor - before) / max(seconds, 1e-9)
        chunk = self._packed(drained(self.finished), drained(self.left))
        self.chunks.append(chunk)
        self._queue.done.append(self)
        is_patient = count == 1 and self.item_seconds > _LONG_SECONDS and chunk.statuses.get("completed")
        self._notify(self, _PATIENCE_SECONDS if is_patient else 0.0)
        return processor

    def _packed(self, results: list[ItemResult], left: list[ItemRun]) -> Finished:
        rows = self._hooks.pack(results)
        return Finished.of(results, left) if rows is None else Finished([], rows.statuses, left, [rows])

    def _rest(self) -> bool:
        """Wait until there may be work. Returns whether the thread goes on."""
        if self._queue.done:
            self._notify(self, 0.0)  # nothing may come any more that would
        self.is_waiting = True
        goes_on = (bool(self._queue) and not self.is_surplus) or self._wake.get()
        self.is_waiting = False
        return goes_on


def _whole(run: ItemRun) -> ItemRun:
    """The item that a part belongs to."""
    while isinstance(run, PartRun):
        run = run.parent
    return run
