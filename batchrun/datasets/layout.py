"""What the files of a dataset hold, format by format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from batchrun.core.errors import JobError, Problem
from batchrun.core.job import Dataset
from batchrun.datasets.convert import Batches, arrow_batches, inspect_arrow
from batchrun.datasets.csv_rows import BadRow, csv_reader
from batchrun.datasets.discover import DataFile, bad_path
from batchrun.datasets.ndjson import ndjson_reader
from batchrun.datasets.parquet import ParquetTable, inspect_parquet, polars_types
from batchrun.datasets.schema import from_text, guess_type
from batchrun.datasets.text import reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The columns of a dataset's files and the way to its rows.

    Attributes:
        types: the columns as they are read.
        exact: their Arrow types; null when the files have none, and the types of `dataset.schema` are already in `types`.
        table: the files, when they can be read in place.
        batches: reads one file from start to end, when it has to be copied.
    """

    types: Mapping[str, pl.DataType]
    exact: pa.Schema | None = None
    table: ParquetTable | None = None
    batches: Callable[[DataFile, Callable[[BadRow], None]], Batches] | None = None


def inspect(kind: str, files: Sequence[DataFile], dataset: Dataset, declared: Mapping[str, pl.DataType]) -> Layout:
    """Look at the files: their metadata or first rows.

    Raises:
        JobError: a file is damaged, not of its format, or has other columns than the first one.
    """
    if kind == "parquet":
        exact, table = inspect_parquet(files)
        layout = Layout(types=polars_types(files[0].path, exact), exact=exact, table=table)
    elif kind == "arrow":
        exact = inspect_arrow(files)
        layout = Layout(types=polars_types(None, exact), exact=exact, batches=lambda file, _: reading(file, arrow_batches(file)))
    elif kind == "csv":
        try:
            csv = csv_reader(files, dataset.csv, declared)
        except LookupError as error:
            raise JobError([Problem(("dataset", "csv", "encoding"), f"{error}; for example utf-8, latin-1, cp1252 or utf-16")]) from error
        layout = Layout(types=csv.types, batches=lambda file, reject: (frame.to_arrow() for frame in csv.frames(file, reject)))
    else:
        ndjson = ndjson_reader(files, declared)
        layout = Layout(types=ndjson.types, batches=lambda file, _: (frame.to_arrow() for frame in ndjson.frames(file)))
    if not layout.types:
        raise bad_path(f"{files[0].path} has no columns")
    return layout


def partitions(files: Sequence[DataFile], declared: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """The columns that `key=value` folders stand for, one row per file. Whole numbers become int64, the rest stays text.

    Raises:
        JobError: a file is not in folders of the same keys as the first one, or a value is not of the declared type.
    """
    first = files[0].partition
    for file in files:
        if file.partition.keys() != first.keys():
            keys = f"{list(file.partition)} instead of {list(first)}"
            raise bad_path(f"{file.relative} is not in folders of the same keys as {files[0].relative}: {keys}")
    typed = []
    for key in first:
        values = pl.Series(key, [file.partition[key] for file in files], dtype=pl.String)
        guessed = guess_type(values)
        column = values.to_frame().select(from_text(key, declared.get(key) or (guessed if guessed == pl.Int64 else pl.String())))[key]
        wrong = values.filter(values.is_not_null() & column.is_null())
        if len(wrong):
            raise JobError([Problem(("dataset", "schema", key), f'the folder "{key}={wrong[0]}" is not of this type')])
        typed.append(column)
    return pl.DataFrame(typed)
