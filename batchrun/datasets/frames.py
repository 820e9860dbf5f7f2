"""Data frames as datasets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from batchrun.datasets.spool import ParquetSink

ONE_VALUE = "input"
"""The column of a dataset whose items are one value each."""

_BATCH_ROWS = 10_000


def frame_of_values(values: Any) -> tuple[Any, str | None]:
    """A dataset that was given as a list, as a data frame; and the column that its values are in, when they have no columns.

    Dicts become rows. Other values become the only column, `input`. What is no list is returned as it is.

    Raises:
        TypeError: the values do not have one type.

    Example:
        >>> frame_of_values(["a", "b"])[1]
        'input'
    """
    if not isinstance(values, list | tuple):
        return values, None
    are_rows = bool(values) and all(isinstance(value, Mapping) for value in values)
    try:
        if are_rows:
            return pl.from_dicts(list(values), infer_schema_length=None), None
        return pl.DataFrame({ONE_VALUE: pl.Series(values, strict=True)}), ONE_VALUE
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"the list is not a dataset: its values do not have one type: {str(error).partition(chr(10))[0]}") from error


def spool_frame(frame: Any, path: Path) -> None:
    """Write a data frame to a Parquet file, which appears only when it is complete.

    A lazy frame is run and written batch by batch. Row order is kept.

    Args:
        frame: a polars DataFrame or LazyFrame, a pyarrow Table, or anything else that exports an Arrow stream of rows
            (`__arrow_c_stream__`), a pandas DataFrame for example.
        path: where the file goes; replaced if there is one.

    Raises:
        TypeError: `frame` is none of these, or holds a column that Parquet cannot store.
    """
    if isinstance(frame, pl.DataFrame | pl.LazyFrame) and pl.Object in frame.collect_schema().dtypes():
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
