"""A copy of the result in many Parquet files, in folders named by values of its columns: `language=en/part-0.parquet`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from batchrun.core.errors import ExecutionError
from batchrun.results.files import explained, hidden

PARTITION_TYPES = ("string", "bool", "date", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
"""Types of columns whose values can name folders."""

_NULL = "__HIVE_DEFAULT_PARTITION__"
_MOST_FOLDERS = 10_000
_MOST_OPEN = 64
_BUFFER_BYTES = 64 * 2**20


def write_partitions(folder: Path, batches: Iterator[pa.RecordBatch], by: Sequence[str]) -> Path:
    """Write a folder of Parquet files, which takes the place of an earlier one when it is complete.

    The columns that name the folders are not in the files, as readers of such folders expect. Null is the folder
    `__HIVE_DEFAULT_PARTITION__`; other values are percent-encoded.

    Args:
        folder: the folder to write.
        batches: the rows.
        by: the columns whose values name the folders, outermost first.

    Returns:
        The folder.

    Raises:
        ExecutionError: it cannot be written, holds other files, or there are more than 10,000 combinations of values.
    """
    temporary = hidden(folder)
    with explained(folder):
        _refuse_others(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir()
            files = _Files(temporary)
            try:
                for batch in batches:
                    for place, rows in _parts(batch, by):
                        files.append(place, rows)
                files.close()
            finally:
                files.abandon()
            _replace(folder, temporary)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _refuse_others(folder: Path) -> None:
    """Only an earlier copy may be replaced: people choose where copies go."""
    other = next((path for path in folder.rglob("*") if path.is_file() and not _is_part(path, folder)), None) if folder.is_dir() else None
    if other is not None or folder.is_file():
        raise ExecutionError(f"cannot write {folder}: {other or folder} is no file of such a copy; move it away, or choose another folder")


def _is_part(path: Path, folder: Path) -> bool:
    names = path.relative_to(folder).parts
    return len(names) > 1 and all("=" in name for name in names[:-1]) and path.match("part-*.parquet")


def _replace(folder: Path, temporary: Path) -> None:
    for path in [*temporary.rglob("*"), temporary]:
        _sync(path)
    earlier = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(earlier, ignore_errors=True)
    with suppress(FileNotFoundError):
        folder.rename(earlier)
    temporary.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(earlier, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _parts(batch: pa.RecordBatch, by: Sequence[str]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The rows of each combination of values, and the folder it names; in the order of the batch."""
    rows = batch.drop_columns(list(by))
    keys = pa.table([_plain(batch.column(name)) for name in by], names=[f"k{at}" for at in range(len(by))])
    numbered = keys.append_column("row", pa.array(range(batch.num_rows), pa.int64()))
    groups = numbered.group_by(keys.column_names, use_threads=False).aggregate([("row", "list")])
    for at, indices in enumerate(groups["row_list"]):
        names = (f"{quote(name, safe='')}={_folder(name, groups[f'k{level}'][at].as_py())}" for level, name in enumerate(by))
        yield "/".join(names), rows.take(indices.values)


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _folder(column: str, value: Any) -> str:
    if value is None:
        return _NULL
    if value == _NULL:
        raise ExecutionError(f'"{column}" has the value {value!r}, and a folder named so would be read as null; give it another value')
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return quote(text, safe=" ").replace(".", "%2E") if set(text) == {"."} else quote(text, safe=" ")


class _Files:
    """The open files of the folders: rows wait until they are worth a row group, or until they take much memory together."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: dict[str, list[pa.RecordBatch]] = {}
        self._bytes: dict[str, int] = {}
        self._all_bytes = 0
        self._open: dict[str, pq.ParquetWriter] = {}
        self._parts: dict[str, int] = {}

    def append(self, place: str, rows: pa.RecordBatch) -> None:
        self._waiting.setdefault(place, []).append(rows)
        self._bytes[place] = self._bytes.get(place, 0) + rows.nbytes
        self._all_bytes += rows.nbytes
        if self._all_bytes > _BUFFER_BYTES:
            for largest in sorted(self._bytes, key=lambda each: -self._bytes[each])[: max(len(self._bytes) // 4, 1)]:
                self._write(largest)

    def close(self) -> None:
        for place in list(self._waiting):
            self._write(place)
        for place in list(self._open):
            self._open.pop(place).close()

    def abandon(self) -> None:
        """Close what is open; the files will be thrown away."""
        for writer in self._open.values():
            with suppress(OSError, pa.ArrowException):
                writer.close()
            writer.is_open = False

    def _write(self, place: str) -> None:
        table = pa.Table.from_batches(self._waiting.pop(place))
        self._all_bytes -= self._bytes.pop(place)
        writer = self._open.pop(place, None) or self._new(place, table.schema)
        self._open[place] = writer  # the one that was used last is the last
        writer.write_table(table)

    def _new(self, place: str, schema: pa.Schema) -> pq.ParquetWriter:
        if place not in self._parts and len(self._parts) >= _MOST_FOLDERS:
            raise ExecutionError(f"partition_by would make more than {_MOST_FOLDERS:,} folders; choose columns with fewer different values")
        if len(self._open) >= _MOST_OPEN:
            self._open.pop(next(iter(self._open))).close()
        number = self._parts[place] = self._parts.get(place, -1) + 1
        (self._folder / place).mkdir(parents=True, exist_ok=True)
        return pq.ParquetWriter(self._folder / place / f"part-{number}.parquet", schema, compression="zstd", compression_level=1)
