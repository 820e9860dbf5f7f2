"""Putting results back in order, with bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import accumulate, chain, count, pairwise
from operator import attrgetter
from pathlib import Path
from typing import Any

import pyarrow as pa

from batchrun.core.items import ItemResult
from batchrun.results.spill import Spilled, SpillFile

_BATCH_ROWS = 4096
_SHOWN = 5
_STEP_BYTES = 8 * 2**20
_LONG_ROWS = 500
_ROW_BYTES = 500
_NODE_BYTES = 200
_LOOKED_AT = 8
_ordinal = attrgetter("item.ordinal")


class Reorder:
    """Takes results in any order and gives record batches in order of their ordinals.

    New results are sorted as Python objects, which is the cheapest way to undo the small disorder of parallel work; an
    unbroken stretch from the next expected ordinal on leaves at once. What has to wait behind a missing ordinal waits
    as Arrow batches, built once, in memory up to `buffer_bytes` and then on the disk. A heap holds the stretches of
    consecutive ordinals of all waiting batches, so that merging them needs no look at any row. When the missing ordinal
    comes, gigabytes may have waited for it: they leave in steps, between which the caller can do what is more urgent.

    Args:
        build: makes a record batch of sorted results.
        emit: takes the batches, in order.
        folder: where to put what does not fit.
        buffer_bytes: the most memory for batches that wait.

    Attributes:
        next_ordinal: the first ordinal that has not been emitted.
        missing: ranges of ordinals that `finish` found no result for.
        doubled: ordinals that came more than once; the first result of each was kept.
    """

    def __init__(
        self,
        build: Callable[[Sequence[ItemResult]], pa.RecordBatch],
        emit: Callable[[pa.RecordBatch], None],
        folder: Path,
        buffer_bytes: int,
    ) -> None:
        self._build = build
        self._emit = emit
        self._spill = SpillFile(folder)
        self._buffer_bytes = buffer_bytes
        self._fresh_limit_bytes = buffer_bytes // 8
        self._fresh: list[ItemResult] = []
        self._fresh_bytes = 0
        self._waiting: list[tuple[int, int, range, _Batch]] = []
        self._waiting_bytes = 0
        self._sequence = count()
        self.next_ordinal = 0
        self.missing: list[range] = []
        self.doubled: list[int] = []

    def add(self, results: Sequence[ItemResult]) -> None:
        """Take results in any order.

        Raises:
            OSError: the spill file cannot be written.
            pa.ArrowException: a value does not fit its column.
        """
        size_bytes = _size_bytes(results)
        if size_bytes > self._fresh_limit_bytes and len(results) > 1:  # no column of a batch may reach 2 GiB
            half = len(results) // 2
            self.add(results[:half])
            self.add(results[half:])
            return
        self._fresh += results
        self._fresh_bytes += size_bytes
        if len(self._fresh) >= _BATCH_ROWS or self._fresh_bytes >= self._fresh_limit_bytes:
            self._settle()

    def add_rows(self, batch: pa.RecordBatch, ordinals: Sequence[int]) -> None:
        """Take rows that are in Arrow form already, in ascending order of their ordinals; `drain` emits what can leave.

        Raises:
            OSError: the spill file cannot be written.
        """
        rows = _Batch(batch)
        for stretch in _stretches(ordinals):
            heappush(self._waiting, (ordinals[stretch.start], next(self._sequence), stretch, rows))
        self._hold(rows)

    def settle(self) -> None:
        """Turn all results that were added into Arrow; `drain` emits what can leave.

        Raises:
            OSError: the spill file cannot be written.
            pa.ArrowException: a value does not fit its column.
        """
        self._settle(everything=True)

    def drain(self) -> bool:
        """Emit rows whose turn has come: some megabytes, or a larger batch. Whether there are more of them."""
        pieces: list[tuple[_Batch, range]] = []
        size_bytes = 0.0
        while self._waiting and self._waiting[0][0] <= self.next_ordinal and size_bytes <= _STEP_BYTES:
            first, _, rows, batch = heappop(self._waiting)
            seen = min(self.next_ordinal - first, len(rows))
            self.doubled += range(first, first + seen)
            self.next_ordinal = max(self.next_ordinal, first + len(rows))
            pieces.append((batch, rows[seen:]))
            batch.rows_left -= len(rows)
            if not batch.rows_left:
                self._waiting_bytes -= batch.held_bytes
            size_bytes += batch.row_bytes * len(rows)
        self._merge(pieces)
        return bool(self._waiting) and self._waiting[0][0] <= self.next_ordinal

    def finish(self) -> None:
        """Emit everything that is left, over the gaps."""
        self.settle()
        while self._waiting:
            first = self._waiting[0][0]
            if first > self.next_ordinal:
                self.missing.append(range(self.next_ordinal, first))
                self.next_ordinal = first
            self.drain()

    def wrong(self, expected_items: int) -> str:
        """What is missing or doubled, for people, once everything is emitted; empty when nothing is."""
        missing = [*self.missing, *([range(self.next_ordinal, expected_items)] if self.next_ordinal < expected_items else ())]
        gaps = ", ".join(map(_shown, missing[:_SHOWN])) + (", …" if len(missing) > _SHOWN else "")
        doubled = ", ".join(map(str, sorted(self.doubled)[:_SHOWN])) + (", …" if len(self.doubled) > _SHOWN else "")
        return (f"; missing items (by position in the run): {gaps}" if missing else "") + (
            f"; items with more than one result: {doubled}" if self.doubled else ""
        )

    def close(self) -> None:
        """Drop what waits and give memory and disk space back."""
        self._fresh = []
        self._waiting = []
        self._spill.close()

    def _settle(self, *, everything: bool = False) -> None:
        """Turn fresh results into Arrow: all that can leave, and most of the rest.

        The newest ones stay: what is missing between them is about to arrive.
        """
        fresh = self._fresh
        ordinals = [result[0][0] for result in fresh]
        if ordinals != list(range(ordinals[0], ordinals[0] + len(ordinals)) if ordinals else ()):
            fresh = sorted(fresh, key=_ordinal)
            ordinals = list(map(_ordinal, fresh))
            if len(set(ordinals)) < len(ordinals):
                fresh, ordinals = self._without_doubles(fresh)
        stretches = _stretches(ordinals)
        ready = stretches[0].stop if stretches and ordinals[0] <= self.next_ordinal else 0
        cut = len(fresh) if everything else max(ready, (3 * len(fresh) + 3) // 4)
        self._fresh = fresh[cut:]
        self._fresh_bytes = _size_bytes(self._fresh)
        if cut:
            batch = _Batch(self._build(fresh[:cut]))
            for rows in stretches:
                if rows.start < cut:
                    heappush(self._waiting, (ordinals[rows.start], next(self._sequence), rows[: cut - rows.start], batch))
            if not everything:
                self.drain()
            self._hold(batch)

    def _without_doubles(self, results: list[ItemResult]) -> tuple[list[ItemResult], list[int]]:
        kept: list[ItemResult] = []
        for result in results:
            if kept and kept[-1].item.ordinal == result.item.ordinal:
                self.doubled.append(result.item.ordinal)
            else:
                kept.append(result)
        return kept, list(map(_ordinal, kept))

    def _merge(self, pieces: list[tuple[_Batch, range]]) -> None:
        """Emit rows of batches one piece after another: long pieces as slices, short ones put together."""
        if sum(len(rows) for _, rows in pieces) >= _LONG_ROWS * len(pieces):
            for batch, rows in pieces:
                self._emit(batch.load().slice(rows.start, len(rows)))
            return
        # Batches are sorted, so what each of them gives is one slice of it: join these, then bring the rows in order.
        spans: dict[_Batch, range] = {}
        for batch, rows in pieces:
            spans[batch] = range(spans.get(batch, rows).start, rows.stop)
        joined = pa.concat_batches([batch.load().slice(span.start, len(span)) for batch, span in spans.items()])
        positions = accumulate(map(len, spans.values()), initial=0)
        shifts = {batch: position - span.start for (batch, span), position in zip(spans.items(), positions, strict=False)}
        order = chain.from_iterable(range(rows.start + shifts[batch], rows.stop + shifts[batch]) for batch, rows in pieces)
        self._emit(joined.take(pa.array(list(order), pa.int64())))

    def _hold(self, batch: _Batch) -> None:
        """Keep a batch that has to wait: in memory while there is room."""
        if not batch.rows_left:
            return
        if self._waiting_bytes + batch.size_bytes > self._buffer_bytes:
            batch.spill(self._spill)
        else:
            batch.held_bytes = batch.size_bytes
            self._waiting_bytes += batch.size_bytes


class _Batch:
    """A batch some of whose rows still wait."""

    __slots__ = ("_batch", "_spilled", "held_bytes", "row_bytes", "rows_left", "size_bytes")

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._batch: pa.RecordBatch | None = batch
        self._spilled: Spilled | None = None
        self.size_bytes: int = batch.nbytes
        self.row_bytes = self.size_bytes / batch.num_rows
        self.rows_left: int = batch.num_rows
        self.held_bytes = 0

    def spill(self, file: SpillFile) -> None:
        self._spilled = file.write(self.load())
        self._batch = None

    def load(self) -> pa.RecordBatch:
        if self._batch is None and self._spilled is not None:
            self._batch = self._spilled.load()
        return self._batch


def _stretches(ordinals: Sequence[int]) -> list[range]:
    """The positions of consecutive numbers among ascending ones."""
    if not ordinals:
        return []
    if ordinals[-1] - ordinals[0] == len(ordinals) - 1:
        return [range(len(ordinals))]
    breaks = [row for row, (one, other) in enumerate(pairwise(ordinals), 1) if other - one != 1]
    return [range(start, end) for start, end in pairwise([0, *breaks, len(ordinals)])]


def _size_bytes(results: Sequence[ItemResult]) -> int:
    """About how much memory results take: their texts, and what Python needs around them."""
    size = _ROW_BYTES * len(results)
    for _, _, output, error, _, _, _, nodes in results:
        size += len(output) if output.__class__ is bytes else _text_bytes(output)
        if error is not None:
            size += len(error.message) + len(error.traceback or "")
        for node in nodes:
            size += _NODE_BYTES + len(node[5] or b"") + len(node[6] or b"")
    return size


def about_bytes(results: Sequence[ItemResult]) -> float:
    """The same, as a few of them tell: to find out by making rows of them would take as long as to make them."""
    some = results[:: max(len(results) // _LOOKED_AT, 1)]
    return _size_bytes(some) / len(some) * len(results)


def _text_bytes(value: Any) -> int:
    """About how many bytes of text are in a checked output: dicts, lists and scalars."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_text_bytes, value.values()))
    return sum(map(_text_bytes, value)) if isinstance(value, list) else 8


def _shown(gap: range) -> str:
    return str(gap.start) if len(gap) == 1 else f"{gap.start}–{gap.stop - 1}"
