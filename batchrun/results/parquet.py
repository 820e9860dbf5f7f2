"""Parquet files written batch by batch in row groups of even size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchrun.results.flat import flat_schema, flattened, is_of_output
from batchrun.results.schema import ResultLayout

_REPEATING = (
    "status",
    "error.type",
    "error.node_id",
    *(f"node_executions.list.element.{name}" for name in ("node_id", "node_type", "status", "error.type", "error.node_id")),
)
"""Columns with few different values. Most others differ in every row: a dictionary would make them larger and slower."""
_GROUP_ROWS = 65_536
_GROUP_BYTES = 16 * 2**20
"""Takes a tenth of a second to compress, in which nothing else is brought to the disk."""


def result_file(path: Path, layout: ResultLayout) -> tuple[RowGroups, Callable[[pa.RecordBatch], None]]:
    """The file of a result, and what takes its rows.

    Raises:
        OSError: it cannot be made.
    """
    schema = flat_schema(layout.schema) if layout.flatten else layout.schema
    flat = [field.name for field in schema if not is_of_output(field) and not pa.types.is_nested(field.type)]
    repeating = [*_REPEATING, *(name for name in layout.kept if name in flat)]
    file = RowGroups(path, schema, use_dictionary=repeating, write_statistics=flat)
    return file, (lambda batch: file.append(flattened(batch, schema))) if layout.flatten else file.append


class RowGroups:
    """Collects batches into row groups of 65,536 rows or 16 MiB, whichever comes first, and writes them.

    Args:
        path: the file to write.
        schema: of every batch.
        options: of `pyarrow.parquet.ParquetWriter`.

    Attributes:
        rows: rows taken so far.

    Raises:
        OSError: from every method but `abandon`: the file cannot be written.
    """

    def __init__(self, path: Path, schema: pa.Schema, **options: Any) -> None:
        self._schema = schema
        self._parquet = pq.ParquetWriter(path, schema, compression="zstd", compression_level=1, **options)
        self._batches: list[pa.RecordBatch] = []
        self._open_rows = 0
        self._open_bytes = 0
        self.rows = 0

    def append(self, batch: pa.RecordBatch) -> None:
        """Take the next rows."""
        self._batches.append(batch)
        self.rows += batch.num_rows
        self._open_rows += batch.num_rows
        self._open_bytes += batch.nbytes
        if self._open_rows >= _GROUP_ROWS or self._open_bytes >= _GROUP_BYTES:
            self._write_group()

    def close(self, metadata: Mapping[str, str] | None = None) -> None:
        """Write what is left, and the metadata of the file."""
        self._write_group()
        self._parquet.add_key_value_metadata(dict(metadata or {}))
        self._parquet.close()

    def abandon(self) -> None:
        """Close the file, which will be thrown away, if it is still open."""
        self._batches = []
        if self._parquet.is_open:
            with suppress(OSError, pa.ArrowException):
                self._parquet.close()
            self._parquet.is_open = False  # else it tries, and fails, again when it is garbage collected

    def _write_group(self) -> None:
        if self._batches:
            table = pa.Table.from_batches(self._batches, self._schema)
            self._batches = []
            self._open_rows = self._open_bytes = 0
            self._parquet.write_table(table, row_group_size=_GROUP_ROWS)
