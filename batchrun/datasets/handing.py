"""Items made from rows: in the process that reads the dataset, or in another one that the rows are handed to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import repeat
from typing import Any

import polars as pl
import pyarrow as pa

from batchrun.core.items import Item
from batchrun.datasets.scan import INDEX
from batchrun.datasets.schema import to_batch

ORDINAL = "__batchrun_ordinal"
"""The column of rows with the ordinals of their items."""

# Item._make without its Python frame: a fifth of the time it takes to make an item.
_item: Callable[[tuple[Any, ...]], Item] = partial(tuple.__new__, Item)


@dataclass(frozen=True, slots=True)
class ItemWindow:
    """The columns of one list of items that the result copies: `source_item_id`, `item_index` and the kept ones."""

    columns: pa.RecordBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemShape:
    """How the rows of a dataset become items.

    Attributes:
        id_column: gives `source_item_id`.
        columns: those that the workflow reads.
        window_schema: see `Loaded`.
    """

    id_column: str
    columns: tuple[str, ...]
    window_schema: pa.Schema

    @property
    def copied(self) -> list[str]:
        """The columns that the result copies, besides the position."""
        kept = self.window_schema.names[2:]
        return kept if self.id_column == INDEX else [self.id_column, *kept]

    @property
    def read(self) -> list[str]:
        """All columns that items are made of."""
        return list(dict.fromkeys([*self.columns, *self.copied]))

    def copies(self, frame: pl.DataFrame) -> pa.RecordBatch:
        """What the result copies of rows."""
        # One by one, each in one chunk: a frame would hand its columns to the threads that read ahead, and wait for them.
        columns = (frame[name].to_arrow() for name in (self.id_column, INDEX, *self.window_schema.names[2:]))
        return to_batch([pa.chunked_array([column]) for column in columns], self.window_schema)

    def items(self, frame: pl.DataFrame) -> list[Item]:
        """One item for each row."""
        window = ItemWindow(self.copies(frame))
        count = frame.height
        indexes = frame[INDEX].to_list()
        ids: list[Any] = indexes if self.id_column == INDEX else frame[self.id_column].to_list()
        data: Any = frame.select(self.columns).to_struct().to_list() if self.columns else ({} for _ in range(count))
        return list(map(_item, zip(frame[ORDINAL].to_list(), indexes, ids, data, repeat(window), range(count), strict=False)))


def packed_rows(frame: pl.DataFrame) -> bytes:
    """Rows as bytes, for another process.

    Example:
        >>> unpacked_rows(packed_rows(pl.DataFrame({"a": [1]}))).rows()
        [(1,)]
    """
    sink = BytesIO()
    frame.write_ipc_stream(sink)
    return sink.getvalue()


def unpacked_rows(data: bytes | memoryview) -> pl.DataFrame:
    """The rows again."""
    return pl.read_ipc_stream(BytesIO(data))
