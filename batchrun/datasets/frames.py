"""Data frames as datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from batchrun.datasets.spool import ParquetSink

_BATCH_ROWS = 10_000


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
            f"a {type(frame).__module__}.{type(frame).__qualname__} is not a dataset; give a path, a polars DataFrame or LazyFrame, "
            "a pyarrow Table, or an object with __arrow_c_stream__ such as a pandas DataFrame"
        )
    try:
        reader = pa.RecordBatchReader.from_stream(stream)
        with ParquetSink(path, reader.schema) as sink:
            for batch in reader:
                sink.write(batch)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise TypeError(f"the {type(frame).__qualname__} cannot be stored as Parquet: {error}") from error
