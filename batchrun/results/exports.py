"""Copies of the result in other formats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from batchrun.core.errors import JobError, known_values
from batchrun.core.items import ITEM_STATUSES
from batchrun.core.output import Export
from batchrun.results.delta_export import write_delta
from batchrun.results.files import replacing
from batchrun.results.flat_values import flat_column
from batchrun.results.partitions import write_partitions
from batchrun.results.reader import bad_filter, condition_on, iter_results, result_metadata, scan_results
from batchrun.results.schema import is_json
from batchrun.workflows.encoding import encode

Format: TypeAlias = Literal["csv", "ndjson", "arrow", "delta"]

PARTITIONS = "partitions"
"""The folder of a copy in partitions."""

DELTA = "delta"
"""The folder of a copy as a Delta table that has no other path."""

_KEEP = "batchrun_keep"
_STATUSES = pa.array(ITEM_STATUSES, pa.string())
_FORMULA = r"[=+\-@\t\r\n\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}]"
"""How texts begin that a spreadsheet may take for formulas: also in the wide letters of East Asian writing."""


class Rows(NamedTuple):
    """The rows that are copied or shown: those of the result, perhaps with more columns.

    Attributes:
        frame: all of them, as a query.
        batches: reads them in order, a few thousand at a time; at least one batch, so that the columns are known.
    """

    frame: pl.LazyFrame
    batches: Callable[[], Iterator[pa.RecordBatch]]

    @classmethod
    def of(cls, folder: Path) -> Rows:
        """Those of the result in a folder.

        Raises:
            ExecutionError: there is no readable result in the folder.
        """
        return cls(scan_results(folder), lambda: iter_results(folder))


def export_results(
    folder: Path,
    formats: Iterable[Format | Export],
    target: Path | None = None,
    filter: str | None = None,  # noqa: A002 - the word of the dataset's filter
    rows: Rows | None = None,
) -> list[Path]:
    """Write copies of the result, a few thousand rows at a time.

    `csv` has nested columns as JSON text and timestamps in ISO 8601; `ndjson` has nested columns as JSON objects, with
    JSON text (`output`, node inputs and outputs) as the value it stands for; `arrow` is an IPC file with the result's types;
    `parquet` is a folder of files, in folders named by the values of columns; `delta` is a commit to a Delta table, see `write_delta`.

    Args:
        folder: the execution's folder, with its result.
        formats: what to write.
        target: folder for the files `results.<format>` and the folder `partitions`; null: the execution's folder.
        filter: SQL WHERE expression over the columns; null: all rows.
        rows: what is written; null: the result.

    Returns:
        The files and folders, in the order of `formats`.

    Raises:
        JobError: a format is unknown, the filter is not a condition on the columns, or there is no column to partition by.
        ExecutionError: the result cannot be read, or a file cannot be written.
    """
    exports = [_long_form(each) for each in formats]
    rows = rows or Rows.of(folder)
    _refuse_unknown(exports, rows)
    keep = None if filter is None else _matches(rows, filter)
    written = []
    for export in exports:
        if export.type == "parquet":
            path = (target or folder) / PARTITIONS
            written.append(write_partitions(path, _batches(rows, keep), export.partition_by))
            continue
        if export.type == "delta":
            place = export.path or str((target or folder) / DELTA)
            write_delta(place, result_metadata(folder)["execution_id"], lambda: _batches(rows, keep))
            written.append(Path(place))
            continue
        path = (target or folder) / f"results.{export.type}"
        with replacing(path) as temporary:
            _WRITERS[export.type](temporary, _batches(rows, keep), export)
        written.append(path)
    return written


def _long_form(export: Format | Export) -> Export:
    if isinstance(export, Export):
        return export
    if export not in (*_WRITERS, DELTA):
        raise JobError([f"unknown export format {export!r}; {known_values(export, [*_WRITERS, DELTA], kind='formats')}"])
    return Export(type=export)


def _refuse_unknown(exports: Iterable[Export], rows: Rows) -> None:
    names = rows.frame.collect_schema().names()
    wrong = [name for export in exports for name in export.partition_by if name not in names]
    if wrong:
        raise JobError([f'unknown column "{name}" to partition by; {known_values(name, names, kind="columns")}' for name in wrong])


def result_lines(folder: Path, condition: str | None, count: int, rows: Rows | None = None) -> Iterator[bytes]:
    """The first rows of the result as JSON, in the form of the `ndjson` export.

    Args:
        folder: the execution's folder, with its result.
        condition: SQL WHERE expression over the columns; null: all rows.
        count: the most rows to give.
        rows: what is read; null: the result.

    Raises:
        JobError: the condition is not one on the columns.
        ExecutionError: the result cannot be read.
    """
    rows = rows or Rows.of(folder)
    for batch in _batches(rows, None if condition is None else _matches(rows, condition)):
        yield from json_lines(batch.slice(0, count))
        count -= batch.num_rows
        if count <= 0:
            return


def _matches(rows: Rows, condition: str) -> pa.BooleanArray:
    """Which rows match: one bit per row, decided over the whole table, so that window functions mean what they say."""
    keep = condition_on(rows.frame, condition).alias(_KEEP)
    try:
        column = rows.frame.with_columns(keep).select(_KEEP).collect().to_series()
    except pl.exceptions.PolarsError as error:  # of a value, as in a cast
        raise bad_filter(error, condition, rows.frame) from error
    return column.fill_null(value=False).to_arrow()


def _batches(rows: Rows, keep: pa.BooleanArray | None) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in rows.batches():
        yield batch if keep is None else batch.filter(keep.slice(start, batch.num_rows))
        start += batch.num_rows


def _write_csv(path: Path, batches: Iterator[pa.RecordBatch], export: Export) -> None:
    cells = map(_csv_cells, batches)
    if export.escape_formulas:
        cells = map(_without_formulas, cells)
    first = next(cells)
    with csv.CSVWriter(path, first.schema) as writer:
        for batch in chain([first], cells):
            writer.write_batch(batch)


def _write_ndjson(path: Path, batches: Iterator[pa.RecordBatch], _export: Export) -> None:
    with path.open("wb") as file:
        for batch in batches:
            file.writelines(line + b"\n" for line in json_lines(batch))


def json_lines(batch: pa.RecordBatch) -> Iterator[bytes]:
    """Rows as JSON objects, with JSON text as the value it stands for."""
    names = batch.schema.names
    columns = [json_values(column, field) for column, field in zip(batch.columns, batch.schema, strict=True)]
    return (encode(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True))


def _write_arrow(path: Path, batches: Iterator[pa.RecordBatch], _export: Export) -> None:
    portable = map(_with_one_dictionary, batches)
    first = next(portable)
    with pa.ipc.new_file(path, first.schema) as writer:
        for batch in chain([first], portable):
            writer.write_batch(batch)


_WRITERS: dict[str, Callable[[Path, Iterator[pa.RecordBatch], Export], None]] = {
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
            values = json_values(column, field)
            columns.append(pa.array([None if value is None else encode(value) for value in values], pa.string()))
        else:
            columns.append(flat_column(column))
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _without_formulas(cells: pa.RecordBatch) -> pa.RecordBatch:
    """The cells with `'` before each text, and each name, that a spreadsheet would take for a formula."""
    columns = [_escaped(column) if pa.types.is_string(column.type) or pa.types.is_large_string(column.type) else column for column in cells]
    return pa.RecordBatch.from_arrays(columns, names=_escaped(pa.array(cells.schema.names, pa.string())).to_pylist())


def _escaped(texts: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(texts, pattern=f"^({_FORMULA})", replacement=r"'\1")


def json_values(column: pa.Array, field: pa.Field) -> list[Any]:
    """Values that `encode` can write; JSON text stands for the value it holds."""
    kind = field.type
    if is_json(field):
        return [None if text is None else orjson.Fragment(text) for text in column.to_pylist()]
    if pa.types.is_struct(kind):
        names = [inner.name for inner in kind]
        columns = [json_values(values, inner) for values, inner in zip(column.flatten(), kind, strict=True)]
        rows = zip(column.is_valid().to_pylist(), zip(*columns, strict=True), strict=True)
        return [dict(zip(names, row, strict=True)) if valid else None for valid, row in rows]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        values = iter(json_values(column.flatten(), kind.value_field))
        return [None if length is None else list(islice(values, length)) for length in pc.list_value_length(column).to_pylist()]
    flat: list[Any] = flat_column(column).to_pylist()
    return flat
