"""The items of a dataset, in lists for the workers and in Arrow form for the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import polars as pl
import pyarrow as pa

from batchrun.core.errors import ExecutionError
from batchrun.core.items import Item
from batchrun.datasets.handing import ORDINAL, ItemShape
from batchrun.datasets.parquet import ReadFailed
from batchrun.datasets.row_digests import row_digests
from batchrun.datasets.scan import INDEX, Scan, Slab
from batchrun.datasets.schema import to_batch
from batchrun.datasets.selection import Block

_LIST_ITEMS = 2_048
_LIST_BYTES = 4 * 2**20
_REST_ROWS = 131_072

_ORDINAL = ORDINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The items of a dataset version, checked and counted.

    Attributes:
        total_items: how many items there are.
        rejected_rows: CSV rows that did not parse and were written to the rejects file.
        window_schema: `source_item_id`, `item_index`, then the kept columns with the types of the source.
        source_schema: the columns of the files, whether the workflow reads them or not.
        selection: which rows became items: a hash of their positions when there is a filter, a sample or an id column, else
            how many they are. On the same files and with the same options it is another one exactly when other rows are
            selected, as with `CURRENT_DATE` in the filter on another day. It says nothing about the values of these rows,
            so it misses computed columns that came out differently.
    """

    total_items: int
    rejected_rows: int
    window_schema: pa.Schema
    source_schema: pa.Schema
    selection: str
    scan: Scan
    blocks: tuple[Block, ...]
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
            step = max(1, min(_LIST_ITEMS, frame.height * _LIST_BYTES // max(int(frame.estimated_size()), 1)))
            for start in range(0, frame.height, step):
                yield self._items(frame.slice(start, step))

    def rows_of(self, wanted: bytearray | None = None) -> Iterator[pl.DataFrame]:
        """The same as rows, with their ordinals: `shape` makes items of them, in this process or in another one."""
        for frame in self._frames(wanted, self.shape.read):
            step = max(1, min(_LIST_ITEMS, frame.height * _LIST_BYTES // max(int(frame.estimated_size()), 1)))
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
            for start in range(0, frame.height, _REST_ROWS):
                some = frame.slice(start, _REST_ROWS)
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
        source = replace(self.scan, query=replace(self.scan.query, added={}, where=None, sample=None))

        def between(start: int, stop: int) -> pl.Series:
            return wanted[wanted.search_sorted(start) : wanted.search_sorted(stop)]

        def ranges() -> Iterator[tuple[int, int]]:
            for piece in source.table.pieces(0, source.table.rows, source.query.file_columns(names), source.pruned):
                some = between(piece.start, piece.start + piece.rows)
                if len(some):
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
        for frame in self._frames(None, columns):
            numbers = {group: row_digests(frame, group) for group in dict.fromkeys(map(tuple, groups))}
            named = (numbers[tuple(group)].alias(str(at)) for at, group in enumerate(groups))
            yield pl.DataFrame([frame[self.id_column].alias("source_item_id"), frame[INDEX].alias("item_index"), *named])

    def _frames(self, wanted: bytearray | None, columns: list[str]) -> Iterator[pl.DataFrame]:
        """The wanted items with their ordinals; never an empty frame."""
        for block in self._runs(wanted):
            if not _has_any(wanted, block.ordinal, block.ordinal + block.items):
                continue
            for first, frame in self._numbered(block, wanted, columns):
                stop = first + frame.height
                numbered = frame.with_columns(pl.int_range(first, stop, dtype=pl.Int64).alias(_ORDINAL))
                if wanted is not None and not _has_all(wanted, first, stop):
                    numbered = numbered.filter(_mask(wanted[first:stop]))
                if numbered.height:
                    yield numbered

    def _runs(self, wanted: bytearray | None) -> Iterator[Block]:
        """The blocks; those that follow on one another and are wanted as a whole are one, as each is begun to be read anew."""
        run: Block | None = None
        for block in self.blocks:
            is_whole = wanted is None or _has_all(wanted, block.ordinal, block.ordinal + block.items)
            if run is not None and is_whole and run.stop == block.start:
                run = Block(run.start, block.stop, run.ordinal, run.items + block.items)
                continue
            if run is not None:
                yield run
            run = block if is_whole else None
            if not is_whole:
                yield block
        if run is not None:
            yield run

    def _numbered(self, block: Block, wanted: bytearray | None, columns: list[str]) -> Iterator[tuple[int, pl.DataFrame]]:
        """The rows of a block in frames, each with the ordinal of its first row; those without a wanted item are not read."""
        ranges, first = [(block.start, block.stop)], block.ordinal
        if wanted is None or _has_all(wanted, first, first + block.items):
            for slab in _reading(self.scan.slabs(ranges, columns)):
                yield first, slab.frame
                first += slab.frame.height
            return
        positions = None  # each row is an item
        if block.items < block.stop - block.start:  # to find the items costs less than to read all columns of the others
            positions = pl.concat(slab.frame[INDEX] for slab in _reading(self.scan.slabs(ranges, [])))

        def ordinal_at(position: int) -> int:
            return first + (position - block.start if positions is None else positions.search_sorted(position))

        def is_needed(start: int, stop: int) -> bool:
            return _has_any(wanted, ordinal_at(start), ordinal_at(stop))

        for slab in _reading(self.scan.slabs(ranges, columns, is_needed)):
            yield ordinal_at(slab.start), slab.frame

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


def _has_any(wanted: bytearray | None, start: int, stop: int) -> bool:
    """Whether an item from `start` to before `stop` is wanted."""
    return wanted is None or wanted.find(1, start, stop) >= 0


def _has_all(wanted: bytearray, start: int, stop: int) -> bool:
    return wanted.find(0, start, stop) < 0


def _mask(marks: bytearray) -> pl.Series:
    return pl.Series(pa.Array.from_buffers(pa.uint8(), len(marks), [None, pa.py_buffer(marks)])) == 1
