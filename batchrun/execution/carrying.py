"""Carrying over rows and outputs of nodes from an earlier execution into the journal of a refresh, which from then on stands alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Self

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchrun.core.errors import ExecutionError
from batchrun.core.items import ITEM_STATUSES, KeptNode
from batchrun.datasets import Loaded
from batchrun.execution.comparing import PARTIAL, REUSED, Compared
from batchrun.execution.restored_nodes import kept_nodes
from batchrun.results import ResultLayout
from batchrun.results.files import discard, hidden, publish
from batchrun.results.flat import nested
from batchrun.results.journal import NODES, ROWS, Journal
from batchrun.results.kept import nodes_frame
from batchrun.results.parquet import RowGroups
from batchrun.results.reader import open_results
from batchrun.results.recovery import rows_frame

REMOVED_FILE = "removed.parquet"
"""The last rows of the items that are not in the dataset any more."""

_FRAME_ROWS = 8_192
_FRAME_BYTES = 16 * 2**20
_NODE_ROWS = 1_000
_STATUSES = pa.array(ITEM_STATUSES, pa.string())


class Carrier:
    """Copies what still holds of an earlier result, a row group at a time.

    Args:
        compared: what holds.
        items: of the new execution.
        layout: of its result.
    """

    def __init__(self, compared: Compared, items: Loaded, layout: ResultLayout) -> None:
        self._compared = compared
        self._items = items
        self._layout = layout
        self._schema = layout.schema
        self._base_id = compared.base.id
        self._matched = compared.items.filter(pl.col("base").is_not_null()).sort("base")

    @property
    def completed_items(self) -> int:
        """How many of the rows that are carried over are those of completed items."""
        return self._compared.items.filter((pl.col("fate") == REUSED) & pl.col("is_completed")).height

    def carry(self, journal: Journal) -> None:
        """Write rows and nodes to a journal, and the rows of removed items to a file beside it.

        Raises:
            ExecutionError: the earlier result cannot be read, or does not fit; or the disk does not take what is written.
        """
        base = self._compared.base.folder
        try:
            with open_results(base) as file:
                if file.metadata.num_rows != self._compared.base_rows:
                    raise ExecutionError(f"the result in {base} has changed meanwhile: begin the refresh again")
                self._carry_all(file, journal)
        except (OSError, pa.ArrowException) as error:
            raise ExecutionError(f"rows of {base} cannot be carried over: {error}; run the job anew") from error

    def _carry_all(self, file: pq.ParquetFile, journal: Journal) -> None:
        first = 0
        with _Removed(journal.folder.parent / REMOVED_FILE) as removed:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                rows = self._matched.filter(pl.col("base").is_between(first, first + table.num_rows, closed="left"))
                rows = rows.with_columns(pl.col("base") - first).sort("ordinal")
                self._carry_group(table, rows, journal)
                if rows.height < table.num_rows:
                    is_gone = ~pl.int_range(table.num_rows, eager=True).is_in(rows["base"].implode())
                    removed.add(table.filter(is_gone.to_arrow()))
                first += table.num_rows

    def _carry_group(self, table: pa.Table, rows: pl.DataFrame, journal: Journal) -> None:
        partial, reused = (rows.filter(pl.col("fate") == fate) for fate in (PARTIAL, REUSED))
        if partial.height:
            for some in partial.iter_slices(_NODE_ROWS):
                if nodes := self._nodes(table, some):
                    journal.append(NODES, nodes_frame(nodes))
        kept = self._kept(reused["ordinal"]) if reused["is_updated"].any() else None
        for first in range(0, reused.height, _FRAME_ROWS):
            some = reused.slice(first, _FRAME_ROWS)
            batch = self._rows(table, some, None if kept is None else kept.slice(first, _FRAME_ROWS))
            ordinals = some["ordinal"].to_list()
            step = max(1, min(batch.num_rows, batch.num_rows * _FRAME_BYTES // max(batch.nbytes, 1)))
            for start in range(0, batch.num_rows, step):
                journal.append(ROWS, memoryview(rows_frame(batch.slice(start, step), ordinals[start : start + step])))

    def _rows(self, table: pa.Table, some: pl.DataFrame, kept: pa.RecordBatch | None) -> pa.RecordBatch:
        """Rows of the new result: those of the earlier one with the places that their items have now."""
        chosen = nested(_taken(table, some["base"]))
        reused_from = pc.coalesce(chosen.column("reused_from"), pa.scalar(self._base_id, pa.string()))
        columns = {**dict(zip(chosen.schema.names, chosen.columns, strict=True)), "reused_from": reused_from}
        columns["item_index"] = some["item_index"].to_arrow()
        columns["status"] = _status(chosen.column("status"))
        if kept is not None:
            columns |= {name: kept.column(name) for name in self._layout.kept}
        arrays = [_as(columns[field.name], field.type) for field in self._schema]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _kept(self, ordinals: pl.Series) -> pa.RecordBatch:
        """The kept columns of items, given in order, as they are now."""
        wanted = bytearray(self._items.total_items)
        for ordinal in ordinals.to_list():
            wanted[ordinal] = 1
        return pa.concat_batches([batch for _, batch in self._items.rest(wanted)])

    def _nodes(self, table: pa.Table, some: pl.DataFrame) -> list[KeptNode]:
        executions = _taken(table.select(["node_executions"]), some["base"]).column("node_executions")
        return list(self._kept_nodes(some, executions))

    def _kept_nodes(self, some: pl.DataFrame, executions: pa.ListArray) -> Iterator[KeptNode]:
        for (ordinal, index), nodes in zip(some.select("ordinal", "item_index").iter_rows(), kept_nodes(executions), strict=True):
            yield from nodes.of_item(ordinal, index, self._compared.kept_steps)


class _Removed:
    """The file of the rows that are not carried over; there is none without such rows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: RowGroups | None = None

    def __enter__(self) -> Self:
        discard(self._path)  # of an attempt that broke off
        return self

    def add(self, rows: pa.Table) -> None:
        """Take rows."""
        plain = rows.replace_schema_metadata()
        self._file = self._file or RowGroups(hidden(self._path), plain.schema)
        for batch in plain.combine_chunks().to_batches():
            self._file.append(batch)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._file is not None:
            try:
                if kind is None:
                    self._file.close()
                    publish(hidden(self._path), self._path)
            finally:
                self._file.abandon()
                discard(hidden(self._path))


def _taken(table: pa.Table, rows: pl.Series) -> pa.RecordBatch:
    """Rows of a table as one batch."""
    count = len(rows)
    if count and rows[-1] - rows[0] == count - 1 and rows.is_sorted():
        chosen = table.slice(rows[0], count)
    else:
        chosen = table.take(pa.array(rows.to_list(), pa.int64()))
    batches = chosen.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)


def _status(column: pa.Array) -> pa.Array:
    """Statuses numbered as in every journal."""
    codes = pc.index_in(column.dictionary_decode() if pa.types.is_dictionary(column.type) else column, _STATUSES)
    return pa.DictionaryArray.from_arrays(codes.cast(pa.int8()), _STATUSES)


def _as(column: pa.Array, kind: pa.DataType) -> pa.Array:
    return column if column.type == kind else column.cast(kind)
