"""Where the items of a worker process come from, and where its results go: to its parent, both."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain, count
from queue import Empty, SimpleQueue
from threading import Thread

from batchrun.core.errors import ExecutionError
from batchrun.core.events import Event
from batchrun.core.items import Item, ItemResult, KeptNode, Usage
from batchrun.execution.slices.messages import Broken, Checkpointed, Kept, Link, Report, Rows, Written
from batchrun.flow.budget import Spending, Spent
from batchrun.results import ResultLayout
from batchrun.results.columns import ResultColumns
from batchrun.results.handed import handed, handed_rows
from batchrun.results.rows import Gathered, ResultRows

_MOST_ROWS = 4_096
_MOST_SECONDS = 0.1  # that the first of them waits for others
_AHEAD_SECONDS = 0.1
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.001, 0.02


class SliceFeed:
    """The slices that came from the parent; see `ItemFeed`. All methods are called on the event loop.

    Args:
        on_taken: called when one was handed out, so that there is room for another one.

    Attributes:
        loaded: items handed out so far.
        room: whether to hand out more; asked again and again. Null: the one who asks for items knows what it does.
    """

    def __init__(self, on_taken: Callable[[], None]) -> None:
        self.loaded = 0
        self.room: Callable[[], bool] | None = None
        self._on_taken = on_taken
        self._slices: deque[list[Item]] = deque()
        self._is_over = False
        self._changed = asyncio.Event()

    def put(self, items: list[Item]) -> None:
        """Take a slice."""
        self._slices.append(items)
        self._changed.set()

    def end(self) -> None:
        """No more slices will come."""
        self._is_over = True
        self._changed.set()

    async def next(self) -> list[Item] | None:
        """See `ItemFeed`."""
        pause = _SHORTEST_PAUSE_SECONDS
        while self.room is not None and not self.room():
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        while not self._slices and not self._is_over:
            self._changed.clear()
            await self._changed.wait()
        if not self._slices:
            return None
        items = self._slices.popleft()
        self.loaded += len(items)
        self._on_taken()
        return items

    def close(self) -> None:
        """See `ItemFeed`."""
        self._slices.clear()


class Pace:
    """How many items to hold that never wait: as many as are begun soon. What is queued here, no other process can begin.

    Args:
        ended: gives how many have ended so far.
        most_at_work: gives how many are worked on at once.
    """

    def __init__(self, ended: Callable[[], int], most_at_work: Callable[[], int]) -> None:
        self._ended = ended
        self._most_at_work = most_at_work
        self._since, self._before, self._per_second = time.monotonic(), 0, 0.0

    @property
    def most_items(self) -> float:
        """The most items to hold at this moment."""
        now, ended = time.monotonic(), self._ended()
        seconds = now - self._since
        if ended > self._before:
            self._per_second = max((ended - self._before) / max(seconds, _SHORTEST_PAUSE_SECONDS), self._per_second / 2)
            self._since, self._before = now, ended
        return self._most_at_work() + self._per_second * _AHEAD_SECONDS


class RowsSink:
    """Makes rows of results, in a thread of its own, which tells the parent everything. See `ResultSink` and `NodeJournal`.

    Args:
        link: to the parent.
        layout: of the result.
        spending: what was spent here.
        events: gives the events of results; null: nobody wants to know.
    """

    def __init__(
        self, link: Link, layout: ResultLayout, spending: Spending, events: Callable[[Sequence[ItemResult]], Sequence[Event]] | None
    ) -> None:
        self._link = link
        self._layout = layout
        self._spending = spending
        self._spent = Spent()
        self._events = events
        self._columns = ResultColumns(layout)
        self._queue: SimpleQueue[Sequence[ItemResult] | ResultRows | Report | None] = SimpleQueue()
        self._handed_over = self._taken = 0
        self._numbers = count()
        self._checkpoints: dict[int, asyncio.Future[None]] = {}
        self._thread = Thread(target=self._work, name="batchrun-results", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """See `ResultSink`."""
        return self._handed_over - self._taken

    def put(self, results: Sequence[ItemResult]) -> None:
        """See `ResultSink`."""
        if results:
            self._handed_over += len(results)
            self._queue.put(results)

    def pack(self, results: Sequence[ItemResult]) -> ResultRows | None:
        """See `ResultSink`. Events are made of the results themselves."""
        return self._columns.packed(results) if self._events is None else None

    def put_rows(self, rows: ResultRows) -> None:
        """See `ResultSink`."""
        self._handed_over += rows.weight
        self._queue.put(rows)

    def tell(self, report: Report) -> None:
        """Tell the parent something; from any thread. Never blocks."""
        self._queue.put(report)

    def keep(self, nodes: Sequence[KeptNode]) -> None:
        """See `NodeJournal`."""
        if nodes:
            self._queue.put(Kept(nodes))

    async def checkpoint(self, node: KeptNode) -> None:
        """See `NodeJournal`.

        Raises:
            ExecutionError: it cannot be written.
        """
        number = next(self._numbers)
        written = self._checkpoints[number] = asyncio.get_running_loop().create_future()
        self._queue.put(Checkpointed(number, node))
        await written

    def written(self, answer: Written) -> None:
        """A checkpoint is on the disk, or cannot be written."""
        waiting = self._checkpoints.pop(answer.number)
        if waiting.done():
            return
        if answer.error is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(ExecutionError(answer.error))

    def close(self) -> None:
        """Hand over what is left. Blocks."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        try:
            self._take_all()
        finally:
            error = sys.exc_info()[1]
            if error is not None:
                self._link.send(Broken(f"a worker process cannot make the rows of the result: {type(error).__name__}: {error}"))

    def _take_all(self) -> None:
        fresh: list[ItemResult] = []
        gathered = Gathered()
        due = 0.0
        is_open = True
        while is_open:
            message: Sequence[ItemResult] | ResultRows | Report | None = []
            with suppress(Empty):
                message = self._queue.get(timeout=max(due - time.monotonic(), 0.0) if fresh or gathered else None)
            if not (fresh or gathered):
                due = time.monotonic() + _MOST_SECONDS
            if isinstance(message, list):
                fresh += message
                self._taken += len(message)
            elif isinstance(message, ResultRows):
                gathered.add(message)
                self._taken += message.weight
            elif message is not None:
                self._link.send(message)  # type: ignore[arg-type] # results are in lists
            is_open = message is not None
            if (fresh or gathered) and (len(fresh) >= _MOST_ROWS or gathered.is_full or time.monotonic() >= due or not is_open):
                self._send(fresh, gathered.take())
                fresh = []

    def _send(self, results: list[ItemResult], made: list[ResultRows]) -> None:
        events = self._events(results) if self._events is not None else ()
        for rows in chain(handed_rows(results, self._columns), (handed(each, self._layout) for each in made)):
            before, now = self._spent, self._spending.spent
            self._spent = now
            tokens = now.input_tokens - before.input_tokens, now.output_tokens - before.output_tokens
            self._link.send(Rows(rows, events, Usage(*tokens, now.cost - before.cost)))
            events = ()
