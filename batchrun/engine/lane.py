"""One lane thread and the items queued for it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread

from batchrun.engine.item_run import ItemRun
from batchrun.workflow.plan import Step


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
        "held",
        "inbox",
        "is_stuck",
        "step",
        "thread",
    )

    def __init__(self, number: int, hooks: LaneHooks, notify: Callable[[Lane], None]) -> None:
        self._hooks = hooks
        self._notify = notify
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

    def collect(self) -> list[ItemRun]:
        """Take the items out that are done."""
        return self._taken(self.finished)

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
