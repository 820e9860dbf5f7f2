"""Counting items that have ended, and handing their results over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from batchrun.core.errors import ExecutionError
from batchrun.core.items import Item, ItemResult, ItemStatus
from batchrun.core.protocols import ResultSink
from batchrun.dispatch.counts import Counts, unstarted

_MOST_TOGETHER = 256


class HandOver:
    """Counts items at once, and hands their results to the sink, those of one turn of the event loop together.

    To wake the writer for each of them would cost more than many an item.

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

    def end_one(self, result: ItemResult) -> None:
        """An item has ended."""
        self._counts.add_one(result)
        self._held.append(result)
        if len(self._held) == 1:
            asyncio.get_running_loop().call_soon(self._turn_ended)
        elif len(self._held) == _MOST_TOGETHER:
            self.flush()
        if self._counts.failed:
            self._on_failed()

    def end(self, results: list[ItemResult], statuses: Mapping[ItemStatus, int]) -> None:
        """Items have ended; so many of them with each status."""
        self._counts.add(statuses)
        self._put(results)
        if results and self._counts.failed:
            self._on_failed()

    def end_unstarted(self, items: Collection[Item]) -> None:
        """Items were loaded and never started."""
        self.end(unstarted(items), {"cancelled": len(items)})

    def flush(self) -> None:
        """Hand over what is held back."""
        results, self._held = self._held, []
        self._put(results)

    def _turn_ended(self) -> None:
        self.turns += 1
        self.flush()

    def _put(self, results: list[ItemResult]) -> None:
        if results and self.broken is None:
            try:
                self._sink.put(results)
            except ExecutionError as error:
                self.broken = error
                self._on_broken()
