"""Data frames as datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from math import isnan
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from batchrun.datasets.spool import ParquetSink

ONE_VALUE = "input"
"""The column of a dataset whose items are one value each."""

_BATCH_ROWS = 10_000
_PLAIN = bool | int | float | str | bytes | Decimal | date | time | timedelta


def frame_of_values(values: Any) -> tuple[Any, str | None]:
    """A dataset that was given as a list, as a data frame; and the column that its values are in, when they have no columns.

    Dicts become rows. Other values become the only column, `input`. What is no list is returned as it is.

    Raises:
        TypeError: the values do not have one type, or polars cannot hold one as it is.

    Example:
        >>> frame_of_values(["a", "b"])[1]
        'input'
    """
    if not isinstance(values, list | tuple):
        return values, None
    are_rows = bool(values) and all(isinstance(value, Mapping) for value in values)
    try:
        if are_rows:
            frame = pl.from_dicts(list(values), infer_schema_length=None)
            for name in frame.columns:
                _check_kept(name, [row.get(name) for row in values], frame[name])
            return frame, None
        column = pl.Series(values, strict=True)
        _check_kept(ONE_VALUE, values, column)
        return pl.DataFrame({ONE_VALUE: column}), ONE_VALUE
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"the list is not a dataset: its values do not have one type: {str(error).partition(chr(10))[0]}") from error
    except (pl.exceptions.PanicException, RuntimeError) as error:  # of decimals, which polars does not look at before
        problem = "polars cannot hold one of its values; a Decimal must be finite and have at most 38 digits"
        raise TypeError(f"the list is not a dataset: {problem}: {str(error).partition(chr(10))[0]}") from error


def _check_kept(name: str, given: Sequence[Any], column: pl.Series) -> None:
    """Refuse values that polars changed, or left out, to have one type for all of them: a text made of a number, null for one of two types.

    Raises:
        TypeError: a value is not what was given.
    """
    stored = column.to_list() if column.dtype != pl.Object else given
    if _are_equal(given, stored):
        return
    for row, (value, found) in enumerate(zip(given, stored, strict=True)):
        if not _is_kept(value, found):
            raise TypeError(
                f"{repr(value)[:80]} in row {row} of {name!r} would become {repr(found)[:80]}; give all values of a column one type"
            )


def _is_kept(given: Any, stored: Any) -> bool:
    """Whether a value is what was given. Numbers that are equal are the same, and an object may have more fields, which are null."""
    if _are_equal(given, stored):
        return True
    if isinstance(given, Mapping):
        return isinstance(stored, Mapping) and all(_is_kept(value, stored.get(key)) for key, value in given.items())
    if isinstance(given, list | tuple):
        return isinstance(stored, list) and len(given) == len(stored) and all(map(_is_kept, given, stored))
    if isinstance(given, datetime) and given.tzinfo and isinstance(stored, datetime) and stored.tzinfo:
        return given.astimezone(UTC) == stored.astimezone(UTC)  # `==` of two zones is never true in the hour that comes twice
    is_nan = isinstance(given, float) and isnan(given) and isinstance(stored, float) and isnan(stored)
    return is_nan or not isinstance(given, _PLAIN)  # of other types, such as arrays, only polars knows what they are


def _are_equal(given: Any, stored: Any) -> bool:
    try:
        return bool(given == stored)
    except (TypeError, ValueError):  # of NumPy and data frames: an array of answers
        return False


def spool_frame(frame: Any, path: Path) -> None:
    """Write a data frame to a Parquet file, which appears only when it is complete.

    A lazy frame is run and written batch by batch. Row order is kept.

    Args:
        frame: a polars DataFrame or LazyFrame, a pyarrow Table, or anything else that exports an Arrow stream of rows
            (`__arrow_c_stream__`), a pandas DataFrame for example.
        path: where the file goes; replaced if there is one.

    Raises:
        TypeError: `frame` is none of these, holds a column that Parquet cannot store, or is lazy and asks for what is not there.
    """
    try:
        types = frame.collect_schema().dtypes() if isinstance(frame, pl.DataFrame | pl.LazyFrame) else []
    except pl.exceptions.PolarsError as error:
        raise TypeError(f"the LazyFrame cannot be read: {str(error).partition(chr(10))[0]}") from error
    if pl.Object in types:
        raise TypeError("the frame cannot be stored as Parquet: it has a column of Python objects; give it a type")
    stream = frame.collect_batches(chunk_size=_BATCH_ROWS) if isinstance(frame, pl.LazyFrame) else frame
    if not hasattr(stream, "__arrow_c_stream__"):
        raise TypeError(
            f"a {type(frame).__module__}.{type(frame).__qualname__} is not a dataset; give a path, a list, a polars DataFrame or "
            "LazyFrame, a pyarrow Table, or an object with __arrow_c_stream__ such as a pandas DataFrame"
        )
    try:
        reader = pa.RecordBatchReader.from_stream(stream)
        with ParquetSink(path, reader.schema) as sink:
            for batch in reader:
                sink.write(batch)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise TypeError(f"the {type(frame).__qualname__} cannot be stored as Parquet: {error}") from error
