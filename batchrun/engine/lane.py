"""One lane thread and the items queued for it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Protocol

from batchrun.engine.item_run import ItemRun
from batchrun.engine.part_run import PartRun
from batchrun.workflows.plan import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneHooks:
    """What the pool calls.

    Attributes:
        work: runs an item's stretch; in the lane thread.
        finished: takes items submitted in chunks, done; on the event loop.
        is_late: whether the call of an item, begun then, is past its deadline.
        given_up: told of an item that nobody waits for any more, and of the node whose call its lane is in.
        abandoned: settles an item whose call was abandoned and gives back what goes on in its place.
        clock: seconds; never goes back.
    """

    work: Callable[[ItemRun, Lane], None]
    finished: Callable[[list[ItemRun]], None]
    is_late: Callable[[ItemRun, Step | None, float], bool]
    abandoned: Callable[[ItemRun, Step | None, float], ItemRun]
    clock: Callable[[], float]
    given_up: Callable[[ItemRun, Step], None] = lambda _run, _step: None


class LaneSlots(Protocol):
    """Where lanes mark what they are at, for whoever looks when they do not come back."""

    def take(self) -> memoryview:
        """A slot for one more lane, which takes one number."""


class Lane:
    """One thread and the items queued for it.

    Its deques and lists are shared with the event loop thread: every operation on them is a single atomic one.
    """

    __slots__ = (
        "_hooks",
        "_notify",
        "_slot",
        "_wake",
        "abandoned",
        "began",
        "chunk",
        "chunk_began",
        "current",
        "finished",
        "held",
        "inbox",
        "is_stuck",
        "step",
        "thread",
    )

    def __init__(self, number: int, hooks: LaneHooks, notify: Callable[[Lane], None], slot: memoryview | None = None) -> None:
        self._hooks = hooks
        self._notify = notify
        self._slot = slot  # takes the ordinal of each item that is begun
        self._wake: SimpleQueue[bool] = SimpleQueue()
        self.held = 0  # items given and not yet taken back or collected; only the event loop counts
        self.inbox: deque[ItemRun] = deque()
        self.finished: deque[ItemRun] = deque()
        self.current: list[ItemRun] = []  # the item being run; whoever pops it, thread or event loop, owns it
        self.step: Step | None = None
        self.began = math.inf  # when the current call began
        self.chunk = 1
        self.chunk_began = 0.0
        self.abandoned = False
        self.is_stuck = False  # its call is a long one: nothing is queued behind it
        self.thread = Thread(target=self._main, name=f"batchrun-lane-{number}", daemon=True)
        self.thread.start()

    @property
    def is_idle(self) -> bool:
        """Whether the thread has nothing to do."""
        return not self.held

    def give(self, runs: list[ItemRun]) -> None:
        """Queue items. Called on the event loop, as are the next two."""
        self.held += len(runs)
        self.inbox.extend(runs)
        self._wake.put(True)

    def take_back(self) -> list[ItemRun]:
        """Take the items out that the thread has not begun."""
        return self._taken(self.inbox)

    def withdraw(self, run: ItemRun) -> bool:
        """Take one of these items out. Returns whether it was there."""
        try:
            self.inbox.remove(run)
        except ValueError:
            return False
        self.held -= 1
        return True

    def leave(self, run: ItemRun) -> bool:
        """Take the item away that the thread is at work on. Returns whether it was this one."""
        try:
            self.current.remove(run)
        except ValueError:
            return False
        return True

    def collect(self) -> list[ItemRun]:
        """Take the items out that are done."""
        finished = self.finished  # to which the thread may add meanwhile
        taken = [finished.popleft() for _ in range(len(finished))]
        self.held -= len(taken)
        return taken

    def _taken(self, queue: deque[ItemRun]) -> list[ItemRun]:
        taken: list[ItemRun] = []
        try:
            while True:
                taken.append(queue.popleft())
        except IndexError:
            self.held -= len(taken)
            return taken

    def close(self) -> None:
        """End the thread once it is idle."""
        self._wake.put(False)

    def _main(self) -> None:
        inbox, finished = self.inbox, self.finished
        work, clock, slot = self._hooks.work, self._hooks.clock, self._slot
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
            if slot is not None:
                slot[0] = _whole(run).source.ordinal if run.path else run.source.ordinal
            work(run, self)
            try:
                current.pop()
            except IndexError:
                return  # the deadline passed while the call ran: the item is no longer ours
            finished.append(run)
            if len(finished) >= self.chunk:
                self._notify(self)


def _whole(run: ItemRun) -> ItemRun:
    """The item that a part belongs to."""
    while isinstance(run, PartRun):
        run = run.parent
    return run
