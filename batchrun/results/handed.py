"""Rows of the result that another process makes: it hands them over as the journal keeps them, with what was counted."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

import pyarrow as pa

from batchrun.core.items import ItemResult
from batchrun.results.columns import ResultColumns
from batchrun.results.recovery import rows_frame
from batchrun.results.reorder import _size_bytes
from batchrun.results.schema import ResultLayout
from batchrun.results.totals import Tally

_MOST_BYTES = 8 * 2**20
_ordinal = attrgetter("item.ordinal")


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

    def batch(self) -> pa.RecordBatch:
        """The rows in Arrow form."""
        rows = pa.ipc.open_stream(pa.py_buffer(self.body)).read_next_batch()
        return rows.remove_column(rows.num_columns - 1)


def handed_rows(results: Sequence[ItemResult], layout: ResultLayout) -> Iterator[HandedRows]:
    """Make rows of results, in batches of a few megabytes at most.

    Args:
        results: in any order.
        layout: what the table looks like.

    Raises:
        pa.ArrowException: a value does not fit its column.
    """
    if len(results) > 1 and _size_bytes(results) > _MOST_BYTES:
        half = len(results) // 2
        yield from handed_rows(results[:half], layout)
        yield from handed_rows(results[half:], layout)
        return
    rows, tally = sorted(results, key=_ordinal), Tally(layout.nodes)
    ordinals = list(map(_ordinal, rows))
    tally.add_results(rows)
    batch = ResultColumns(layout, tally).batch(rows)
    first, last = ordinals[0], ordinals[-1]
    shown = range(first, last + 1) if last - first == len(ordinals) - 1 else array("q", ordinals)
    yield HandedRows(shown, rows_frame(batch, ordinals).to_pybytes(), tally)
