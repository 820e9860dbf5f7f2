"""Rows of the result that another process makes: it hands them over as the journal keeps them, with what was counted."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa

from batchrun.core.items import ItemResult
from batchrun.results.columns import ResultColumns
from batchrun.results.recovery import rows_frame
from batchrun.results.reorder import _size_bytes
from batchrun.results.rows import ResultRows, ascending
from batchrun.results.schema import ResultLayout
from batchrun.results.totals import Tally

_MOST_BYTES = 8 * 2**20


class HandedRows(NamedTuple):
    """Rows of the result.

    Attributes:
        ordinals: of the items, ascending.
        body: the rows, as a frame of the journal has them.
        tally: counts them.
    """

    ordinals: Sequence[int]
    body: bytes
    tally: Tally

    @property
    def weight(self) -> int:
        """How much they are of a backlog: the process that made them has counted them by their number."""
        return len(self.ordinals)

    def batch(self) -> pa.RecordBatch:
        """The rows in Arrow form."""
        rows = pa.ipc.open_stream(pa.py_buffer(self.body)).read_next_batch()
        return rows.remove_column(rows.num_columns - 1)


def handed(rows: ResultRows, layout: ResultLayout) -> HandedRows:
    """Rows that are made already, ready to be handed over."""
    tally = Tally(layout.nodes)
    tally.add_items(rows)
    tally.add_executions(rows)
    ordinals, first, last = rows.ordinals, rows.ordinals[0], rows.ordinals[-1]
    shown = range(first, last + 1) if last - first == len(ordinals) - 1 else array("q", ordinals)
    return HandedRows(shown, rows_frame(rows.batch, ordinals).to_pybytes(), tally)


def handed_rows(results: Sequence[ItemResult], columns: ResultColumns) -> Iterator[HandedRows]:
    """Make rows of results, in batches of a few megabytes at most.

    Args:
        results: in any order.
        columns: makes them.

    Raises:
        pa.ArrowException: a value does not fit its column.
    """
    if not results:
        return
    if len(results) > 1 and _size_bytes(results) > _MOST_BYTES:
        half = len(results) // 2
        yield from handed_rows(results[:half], columns)
        yield from handed_rows(results[half:], columns)
        return
    yield handed(columns.rows(*ascending(results)), columns.layout)
