"""The items of a dataset, in lists for the workers and in Arrow form for the result."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from typing import Any

import polars as pl
import pyarrow as pa

from batchrun.core.errors import ExecutionError
from batchrun.core.items import Item
from batchrun.datasets.parquet import ReadFailed
from batchrun.datasets.scan import INDEX, Scan, Slab
from batchrun.datasets.schema import to_batch
from batchrun.datasets.selection import Block

_LIST_ITEMS = 2_048
_LIST_BYTES = 4 * 2**20

# Item._make without its Python frame: a fifth of the time it takes to make an item.
_item: Callable[[tuple[Any, ...]], Item] = partial(tuple.__new__, Item)


@dataclass(frozen=True, slots=True)
class ItemWindow:
    """The columns of one list of items that the result copies: `source_item_id`, `item_index` and the kept ones."""

    columns: pa.RecordBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The items of a dataset version, checked and counted.

    Attributes:
        total_items: how many items there are.
        rejected_rows: CSV rows that did not parse and were written to the rejects file.
        window_schema: `source_item_id`, `item_index`, then the kept columns with the types of the source.
        source_schema: the columns of the files, whether the workflow reads them or not.
    """

    total_items: int
    rejected_rows: int
    window_schema: pa.Schema
    source_schema: pa.Schema
    scan: Scan
    blocks: tuple[Block, ...]
    id_column: str
    columns: tuple[str, ...]

    def windows(self) -> Iterator[list[Item]]:
        """The items in order, in lists of at most a few thousand items and a few megabytes.

        Raises:
            ExecutionError: a file is damaged, or an expression fails on a value.
        """
        ordinal = 0
        columns = list(dict.fromkeys([*self.columns, *self._copied()]))
        for frame in self._frames(self.blocks, columns):
            step = max(1, min(_LIST_ITEMS, frame.height * _LIST_BYTES // max(int(frame.estimated_size()), 1)))
            for start in range(0, frame.height, step):
                items = self._items(frame.slice(start, step), ordinal)
                yield items
                ordinal += len(items)

    def remaining(self, from_ordinal: int) -> Iterator[pa.RecordBatch]:
        """The window columns of the items from `from_ordinal` on, for items that were never run.

        Raises:
            ExecutionError: a file is damaged, or an expression fails on a value.
        """
        at = bisect_right([block.ordinal for block in self.blocks], from_ordinal) - 1
        blocks = list(self.blocks[max(at, 0) :])
        skip = max(from_ordinal - blocks[0].ordinal, 0) if blocks else 0
        if blocks and blocks[0].items == blocks[0].stop - blocks[0].start:
            blocks[0], skip = blocks[0]._replace(start=min(blocks[0].start + skip, blocks[0].stop)), 0
        for frame in self._frames(blocks, list(dict.fromkeys(self._copied()))):
            rest = frame.slice(skip)
            skip = max(skip - frame.height, 0)
            if rest.height:
                yield self._copies(rest)

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

        for slab in self._slabs(source, ranges(), names):
            hit = slab.frame.filter(pl.col(INDEX).is_in(between(slab.start, slab.stop).implode()))
            if hit.height:
                yield to_batch(hit.select(INDEX, *schema.names[1:]).to_arrow().columns, schema)

    def _frames(self, blocks: Sequence[Block], columns: list[str]) -> Iterator[pl.DataFrame]:
        ranges = ((block.start, block.stop) for block in blocks)
        return (slab.frame for slab in self._slabs(self.scan, ranges, columns))

    def _slabs(self, scan: Scan, ranges: Iterable[tuple[int, int]], columns: list[str]) -> Iterator[Slab]:
        try:
            yield from scan.slabs(ranges, columns)
        except ReadFailed as error:
            raise ExecutionError(f"reading the dataset failed: {error}") from error

    def _copied(self) -> list[str]:
        kept = self.window_schema.names[2:]
        return kept if self.id_column == INDEX else [self.id_column, *kept]

    def _copies(self, frame: pl.DataFrame) -> pa.RecordBatch:
        columns = (frame[name] for name in (self.id_column, INDEX, *self.window_schema.names[2:]))
        table = pl.DataFrame([column.alias(str(at)) for at, column in enumerate(columns)]).to_arrow()
        return to_batch(table.columns, self.window_schema)

    def _items(self, frame: pl.DataFrame, first: int) -> list[Item]:
        window = ItemWindow(self._copies(frame))
        count = frame.height
        indexes = frame[INDEX].to_list()
        ids: list[Any] = indexes if self.id_column == INDEX else frame[self.id_column].to_list()
        data: Any = frame.select(self.columns).to_struct().to_list() if self.columns else ({} for _ in range(count))
        return list(map(_item, zip(range(first, first + count), indexes, ids, data, repeat(window), range(count), strict=False)))
