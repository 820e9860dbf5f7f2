"""Which items have a row, and what became of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import polars as pl

from batchrun.core.errors import ErrorRecord
from batchrun.core.events import Event, SentBack
from batchrun.core.items import Item, ItemResult, RestoredItem
from batchrun.core.protocols import ResultSink
from batchrun.datasets.handing import ORDINAL
from batchrun.dispatch.counts import Counts
from batchrun.engine.restoring import Restorer
from batchrun.execution.slices.begun import BegunItems
from batchrun.execution.slices.messages import Rows
from batchrun.flow.budget import Spending
from batchrun.results import ResultWriter


class Items(NamedTuple):
    """The items that are to be run.

    Attributes:
        frames: their rows, in order.
        wanted: 1 for each of them, by ordinal; null: all are.
        total: of the execution.
        counts: those that ended in earlier runs.
        restored: where an item goes on that an earlier run began, by its ordinal; null: there was none.
    """

    frames: Iterator[pl.DataFrame]
    wanted: bytearray | None
    total: int
    counts: Counts
    restored: Callable[[int], RestoredItem | None] | None


class Ports(NamedTuple):
    """Where things go that workers tell.

    Attributes:
        writer: takes rows and what nodes have come to.
        sink: takes results that are made here.
        spending: counts what is spent.
        note: takes lines for people.
        tell: takes events.
        sent_back: takes calls that are made again.
    """

    writer: ResultWriter
    sink: ResultSink
    spending: Spending
    note: Callable[[str], None]
    tell: Callable[[list[Event]], None]
    sent_back: Callable[[SentBack], None] | None


class Account:
    """The items of an execution that worker processes run.

    Args:
        items: that are to be run.
        ports: where rows go.

    Attributes:
        counts: items that have ended, in earlier runs or in this one.
        begun: where open items go on.
    """

    def __init__(self, items: Items, ports: Ports) -> None:
        self.counts = replace(items.counts)
        self.begun = BegunItems(items.restored)
        self._ports = ports
        self._settled = bytearray(items.total)  # 1 for each item that was wanted and has a row

    @property
    def settled_items(self) -> int:
        """Items of this run that have a row."""
        return self._settled.count(1)

    @property
    def has_gaps(self) -> bool:
        """Whether an item has a row and one before it has none."""
        first = self._settled.find(0)
        return first >= 0 and self._settled.find(1, first) >= 0

    def left_over(self, undone: bytearray) -> bytearray:
        """Those of the items that are not done which have no row of this run, 1 for each by ordinal."""
        without = int.from_bytes(undone, "little") & ~int.from_bytes(self._settled, "little")
        return bytearray(without.to_bytes(len(undone), "little"))

    def has_rows(self, frame: pl.DataFrame) -> bool:
        """Whether all of these items have a row."""
        return all(map(self._settled.__getitem__, frame[ORDINAL].to_list()))

    def unsettled(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Those of these items that have no row yet."""
        return frame.filter(pl.Series([not self._settled[ordinal] for ordinal in frame[ORDINAL]], dtype=pl.Boolean))

    def take(self, message: Rows) -> None:
        """Write down rows that a worker has made.

        Raises:
            ExecutionError: they cannot be written.
        """
        self._ports.writer.put_rows(message.rows)
        self._settle(message.rows.ordinals)
        for status, count in message.rows.tally.counted().items.items():
            setattr(self.counts, status, getattr(self.counts, status) + count)
        self._ports.spending.add(message.used)
        if message.events:
            self._ports.tell(list(message.events))

    def fail(self, item: Item, error: ErrorRecord, restorer: Restorer) -> None:
        """Write down that an item has failed, with those of its nodes that are known to have ended.

        Raises:
            ExecutionError: it cannot be written.
        """
        restored = self.begun.of([item.ordinal]).get(item.ordinal)
        run = restorer.run_of(item, restored or RestoredItem(1, 0, (), {}))
        result = ItemResult(item, "failed", None, error, run.attempts, int(time.time() * 1e6), 0.0, run.records)
        self._ports.sink.put([result])
        self._settle([item.ordinal])
        self.counts.failed += 1

    def _settle(self, ordinals: Sequence[int]) -> None:
        self.begun.end(ordinals)
        if isinstance(ordinals, range):
            self._settled[ordinals.start : ordinals.stop] = b"\1" * len(ordinals)
        else:
            for ordinal in ordinals:
                self._settled[ordinal] = 1
