"""Copies of the result in other formats."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from batchrun.core.errors import JobError, known_values
from batchrun.core.items import ITEM_STATUSES
from batchrun.results.files import replacing
from batchrun.results.reader import iter_results, scan_results
from batchrun.results.schema import is_json
from batchrun.workflows.encoding import encode

Format: TypeAlias = Literal["csv", "ndjson", "arrow"]

_KEEP = "batchrun_keep"
_UNITS_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_STATUSES = pa.array(ITEM_STATUSES, pa.string())


def export_results(
    folder: Path,
    formats: Iterable[Format],
    target: Path | None = None,
    filter: str | None = None,  # noqa: A002 - the word of the dataset's filter
) -> list[Path]:
    """Write copies of the result, a few thousand rows at a time.

    `csv` has nested columns as JSON text and timestamps in ISO 8601; `ndjson` has nested columns as JSON objects, with
    JSON text (`output`, node inputs and outputs) as the value it stands for; `arrow` is an IPC file with the result's types.

    Args:
        folder: the execution's folder, with its result.
        formats: what to write.
        target: folder for the files `results.<format>`; null: the execution's folder.
        filter: SQL WHERE expression over the result's columns; null: all rows.

    Returns:
        The files, in the order of `formats`.

    Raises:
        JobError: a format is unknown, or the filter is not a condition on the result's columns.
        ExecutionError: the result cannot be read, or a file cannot be written.
    """
    formats = tuple(formats)
    for name in formats:
        if name not in _WRITERS:
            raise JobError([f"unknown export format {name!r}; {known_values(name, _WRITERS, kind='formats')}"])
    keep = None if filter is None else _matches(folder, filter)
    paths = [(target or folder) / f"results.{name}" for name in formats]
    for name, path in zip(formats, paths, strict=True):
        with replacing(path) as temporary:
            _WRITERS[name](temporary, _batches(folder, keep))
    return paths


def result_lines(folder: Path, condition: str | None, count: int) -> Iterator[bytes]:
    """The first rows of the result as JSON, in the form of the `ndjson` export.

    Args:
        folder: the execution's folder, with its result.
        condition: SQL WHERE expression over the result's columns; null: all rows.
        count: the most rows to give.

    Raises:
        JobError: the condition is not one on the result's columns.
        ExecutionError: the result cannot be read.
    """
    for batch in _batches(folder, None if condition is None else _matches(folder, condition)):
        yield from json_lines(batch.slice(0, count))
        count -= batch.num_rows
        if count <= 0:
            return


def _matches(folder: Path, condition: str) -> pa.BooleanArray:
    """Which rows match: one bit per row, decided over the whole table, so that window functions mean what they say."""
    try:
        column = scan_results(folder).with_columns(pl.sql_expr(condition).alias(_KEEP)).select(_KEEP).collect().to_series()
    except pl.exceptions.PolarsError as error:
        raise JobError([f"filter {condition!r} cannot be used: {str(error).partition(chr(10))[0]}"]) from error
    if column.dtype != pl.Boolean:
        raise JobError([f"filter {condition!r} must be true or false for each row, but is of type {column.dtype}"])
    return column.fill_null(value=False).to_arrow()


def _batches(folder: Path, keep: pa.BooleanArray | None) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in iter_results(folder):
        yield batch if keep is None else batch.filter(keep.slice(start, batch.num_rows))
        start += batch.num_rows


def _write_csv(path: Path, batches: Iterator[pa.RecordBatch]) -> None:
    cells = map(_csv_cells, batches)
    first = next(cells)
    with csv.CSVWriter(path, first.schema) as writer:
        for batch in chain([first], cells):
            writer.write_batch(batch)


def _write_ndjson(path: Path, batches: Iterator[pa.RecordBatch]) -> None:
    with path.open("wb") as file:
        for batch in batches:
            file.writelines(line + b"\n" for line in json_lines(batch))


def json_lines(batch: pa.RecordBatch) -> Iterator[bytes]:
    """Rows as JSON objects, with JSON text as the value it stands for."""
    names = batch.schema.names
    columns = [_json_values(column, field) for column, field in zip(batch.columns, batch.schema, strict=True)]
    return (encode(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True))


def _write_arrow(path: Path, batches: Iterator[pa.RecordBatch]) -> None:
    portable = map(_with_one_dictionary, batches)
    first = next(portable)
    with pa.ipc.new_file(path, first.schema) as writer:
        for batch in chain([first], portable):
            writer.write_batch(batch)


_WRITERS: dict[str, Callable[[Path, Iterator[pa.RecordBatch]], None]] = {
    "csv": _write_csv,
    "ndjson": _write_ndjson,
    "arrow": _write_arrow,
}


def _with_one_dictionary(batch: pa.RecordBatch) -> pa.RecordBatch:
    """An IPC file holds one dictionary per column for all batches: statuses are known, other columns become plain."""
    for position, field in enumerate(batch.schema):
        if pa.types.is_dictionary(field.type):
            plain = batch.column(position).dictionary_decode()
            if field.name == "status":
                plain = pa.DictionaryArray.from_arrays(pc.index_in(plain, value_set=_STATUSES).cast(pa.int8()), _STATUSES)
            batch = batch.set_column(position, field.with_type(plain.type), plain)
    return batch


def _csv_cells(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = []
    for column, field in zip(batch.columns, batch.schema, strict=True):
        if pa.types.is_nested(field.type):
            values = _json_values(column, field)
            columns.append(pa.array([None if value is None else encode(value) for value in values], pa.string()))
        else:
            columns.append(flat_column(column))
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _json_values(column: pa.Array, field: pa.Field) -> list[Any]:
    """Values that `encode` can write; JSON text stands for the value it holds."""
    kind = field.type
    if is_json(field):
        return [None if text is None else orjson.Fragment(text) for text in column.to_pylist()]
    if pa.types.is_struct(kind):
        names = [inner.name for inner in kind]
        columns = [_json_values(values, inner) for values, inner in zip(column.flatten(), kind, strict=True)]
        rows = zip(column.is_valid().to_pylist(), zip(*columns, strict=True), strict=True)
        return [dict(zip(names, row, strict=True)) if valid else None for valid, row in rows]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        values = iter(_json_values(column.flatten(), kind.value_field))
        return [None if length is None else list(islice(values, length)) for length in pc.list_value_length(column).to_pylist()]
    flat: list[Any] = flat_column(column).to_pylist()
    return flat


def flat_column(column: pa.Array) -> pa.Array:
    """A column in types that CSV and JSON know: times as ISO 8601 text, durations in seconds, bytes in base64."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_timestamp(kind):
        if kind.tz is None:
            return pc.strftime(column, format="%Y-%m-%dT%H:%M:%S")
        return pc.strftime(column.cast(pa.timestamp(kind.unit, "UTC")), format="%Y-%m-%dT%H:%M:%SZ")
    if pa.types.is_time(kind):
        return column.cast(pa.string())
    if pa.types.is_duration(kind):
        return pc.divide(column.cast(pa.int64()).cast(pa.float64()), pa.scalar(_UNITS_PER_SECOND[kind.unit]))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.array([None if value is None else base64.b64encode(value) for value in column.to_pylist()], pa.string())
    return column
