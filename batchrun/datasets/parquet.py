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

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from batchrun.core.errors import Problem
from batchrun.datasets.discover import DataFile, bad_path
from batchrun.datasets.schema import plain_schema

_PIECE_ROWS = 131_072
_PIECE_BYTES = 16 * 2**20
_WHOLE_GROUP_BYTES = 64 * 2**20
_READ_BYTES = 16 * 2**20
POLARS_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
ROW = "__batchrun_row"
"""The position of a row in its file."""


class ReadFailed(Exception):
    """Rows could not be read or computed; `problem` says where the cause is."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem

    @classmethod
    def damaged(cls, path: Path, error: BaseException) -> ReadFailed:
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
    """

    file: int
    path: Path
    start: int
    first: int
    rows: int
    batch_rows: int | None

    def scan(self) -> pl.LazyFrame:
        """The rows, read by polars when they are asked for, with their position in the file as `ROW`."""
        return scan(self.path).slice(self.first, self.rows)

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
        with pq.ParquetFile(self.path, pre_buffer=False, buffer_size=buffer_bytes) as file:
            ends = list(accumulate(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)))
            low, high = bisect_right(ends, self.first), bisect_right(ends, self.first + self.rows - 1)
            at = ends[low - 1] if low else 0
            batch_rows = self.batch_rows or _PIECE_ROWS // 16
            # Without a column a batch would not know how many rows it has.
            wanted = list(columns) or file.schema_arrow.names[:1]
            for batch in file.iter_batches(batch_rows, row_groups=list(range(low, high + 1)), columns=wanted, use_threads=False):
                begin, end = max(self.first - at, 0), min(self.first + self.rows - at, batch.num_rows)
                if begin < end:
                    frame = pl.DataFrame(_readable(batch.slice(begin, end - begin)))
                    yield frame.with_row_index(ROW).with_columns(pl.col(ROW) + (at + begin))
                at += batch.num_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetTable:
    """Parquet files with the same columns, one after the other.

    Attributes:
        ends: the position after the last row of each file.
    """

    paths: tuple[Path, ...]
    ends: tuple[int, ...]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.ends[-1]

    def pieces(self, start: int, stop: int, columns: Sequence[str], skipped: frozenset[int]) -> Iterator[Piece]:
        """The rows from `start` to before `stop`, cut so that `columns` of one piece fit into a few megabytes.

        Raises:
            ReadFailed: a file is damaged.
        """
        for at in range(bisect_right(self.ends, start), len(self.paths)):
            begin = self.ends[at - 1] if at else 0
            if begin >= stop:
                return
            if at in skipped:
                continue
            path = self.paths[at]
            try:
                groups = _row_groups(path, columns)
            except (OSError, pa.ArrowException) as error:
                raise ReadFailed.damaged(path, error) from error
            for first, rows, batch_rows in _cut(groups, max(start - begin, 0), min(stop, self.ends[at]) - begin):
                yield Piece(file=at, path=path, start=begin + first, first=first, rows=rows, batch_rows=batch_rows)


def scan(path: Path) -> pl.LazyFrame:
    """A file as polars reads it, with the position of each row as `ROW`."""
    return pl.scan_parquet(path, glob=False, hive_partitioning=False).with_row_index(ROW)


def inspect_parquet(files: Sequence[DataFile]) -> tuple[pa.Schema, ParquetTable]:
    """The columns and the row counts of Parquet files.

    Raises:
        JobError: a file is not Parquet, or its columns are not those of the first file.
    """
    schemas, rows = [], []
    for file in files:
        try:
            metadata = pq.read_metadata(file.path)
        except (OSError, pa.ArrowException) as error:
            raise bad_path(f"{file.path} is not a readable Parquet file, or is cut off: {error}") from error
        schemas.append(plain_schema(metadata.schema.to_arrow_schema()))
        rows.append(metadata.num_rows)
    refuse_differences(files, schemas)
    return schemas[0], ParquetTable(paths=tuple(file.path for file in files), ends=tuple(accumulate(rows)))


def refuse_differences(files: Sequence[DataFile], schemas: Sequence[pa.Schema]) -> None:
    """Refuse files whose columns differ.

    Raises:
        JobError: naming the first file that differs from the first one, and how.
    """
    first = dict(zip(schemas[0].names, schemas[0].types, strict=True))
    if len(first) < len(schemas[0].names):
        twice = sorted({name for name in schemas[0].names if schemas[0].names.count(name) > 1})
        raise bad_path(f"{files[0].path} has these columns more than once: {', '.join(twice)}")
    for file, schema in zip(files, schemas, strict=True):
        here = dict(zip(schema.names, schema.types, strict=True))
        names = [name for name in {**first, **here} if first.get(name) != here.get(name)]
        what = ", ".join(f'"{name}" is {here.get(name, "missing")} instead of {first.get(name, "missing")}' for name in names[:5])
        if schema != schemas[0]:
            compared = f"compared with {files[0].relative}, in {file.relative} {what or 'they are in another order'}"
            raise bad_path(f"the files do not have the same columns: {compared}")


def polars_types(path: Path | None, schema: pa.Schema) -> dict[str, pl.DataType]:
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


def _cut(groups: Sequence[tuple[int, int]], start: int, stop: int) -> Iterator[tuple[int, int, int | None]]:
    """First row, rows and batch rows of each piece of one file: small row groups together, large ones in parts."""
    first = held = held_bytes = 0
    at = 0
    for rows, size_bytes in groups:
        begin, end = max(start, at), min(stop, at + rows)
        at += rows
        if begin >= end:
            continue
        step = max(1, min(_PIECE_ROWS, rows * _PIECE_BYTES // max(size_bytes, 1)))
        fits = size_bytes <= _WHOLE_GROUP_BYTES
        if held and not (fits and held + end - begin <= _PIECE_ROWS and held_bytes + size_bytes <= _PIECE_BYTES):
            yield first, held, None
            held = held_bytes = 0
        if not fits:
            yield begin, end - begin, step // 2 or 1
        elif end - begin <= step:
            first = first if held else begin
            held, held_bytes = held + end - begin, held_bytes + size_bytes
        else:
            yield from ((row, min(step, end - row), None) for row in range(begin, end, step))
    if held:
        yield first, held, None


def _row_groups(path: Path, columns: Sequence[str]) -> list[tuple[int, int]]:
    """The rows of each row group, and the decoded bytes of the columns in it."""
    metadata = pq.read_metadata(path)
    wanted = set(columns)
    leaves = [i for i in range(metadata.num_columns) if _is_part(metadata.schema.column(i).path.split("."), wanted)]
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    return [(group.num_rows, sum(group.column(leaf).total_uncompressed_size for leaf in leaves)) for group in groups]


def _is_part(steps: list[str], wanted: set[str]) -> bool:
    """Whether the path of a leaf leads into a wanted column, whose name may have dots of its own."""
    return any(".".join(steps[:end]) in wanted for end in range(1, len(steps) + 1))
