"""Parquet files as one long table that is read in pieces small enough to hold.

Polars reads a piece as a slice of a scan, so that filter and projection reach the file. It reads whole column chunks
for that: of row groups too large to hold, and of files it cannot read, pyarrow decodes batch after batch instead.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from batchrun.core.errors import Problem
from batchrun.datasets.cutting import Needed, stretches
from batchrun.datasets.discover import DataFile, Place, bad_path
from batchrun.datasets.objects import ObjectPath
from batchrun.datasets.schema import plain_schema
from batchrun.datasets.unions import SchemaMode, common_schema

_BATCH_ROWS = 8_192
_READ_BYTES = 16 * 2**20
_CASTS = pl.ScanCastOptions(integer_cast="upcast", float_cast="upcast", datetime_cast=["nanosecond-downcast", "convert-timezone"])
POLARS_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
ROW = "__batchrun_row"
"""The position of a row in its file."""


class ReadFailed(Exception):
    """Rows could not be read or computed; `problem` says where the cause is."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem

    @classmethod
    def damaged(cls, path: Place, error: BaseException) -> ReadFailed:
        """The file at `path` cannot be read to its end."""
        return cls(Problem(("dataset", "path"), f"{path} cannot be read: {first_line(error)}"))


def first_line(error: BaseException) -> str:
    """What an error says first; polars goes on with its plan."""
    return str(error).split("\n", 1)[0][:300]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Consecutive rows of one file.

    Attributes:
        file: which file of the table.
        start: position of the first row in the table.
        first: position of the first row in the file.
        batch_rows: rows to decode at once; null when polars can read the piece at once.
        read_as: the columns that the file is read with, whichever it has; null: its own.
        whole: all rows of the file, as polars reads them; the pieces of a file share it, and with it what it knows of the file.
    """

    file: int
    path: Place
    start: int
    first: int
    rows: int
    batch_rows: int | None
    read_as: pl.Schema | None
    whole: pl.LazyFrame

    def scan(self) -> pl.LazyFrame:
        """The rows, read by polars when they are asked for, with their position in the file as `ROW`."""
        return self.whole.slice(self.first, self.rows)

    def refuse_changes(self) -> None:
        """Look whether an object that was read is still the one that was found.

        Raises:
            ReadFailed: it is not.
        """
        if isinstance(self.path, ObjectPath):
            try:
                self.path.refuse_changes()
            except OSError as error:
                raise ReadFailed.damaged(self.path, error) from error

    def batches(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """The same rows and columns, decoded by pyarrow.

        Raises:
            ReadFailed: the file is damaged.
        """
        try:
            yield from self._batches(columns)
        except (OSError, pa.ArrowException, *POLARS_ERRORS) as error:
            raise ReadFailed.damaged(self.path, error) from error

    def _batches(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        # Each column has a buffer of its own.
        buffer_bytes = max(2**13, min(2**20, _READ_BYTES // max(len(columns), 1)))
        with pq.ParquetFile(source_of(self.path), pre_buffer=False, buffer_size=buffer_bytes) as file:
            ends = list(accumulate(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)))
            low, high = bisect_right(ends, self.first), bisect_right(ends, self.first + self.rows - 1)
            at = ends[low - 1] if low else 0
            batch_rows = self.batch_rows or _BATCH_ROWS
            # Without a column a batch would not know how many rows it has.
            names = file.schema_arrow.names
            wanted = [name for name in columns if name in names] or names[:1]
            for batch in file.iter_batches(batch_rows, row_groups=list(range(low, high + 1)), columns=wanted, use_threads=False):
                begin, end = max(self.first - at, 0), min(self.first + self.rows - at, batch.num_rows)
                if begin < end:
                    frame = pl.DataFrame(_readable(batch.slice(begin, end - begin)))
                    frame = frame if self.read_as is None else _read_as(frame, columns, self.read_as)
                    yield frame.with_row_index(ROW).with_columns(pl.col(ROW) + (at + begin))
                at += batch.num_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetTable:
    """Parquet files with the same columns, one after the other.

    Attributes:
        ends: the position after the last row of each file.
        read_as: the columns that all files are read with, null where a file does not have one; null: their own.
    """

    paths: tuple[Place, ...]
    ends: tuple[int, ...]
    read_as: pl.Schema | None = None

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.ends[-1] if self.ends else 0

    def scan(self, at: int) -> pl.LazyFrame:
        """One of the files as polars reads it, with the position of each row as `ROW`."""
        return scan(self.paths[at], self.read_as)

    def pieces(
        self, start: int, stop: int, columns: Sequence[str], is_needed: Needed, parallel: Literal["auto", "row_groups"] = "auto"
    ) -> Iterator[Piece]:
        """The rows from `start` to before `stop`, cut so that `columns` of one piece fit into some megabytes.

        Args:
            start: a position in the table.
            stop: another one.
            columns: those that are read.
            is_needed: told the positions of the first row of a file, a row group or a piece and of the one after its last;
                false leaves it out.
            parallel: what of a piece polars decodes at the same time.

        Raises:
            ReadFailed: a file is damaged.
        """
        for at in range(bisect_right(self.ends, start), len(self.paths)):
            begin = self.ends[at - 1] if at else 0
            if begin >= stop:
                return
            if not is_needed(max(start, begin), min(stop, self.ends[at])):
                continue
            path = self.paths[at]
            try:
                metadata = pq.read_metadata(source_of(path))
            except (OSError, pa.ArrowException) as error:
                raise ReadFailed.damaged(path, error) from error
            whole = scan(path, self.read_as, parallel)

            def is_row_needed(first: int, last: int, begin: int = begin) -> bool:
                return is_needed(begin + first, begin + last)

            cut = stretches(metadata, columns, max(start - begin, 0), min(stop, self.ends[at]) - begin, is_row_needed)
            for first, rows, batch_rows in cut:
                if is_row_needed(first, first + rows):
                    yield Piece(
                        file=at,
                        path=path,
                        start=begin + first,
                        first=first,
                        rows=rows,
                        batch_rows=batch_rows,
                        read_as=self.read_as,
                        whole=whole,
                    )


def scan(path: Place, read_as: pl.Schema | None = None, parallel: Literal["auto", "row_groups"] = "auto") -> pl.LazyFrame:
    """A file as polars reads it, with the position of each row as `ROW`; with its own columns, or with others it may lack."""
    source = path if isinstance(path, Path) else path.url
    if read_as is None:
        return pl.scan_parquet(source, parallel=parallel, glob=False, hive_partitioning=False).with_row_index(ROW)
    rows = pl.scan_parquet(
        source,
        parallel=parallel,
        schema=read_as,
        missing_columns="insert",
        extra_columns="ignore",
        cast_options=_CASTS,
        glob=False,
        hive_partitioning=False,
    )
    return rows.with_row_index(ROW)


def source_of(path: Place) -> Any:
    """A file as pyarrow reads it."""
    return path if isinstance(path, Path) else pa.PythonFile(path.open(), mode="r")


def _read_as(frame: pl.DataFrame, columns: Sequence[str], types: pl.Schema) -> pl.DataFrame:
    here = set(frame.columns)
    for name in columns:
        if name in here and frame.schema[name].is_integer() and types[name].is_float():
            whole = frame[name]
            if not (whole.cast(types[name]).cast(pl.Int128) == whole.cast(pl.Int128)).all():
                raise pa.ArrowInvalid(f'"{name}" has whole numbers with more digits than {types[name]}, its type in other files')
    return frame.select(pl.col(name).cast(types[name]) if name in here else pl.lit(None, types[name]).alias(name) for name in columns)


def inspect_parquet(files: Sequence[DataFile], mode: SchemaMode) -> tuple[pa.Schema, ParquetTable]:
    """The columns and the row counts of Parquet files.

    Raises:
        JobError: a file is not Parquet, or its columns do not go together with those of the others.
    """
    schemas, rows = [], []
    for file in files:
        try:
            metadata = pq.read_metadata(source_of(file.path))
        except (OSError, pa.ArrowException) as error:
            raise bad_path(f"{file.path} is not a readable Parquet file, or is cut off: {error}") from error
        schemas.append(plain_schema(metadata.schema.to_arrow_schema()))
        rows.append(metadata.num_rows)
    schema = common_schema(files, schemas, mode)
    read_as = None if all(schema == each for each in schemas) else pl.Schema(polars_types(None, schema))
    return schema, ParquetTable(paths=tuple(file.path for file in files), ends=tuple(accumulate(rows)), read_as=read_as)


def polars_types(path: Place | None, schema: pa.Schema) -> dict[str, pl.DataType]:
    """The types polars gives the columns of a Parquet file; by its Arrow types when there is no file, or polars cannot read it.

    Raises:
        JobError: a column is of a type that polars does not have.
    """
    try:
        if path is not None:
            return dict(pl.DataFrame(schema=scan(path).drop(ROW).collect_schema()).schema)
    except POLARS_ERRORS:
        pass
    types: dict[str, pl.DataType] = {}
    for field in schema:
        try:
            types |= pl.DataFrame(_readable(pa.schema([field]).empty_table())).schema
        except POLARS_ERRORS as error:
            raise bad_path(f'the column "{field.name}" is of a type that cannot be read: {field.type}') from error
    return types


def _readable(data: pa.RecordBatch | pa.Table) -> pa.RecordBatch | pa.Table:
    """The data with decimals no wider than polars can hold; pyarrow refuses values that do not fit."""
    fields = [
        pa.field(field.name, pa.decimal128(38, field.type.scale)) if pa.types.is_decimal256(field.type) else field for field in data.schema
    ]
    return data if fields == list(data.schema) else data.cast(pa.schema(fields))
