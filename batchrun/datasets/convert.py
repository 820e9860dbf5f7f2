"""Copies as Parquet of files that cannot be read in slices: CSV, NDJSON, Arrow IPC and whatever is compressed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import pyarrow.ipc

from batchrun.datasets.ahead import ahead
from batchrun.datasets.csv_rows import BadRow
from batchrun.datasets.discover import DataFile, bad_path
from batchrun.datasets.parquet import ParquetTable
from batchrun.datasets.schema import plain_schema
from batchrun.datasets.spool import ParquetSink
from batchrun.datasets.unions import SchemaMode, common_schema

_EXAMPLES = 5
_HELD_ROWS = 1_000
_REJECTS_SCHEMA = pa.schema([("file", pa.string()), ("line_number", pa.int64()), ("raw", pa.string()), ("reason", pa.string())])

Batches: TypeAlias = Iterator[pa.RecordBatch | pa.Table]


class BadRows:
    """Counts the rows that do not parse, and keeps the first few or writes all to a file."""

    def __init__(self, path: Path | None, files: ExitStack) -> None:
        self._path, self._files = path, files
        self._held: list[BadRow] = []
        self._sink: ParquetSink | None = None
        self.count = 0

    def add(self, row: BadRow) -> None:
        """Take note of a row."""
        self.count += 1
        if self._path is not None or self.count <= _EXAMPLES:
            self._held.append(row)
        if len(self._held) >= _HELD_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write the rows held to the file.

        Raises:
            JobError: there are bad rows and no file for them.
        """
        if not self._held:
            return
        if self._path is None:
            shown = "".join(f"\n  {row.file}, line {row.line_number}: {row.reason}: {_printable(row.raw[:200])}" for row in self._held)
            hint = "correct them, or set dataset.on_bad_rows: reject to write them to a file and go on"
            raise bad_path(f"{self.count:,} rows do not parse; {hint}{shown}" + ("\n  …" if self.count > _EXAMPLES else ""))
        self._sink = self._sink or self._files.enter_context(ParquetSink(self._path, _REJECTS_SCHEMA))
        self._sink.write(pa.Table.from_pylist([row._asdict() for row in self._held], _REJECTS_SCHEMA))
        self._held.clear()


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


@contextmanager
def bad_rows(path: Path | None) -> Iterator[BadRows]:
    """Take note of bad rows; at the end they are in the file at `path`, or refused when that is null."""
    with ExitStack() as files:
        rows = BadRows(path, files)
        yield rows
        rows.flush()


def copies(
    files: Sequence[DataFile], folder: Path, schema: pa.Schema, batches: Callable[[DataFile], Batches], max_rows: int | None
) -> ParquetTable:
    """Parquet copies of files, one for each, written batch by batch until there are `max_rows` rows."""
    paths: list[Path] = []
    ends: list[int] = []
    for number, file in enumerate(files):
        before = ends[-1] if ends else 0
        if max_rows is not None and ends and before >= max_rows:
            break
        paths.append(folder / f"{number:05}.parquet")
        # What comes after the last row that is wanted is not even looked at.
        parts = ahead(batches(file)) if max_rows is None else batches(file)
        with ParquetSink(paths[-1], schema, is_copy=True) as sink:
            for batch in parts:
                sink.write(batch)
                if max_rows is not None and before + sink.rows >= max_rows:
                    break
        ends.append(before + sink.rows)
    return ParquetTable(paths=tuple(paths), ends=tuple(ends))


def arrow_batches(file: DataFile) -> Batches:
    """The batches of an Arrow IPC file or stream."""
    with _raw(file) as raw:
        reader = _open(raw)
        yield from reader if isinstance(reader, pa.RecordBatchReader) else map(reader.get_batch, range(reader.num_record_batches))


def inspect_arrow(files: Sequence[DataFile], mode: SchemaMode) -> pa.Schema:
    """The columns of Arrow IPC files.

    Raises:
        JobError: a file is not Arrow IPC, or its columns do not go together with those of the others.
    """
    schemas = []
    for file in files:
        try:
            with _raw(file) as raw:
                schemas.append(plain_schema(_open(raw).schema))
        except (OSError, pa.ArrowException) as error:
            raise bad_path(f"{file.path} is not a readable Arrow file or stream, or is cut off: {error}") from error
    return common_schema(files, schemas, mode)


def _raw(file: DataFile) -> pa.NativeFile:
    return pa.OSFile(str(file.path)) if isinstance(file.path, Path) else pa.PythonFile(file.open(), mode="r")


def _open(raw: pa.NativeFile) -> pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader:
    is_file = raw.read(6) == b"ARROW1"
    raw.seek(0)
    return pa.ipc.open_file(raw) if is_file else pa.ipc.open_stream(raw)
