"""Parquet files written in one go: the copies the loader makes of what cannot be read in slices."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from batchrun.datasets.schema import plain_schema, to_batch

_GROUP_ROWS = 65_536
_GROUP_BYTES = 16 * 2**20


class ParquetSink:
    """Writes batches to a Parquet file that appears under its name only when all of it is there.

    The row groups are small, so that a reader needs little memory. A copy that is read once by the process that writes it needs
    no statistics, which cost more to write than they save then, and no plain types.
    """

    def __init__(self, path: Path, schema: pa.Schema, *, is_copy: bool = False) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.tmp")
        self._schema, self._has_statistics = schema if is_copy else plain_schema(schema), not is_copy
        self._held: list[pa.RecordBatch] = []
        self._held_bytes = self._held_rows = 0
        self.rows = 0

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # To look for values that repeat takes most of the time of writing texts and numbers.
        repeating = [field.name for field in self._schema if pa.types.is_dictionary(field.type)]
        self._writer = pq.ParquetWriter(
            self._temporary,
            self._schema,
            use_dictionary=repeating or False,
            compression="lz4",
            write_statistics=self._has_statistics,
        )
        return self

    def write(self, data: pa.RecordBatch | pa.Table) -> None:
        """Add rows. Their types are made those of the file."""
        table = pa.Table.from_batches([data]) if isinstance(data, pa.RecordBatch) else data
        for batch in table.to_batches() if table.schema == self._schema else [to_batch(table.columns, self._schema)]:
            self._add(batch)

    def _add(self, batch: pa.RecordBatch) -> None:
        self.rows += batch.num_rows
        step = max(1, min(_GROUP_ROWS, batch.num_rows * _GROUP_BYTES // max(batch.nbytes, 1)))
        for start in range(0, batch.num_rows, step):
            part = batch.slice(start, step)
            self._held.append(part)
            self._held_bytes += part.nbytes
            self._held_rows += part.num_rows
            if self._held_bytes >= _GROUP_BYTES or self._held_rows >= _GROUP_ROWS:
                self._flush()

    def _flush(self) -> None:
        if self._held:
            self._writer.write_table(pa.Table.from_batches(self._held))
        self._held, self._held_bytes, self._held_rows = [], 0, 0

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._flush()
            self._writer.close()
            if kind is None:
                self._temporary.replace(self._path)
        finally:
            self._temporary.unlink(missing_ok=True)
