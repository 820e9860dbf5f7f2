"""The items of a dataset, in lists for the workers and in Arrow form for the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import polars as pl
import pyarrow as pa

from batchrun.core.errors import ExecutionError
from batchrun.core.items import Item
from batchrun.datasets.ahead import ahead
from batchrun.datasets.handing import ORDINAL, ItemShape
from batchrun.datasets.kept import Kept
from batchrun.datasets.parquet import ReadFailed
from batchrun.datasets.row_digests import row_digests
from batchrun.datasets.scan import INDEX, Scan, Slab
from batchrun.datasets.schema import to_batch

_DIGESTED_ROWS = 16_384
_LIST_ITEMS = 2_048
_LIST_BYTES = 4 * 2**20
_MEASURED_ROWS = 2_048
_REST_ROWS = 65_536
_REST_BYTES = 16 * 2**20

_ORDINAL = ORDINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The items of a dataset version, checked and counted.

    Attributes:
        total_items: how many items there are.
        rejected_rows: CSV rows that did not parse and were written to the rejects file.
        window_schema: `source_item_id`, `item_index`, then the kept columns with the types of the source.
        source_schema: the columns of the files, whether the workflow reads them or not.
        selection: which rows became items: a hash of their positions when there is a filter or a sample, else how many they are.
            On the same files and with the same options it is another one exactly when other rows are selected, as with
            `CURRENT_DATE` in the filter on another day. It says nothing about the values of these rows, so it misses computed
            columns that came out differently.
    """

    total_items: int
    rejected_rows: int
    window_schema: pa.Schema
    source_schema: pa.Schema
    selection: str
    scan: Scan
    kept: Kept
    id_column: str
    columns: tuple[str, ...]

    def windows(self, wanted: bytearray | None = None) -> Iterator[list[Item]]:
        """The items in order, in lists of at most a few thousand items and a few megabytes; no list is empty.

        Args:
            wanted: 1 at the ordinal of each item that is handed out, with a length of `total_items`; null: all are. Ordinals
                stay what they are, so those of the other items are left out. Looked at as reading goes on.

        Raises:
            ExecutionError: a file is damaged, or an expression fails on a value.
        """
        columns = list(dict.fromkeys([*self.columns, *self._copied()]))
        for frame in self._frames(wanted, columns):
            step = _step(frame, _LIST_ITEMS, _LIST_BYTES)
            for start in range(0, frame.height, step):
                yield self._items(frame.slice(start, step))

    def rows_of(self, wanted: bytearray | None = None) -> Iterator[pl.DataFrame]:
        """The same as rows, with their ordinals: `shape` makes items of them, in this process or in another one."""
        for frame in self._frames(wanted, self.shape.read):
            step = _step(frame, _LIST_ITEMS, _LIST_BYTES)
            for start in range(0, frame.height, step):
                yield frame.slice(start, step)

    @property
    def shape(self) -> ItemShape:
        """How rows become items."""
        return ItemShape(id_column=self.id_column, columns=self.columns, window_schema=self.window_schema)

    def rest(self, left: bytearray) -> Iterator[tuple[pa.Int64Array, pa.RecordBatch]]:
        """The ordinals and the window columns of items that are not run, in order, a bounded number at a time.

        Args:
            left: 1 at the ordinal of each such item, with a length of `total_items`.

        Raises:
            ExecutionError: a file is damaged, or an expression fails on a value.
        """
        for frame in self._frames(left, list(dict.fromkeys(self._copied()))):
            for some in _parts(frame, _step(frame, _REST_ROWS, _REST_BYTES)):
                yield some[_ORDINAL].to_arrow(), self._copies(some)

    def rows(self, indexes: pa.Int64Array) -> Iterator[pa.RecordBatch]:
        """`item_index` and all source columns of some items.

        A source column that is itself called `item_index` gives way to the position.

        Args:
            indexes: their `item_index`, ascending.

        Raises:
            ExecutionError: a file is damaged.
        """
        wanted = pl.Series(indexes, dtype=pl.Int64)
        names = self.source_schema.names
        schema = pa.schema([pa.field("item_index", pa.int64()), *(field for field in self.source_schema if field.name != "item_index")])
        source = replace(self.scan, query=replace(self.scan.query, added={}))

        def between(start: int, stop: int) -> pl.Series:
            return wanted[wanted.search_sorted(start) : wanted.search_sorted(stop)]

        def has_any(start: int, stop: int) -> bool:
            return len(between(start, stop)) > 0

        def ranges() -> Iterator[tuple[int, int]]:
            for piece in source.table.pieces(0, source.table.rows, source.query.file_columns(names), has_any):
                some = between(piece.start, piece.start + piece.rows)
                yield some[0], some[-1] + 1

        for slab in _reading(source.slabs(ranges(), names)):
            hit = slab.frame.filter(pl.col(INDEX).is_in(between(slab.start, slab.stop).implode()))
            if hit.height:
                yield to_batch(hit.select(INDEX, *schema.names[1:]).to_arrow().columns, schema)

    def digests(self, *groups: Sequence[str]) -> Iterator[pl.DataFrame]:
        """`source_item_id`, `item_index`, and for each group of columns a number for their values, named by its position: `"0"`, `"1"`.

        All items in order, a bounded number at a time. See `row_digests`.

        Raises:
            ExecutionError: a file is damaged, or an expression fails on a value.
        """
        columns = list(dict.fromkeys(chain(() if self.id_column == INDEX else (self.id_column,), *groups)))
        # A number is made of the text of a row, which takes many times the memory of its values.
        for frame in chain.from_iterable(frame.iter_slices(_DIGESTED_ROWS) for frame in self._frames(None, columns)):
            numbers = {group: row_digests(frame, group) for group in dict.fromkeys(map(tuple, groups))}
            named = (numbers[tuple(group)].alias(str(at)) for at, group in enumerate(groups))
            yield pl.DataFrame([frame[self.id_column].alias("source_item_id"), frame[INDEX].alias("item_index"), *named])

    def _frames(self, wanted: bytearray | None, columns: list[str]) -> Iterator[pl.DataFrame]:
        """The wanted items with their ordinals; never an empty frame. Row groups without a wanted item are not read."""
        kept = self.kept

        def is_needed(start: int, stop: int) -> bool:
            return _has_any(wanted, kept.before(start), kept.before(stop))

        for slab in ahead(_reading(self.scan.slabs([(0, kept.stop)], columns, is_needed, kept.mask))):
            first = kept.before(slab.start)
            stop = first + slab.frame.height
            numbered = slab.frame.with_columns(pl.int_range(first, stop, dtype=pl.Int64).alias(_ORDINAL))
            if wanted is not None and not _has_all(wanted, first, stop):
                numbered = numbered.filter(_mask(wanted[first:stop]))
            if numbered.height:
                yield numbered

    def _copied(self) -> list[str]:
        return self.shape.copied

    def _copies(self, frame: pl.DataFrame) -> pa.RecordBatch:
        return self.shape.copies(frame)

    def _items(self, frame: pl.DataFrame) -> list[Item]:
        return self.shape.items(frame)


def _reading(slabs: Iterator[Slab]) -> Iterator[Slab]:
    try:
        yield from slabs
    except ReadFailed as error:
        raise ExecutionError(f"reading the dataset failed: {error}") from error


def _step(frame: pl.DataFrame, rows: int, size_bytes: int) -> int:
    """How many rows of a frame to take at a time, at most so many and of about so many bytes, by some of its rows where there are many."""
    some = [part.head(_MEASURED_ROWS) for part in frame.iter_slices(frame.height // 16 + 1)]
    some_bytes = sum(int(part.estimated_size()) for part in some)
    return max(1, min(rows, sum(part.height for part in some) * size_bytes // max(some_bytes, 1)))


def _parts(frame: pl.DataFrame, rows: int) -> Iterator[pl.DataFrame]:
    """A frame in parts of at most so many rows. Cut where its chunks end, unless they are short: to join two moves all their texts."""
    start = stop = 0
    for length in max((column.chunk_lengths() for column in frame.iter_columns()), key=len):
        stop += length
        if stop == frame.height or 4 * (stop - start) >= rows:
            yield from frame.slice(start, stop - start).iter_slices(rows)
            start = stop


def _has_any(wanted: bytearray | None, start: int, stop: int) -> bool:
    """Whether an item from `start` to before `stop` is wanted."""
    return start < stop and (wanted is None or wanted.find(1, start, stop) >= 0)


def _has_all(wanted: bytearray, start: int, stop: int) -> bool:
    return wanted.find(0, start, stop) < 0


def _mask(marks: bytearray) -> pl.Series:
    return pl.Series(pa.Array.from_buffers(pa.uint8(), len(marks), [None, pa.py_buffer(marks)])) == 1
