"""Counting items that have ended, and handing their results over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

from batchrun.core.errors import ExecutionError
from batchrun.core.items import Item, ItemResult, ItemStatus
from batchrun.core.protocols import ResultSink, Rows
from batchrun.dispatch.counts import Counts, unstarted

_MOST_TOGETHER = 1_000
_HOLD_SECONDS = 0.02


class HandOver:
    """Counts items at once, and hands their results to the sink, those of some turns of the event loop together.

    To wake the writer for each of them would cost more than many an item, and whenever it is awake, the event loop waits for it.

    Args:
        counts: where they are counted.
        sink: takes the results.
        on_failed: called when items have ended and any item has failed, now or before.
        on_broken: called when the sink takes no more.

    Attributes:
        broken: why it takes no more; null while it does.
        turns: of the event loop, as far as items ended one by one in them.
    """

    def __init__(self, counts: Counts, sink: ResultSink, on_failed: Callable[[], None], on_broken: Callable[[], None]) -> None:
        self.broken: ExecutionError | None = None
        self.turns = 0
        self._counts = counts
        self._sink = sink
        self._on_failed = on_failed
        self._on_broken = on_broken
        self._held: list[ItemResult] = []
        self._is_turning = self._is_due = False

    def end_one(self, result: ItemResult) -> None:
        """An item has ended."""
        self._counts.add_one(result)
        held = self._held
        held.append(result)
        if not self._is_turning:
            self._is_turning = True
            asyncio.get_running_loop().call_soon(self._turn_ended)
        if len(held) == _MOST_TOGETHER:
            self.flush()
        if self._counts.failed:
            self._on_failed()

    def end(self, results: list[ItemResult], statuses: Mapping[ItemStatus, int], rows: Sequence[Rows] = ()) -> None:
        """Items have ended, so many with each status: here are their results, and rows of the others."""
        self._counts.add(statuses)
        self._put(results, rows)
        if (results or rows) and self._counts.failed:
            self._on_failed()

    def end_unstarted(self, items: Collection[Item]) -> None:
        """Items were loaded and never started."""
        self.end(unstarted(items), {"cancelled": len(items)})

    def flush(self) -> None:
        """Hand over what is held back."""
        results, self._held = self._held, []
        # Here, because the writer's thread would take the interpreter from this one whenever it liked.
        rows = self._sink.pack(results) if results else None
        if rows is None:
            self._put(results)
        else:
            self._put([], [rows])

    def _turn_ended(self) -> None:
        self.turns += 1
        self._is_turning = False
        if self._held and not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(_HOLD_SECONDS, self._hold_ended)

    def _hold_ended(self) -> None:
        self._is_due = False
        self.flush()

    def _put(self, results: list[ItemResult], rows: Sequence[Rows] = ()) -> None:
        if self.broken is None:
            try:
                if results:
                    self._sink.put(results)
                for some in rows:
                    self._sink.put_rows(some)
            except ExecutionError as error:
                self.broken = error
                self._on_broken()
