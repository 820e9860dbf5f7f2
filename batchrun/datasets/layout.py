"""What the files of a dataset hold, format by format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa

from batchrun.core.errors import JobError, Problem
from batchrun.core.job import Dataset
from batchrun.datasets.convert import Batches, arrow_batches, inspect_arrow
from batchrun.datasets.csv_rows import BadRow, csv_reader
from batchrun.datasets.delta import is_delta, read_version
from batchrun.datasets.discover import DataFile, Found, bad_path, find_files
from batchrun.datasets.folder_files import SCHEMA as FILES_SCHEMA
from batchrun.datasets.folder_files import list_files
from batchrun.datasets.ndjson import ndjson_reader
from batchrun.datasets.parquet import ParquetTable, inspect_parquet, polars_types
from batchrun.datasets.schema import from_text, guess_type, stored
from batchrun.datasets.text import reading
from batchrun.datasets.unions import with_all_columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The columns of a dataset's files and the way to its rows.

    Attributes:
        types: the columns as they are read.
        exact: their Arrow types; null when the files have none, and the types of `dataset.schema` are already in `types`.
        table: the files, when they can be read in place.
        batches: reads one file from start to end, when it has to be copied.
        rows: the rows, when the files themselves are what is known of them.
        statistics: `min.NAME` and `max.NAME` of columns, one row per file, where they are known without looking into the files.
    """

    types: Mapping[str, pl.DataType]
    exact: pa.Schema | None = None
    table: ParquetTable | None = None
    batches: Callable[[DataFile, Callable[[BadRow], None]], Batches] | None = None
    rows: pl.DataFrame | None = None
    statistics: pl.DataFrame = field(default_factory=pl.DataFrame)


class Opened(NamedTuple):
    """A dataset whose files were looked at.

    Attributes:
        kind: its format.
        files: its files.
        layout: what they hold.
        constants: the partition columns, one row per file.
    """

    kind: str
    files: tuple[DataFile, ...]
    layout: Layout
    constants: pl.DataFrame


def look_at(dataset: Dataset, folder: Path, found: Found | None, declared: Mapping[str, pl.DataType]) -> Opened:
    """Find the files of a dataset, if they are not known, and look at them.

    Raises:
        JobError: they cannot be found or read.
    """
    if found is None and dataset.format == "files":
        listing = list_files(dataset, folder)
        types = dict(listing.rows.schema)
        return Opened("files", listing.files, Layout(types=types, exact=FILES_SCHEMA, rows=listing.rows), pl.DataFrame())
    if found is None and is_delta(dataset, folder):
        version = read_version(dataset, folder)
        types = dict(version.table.read_as or {})
        layout = Layout(types=types, exact=version.schema, table=version.table, statistics=version.statistics)
        return Opened("delta", version.files, layout, version.partitions)
    if found is None and dataset.version is not None and dataset.path is not None:
        raise JobError([Problem(("dataset", "version"), f"is one of a named dataset or of a Delta table, and {dataset.path} is neither")])
    kind, files = found or find_files(dataset, folder)
    return Opened(kind, files, inspect(kind, files, dataset, declared), partitions(files, declared))


def inspect(kind: str, files: Sequence[DataFile], dataset: Dataset, declared: Mapping[str, pl.DataType]) -> Layout:
    """Look at the files: their metadata or first rows.

    Raises:
        JobError: a file is damaged, not of its format, or has columns that do not go together with those of the others.
    """
    if kind == "parquet":
        exact, table = inspect_parquet(files, dataset.schema_mode)
        types = table.read_as or polars_types(files[0].path, exact)
        layout = Layout(types=dict(types), exact=exact, table=table)
    elif kind == "arrow":
        exact = inspect_arrow(files, dataset.schema_mode)
        layout = Layout(
            types=polars_types(None, exact),
            exact=exact,
            batches=lambda file, _: reading(file, (with_all_columns(batch, exact) for batch in arrow_batches(file))),
        )
    elif kind == "csv":
        try:
            csv = csv_reader(files, dataset.csv, declared, dataset.schema_mode)
        except LookupError as error:
            raise JobError([Problem(("dataset", "csv", "encoding"), f"{error}; for example utf-8, latin-1, cp1252 or utf-16")]) from error
        layout = Layout(types=csv.types, batches=lambda file, reject: map(stored, csv.frames(file, reject)))
    else:
        ndjson = ndjson_reader(files, declared, dataset.schema_mode)
        layout = Layout(types=ndjson.types, batches=lambda file, _: map(stored, ndjson.frames(file)))
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
