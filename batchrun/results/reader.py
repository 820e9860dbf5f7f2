"""Reading the result of an execution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from batchrun.core.errors import ExecutionError, JobError
from batchrun.core.filters import compared_whole, why_refused

RESULT_FILE = "results.parquet"

_BATCH_ROWS = 8192


def read_results(folder: Path) -> pa.Table:
    """The whole result in memory. The metadata of the file is the metadata of the table's schema.

    Raises:
        ExecutionError: there is no readable result in the folder.
    """
    with open_results(folder) as file:
        return file.read()


def scan_results(folder: Path) -> pl.LazyFrame:
    """The result as a polars query, read when it is collected.

    Raises:
        ExecutionError: there is no readable result in the folder.
    """
    open_results(folder).close()
    return pl.scan_parquet(folder / RESULT_FILE)


def query_results(folder: Path, condition: str | None) -> pl.LazyFrame:
    """The rows of the result for which a SQL WHERE expression over its columns is true; null: all rows.

    Raises:
        JobError: the condition is not one on the result's columns.
        ExecutionError: there is no readable result in the folder.

    Example:
        >>> query_results(folder, "error.type = 'Timeout'").collect()  # doctest: +SKIP
    """
    frame = scan_results(folder)
    return frame if condition is None else matching(frame, condition)


def matching(frame: pl.LazyFrame, condition: str) -> pl.LazyFrame:
    """The rows of a frame for which a SQL WHERE expression over its columns is true.

    Raises:
        JobError: the condition is not one on these columns.
    """
    return frame.filter(condition_on(frame, condition))


def condition_on(frame: pl.LazyFrame, condition: str) -> pl.Expr:
    """A SQL WHERE expression over the columns of a frame.

    Raises:
        JobError: the condition is not one on these columns.
    """
    types = frame.collect_schema()
    try:
        expression = pl.sql_expr(condition)
        pl.DataFrame(schema=types).clear(1).filter(expression)
    except pl.exceptions.PolarsError as error:
        raise bad_filter(error, condition, frame) from None
    if wrong := compared_whole(expression, types):
        raise JobError([f"filter {condition!r} cannot be used: {wrong}"])
    return expression


def bad_filter(error: pl.exceptions.PolarsError, condition: str, frame: pl.LazyFrame) -> JobError:
    """What to raise when a condition on a frame is refused, for its columns or for their values."""
    return JobError([f"filter {condition!r} cannot be used: {why_refused(error, condition, frame.collect_schema())}"])


def result_metadata(folder: Path) -> dict[str, str]:
    """The metadata of the result file: what the execution was, and its counters.

    Raises:
        ExecutionError: there is no readable result in the folder.
    """
    with open_results(folder) as file:
        return {key.decode(): value.decode() for key, value in file.metadata.metadata.items() if key != b"ARROW:schema"}


def iter_results(folder: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The result in order, a few thousand rows at a time; at least one batch, so that the columns are known.

    Args:
        folder: the execution's folder.
        columns: the columns to read; null: all.

    Raises:
        ExecutionError: there is no readable result in the folder.
    """
    with open_results(folder) as file:
        if file.metadata.num_rows == 0:
            yield pa.RecordBatch.from_pylist([], file.schema_arrow)
        yield from file.iter_batches(_BATCH_ROWS, columns=columns)


def open_results(folder: Path) -> pq.ParquetFile:
    """The file with the result, to be closed by the caller.

    Raises:
        ExecutionError: there is no readable result in the folder.
    """
    path = folder / RESULT_FILE
    try:
        return pq.ParquetFile(path, pre_buffer=False)  # reading ahead would hold the whole file in memory
    except FileNotFoundError as error:
        raise ExecutionError(f"there is no {path}: the execution has not ended, or this is not the folder of an execution") from error
    except (OSError, pa.ArrowException) as error:
        raise ExecutionError(f"cannot read {path}: {error}") from error
