"""Rows of the dataset, computed and filtered, in frames small enough to hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from batchrun.core.errors import Problem
from batchrun.datasets.cutting import Needed
from batchrun.datasets.parquet import POLARS_ERRORS, ROW, ParquetTable, Piece, ReadFailed, first_line

INDEX = "__batchrun_index"
"""The position of a row in the dataset: `item_index`."""


Mask = Callable[[int, int], pl.Series | None]
"""For each row between two positions, whether it is kept; null: all are."""


def every(_start: int, _stop: int) -> bool:
    """All rows are needed."""
    return True


def _all(_start: int, _stop: int) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is computed from each row, and which rows are kept.

    Attributes:
        constants: the partition columns, one row per file.
        casts: columns of the file that are read as another type.
        added: columns computed from the others; one may take the place of a column of the file.
        where: the filter, over the columns of the file and the added ones.
    """

    constants: pl.DataFrame
    casts: Mapping[str, pl.Expr]
    added: Mapping[str, pl.Expr]
    where: pl.Expr | None = None

    def file_columns(self, columns: Sequence[str]) -> list[str]:
        """The columns of the file that `columns` and the filter need."""
        return [name for name in self._inputs(columns) if name not in self.constants.columns]

    def rows(self, file_rows: pl.LazyFrame, columns: Sequence[str], *, file: int, offset: int) -> pl.LazyFrame:
        """The rows kept of one file: `INDEX` and `columns`. `offset` is the position of the file's first row."""
        rows = self._computed(file_rows, columns, file)
        if self.where is not None:
            rows = rows.filter(self.where)
        position = pl.col(ROW).cast(pl.Int64)
        return rows.select((position + offset if offset else position).alias(INDEX), *columns)

    def marks(self, file_rows: pl.LazyFrame, *, file: int) -> pl.LazyFrame:
        """For each row of one file, whether it is kept, in a column called `INDEX`."""
        passes = pl.lit(True) if self.where is None else self.where.fill_null(False)
        return self._computed(file_rows, [], file).select(passes.alias(INDEX))

    def _computed(self, file_rows: pl.LazyFrame, columns: Sequence[str], file: int) -> pl.LazyFrame:
        inputs = self._inputs(columns)
        constants = [self.constants[name] for name in inputs if name in self.constants.columns]
        rows = file_rows.with_columns(
            *(pl.lit(values[file], dtype=values.dtype).alias(values.name) for values in constants),
            *(self.casts[name].alias(name) for name in inputs if name in self.casts),
        )
        return rows.with_columns(self.added[name].alias(name) for name in self._needed(columns) if name in self.added)

    def _needed(self, columns: Sequence[str]) -> list[str]:
        roots = self.where.meta.root_names() if self.where is not None else []
        return list(dict.fromkeys([*columns, *roots]))

    def _inputs(self, columns: Sequence[str]) -> list[str]:
        needed = self._needed(columns)
        return list(
            dict.fromkeys(root for name in needed for root in (self.added[name].meta.root_names() if name in self.added else [name]))
        )


class Slab(NamedTuple):
    """The rows kept of the rows from `start` to before `stop`."""

    start: int
    stop: int
    frame: pl.DataFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """A table and what is asked of it."""

    table: ParquetTable
    query: Query

    def slabs(
        self, ranges: Iterable[tuple[int, int]], columns: Sequence[str], is_needed: Needed = every, mask: Mask = _all
    ) -> Iterator[Slab]:
        """The rows kept in ranges of positions, in order.

        Args:
            ranges: start and stop of each, ascending.
            columns: what is read of each row, besides `INDEX`.
            is_needed: told the start and the stop of some rows before they are read; false leaves them out.
            mask: told the start and the stop of some rows when they are read; the others are left out before anything is computed of them.

        Raises:
            ReadFailed: a file is damaged, or an expression fails on a value.
        """
        file_columns = self.query.file_columns(columns)

        def at_once(piece: Piece) -> pl.DataFrame:
            rows, kept = piece.scan(), mask(piece.start, piece.start + piece.rows)
            if kept is not None:  # polars would bring all columns into one stretch of memory to filter them in the same query
                rows = rows.select(ROW, *file_columns).collect().filter(kept).lazy()
            return self.query.rows(rows, columns, file=piece.file, offset=piece.start - piece.first).collect()

        def decoded(piece: Piece, start: int, rows: pl.DataFrame) -> pl.DataFrame:
            kept = mask(start, start + rows.height)
            rows = rows if kept is None else rows.filter(kept)
            return self.query.rows(rows.lazy(), columns, file=piece.file, offset=piece.start - piece.first).collect()

        for start, stop in ranges:
            for piece in self.table.pieces(start, stop, file_columns, is_needed):
                yield from self._slabs(piece, file_columns, at_once, decoded)

    def marks(self, is_needed: Needed) -> Iterator[Slab]:
        """For each row, whether the filter keeps it: in the only column of the frames, which has all rows from `start` to before `stop`.

        Args:
            is_needed: told the start and the stop of some rows before they are read; false leaves them out.

        Raises:
            ReadFailed: a file is damaged, or an expression fails on a value.
        """
        file_columns = self.query.file_columns([])
        is_dense = False

        def at_once(piece: Piece) -> pl.DataFrame:
            nonlocal is_dense
            if is_dense:
                marks = self.query.marks(piece.scan(), file=piece.file).collect()
                kept_rows = int(marks[INDEX].sum())
            else:  # leaves out row groups by their statistics, which is worth more than the time it takes unless many rows are kept
                found = self.query.rows(piece.scan(), [], file=piece.file, offset=-piece.first).collect()[INDEX]
                kept_rows, none = len(found), pl.repeat(False, piece.rows, dtype=pl.Boolean, eager=True)
                marks = none.scatter(found.cast(pl.UInt32), True).to_frame(INDEX)
            is_dense = 2 * kept_rows > piece.rows
            return marks

        def decoded(piece: Piece, _start: int, rows: pl.DataFrame) -> pl.DataFrame:
            return self.query.marks(rows.lazy(), file=piece.file).collect()

        for piece in self.table.pieces(0, self.table.rows, file_columns, is_needed, "row_groups"):
            yield from self._slabs(piece, file_columns, at_once, decoded)

    def _slabs(
        self,
        piece: Piece,
        file_columns: Sequence[str],
        at_once: Callable[[Piece], pl.DataFrame],
        decoded: Callable[[Piece, int, pl.DataFrame], pl.DataFrame],
    ) -> Iterator[Slab]:
        if piece.batch_rows is None:
            try:
                frame = at_once(piece)
            except (OSError, *POLARS_ERRORS):
                # Read again by pyarrow below: it succeeds, or tells a damaged file from a failing expression.
                pass
            else:
                piece.refuse_changes()
                yield Slab(piece.start, piece.start + piece.rows, frame)
                return
        start = piece.start
        for rows in piece.batches(file_columns):
            try:
                frame = decoded(piece, start, rows)
            except POLARS_ERRORS as error:
                key = "with_columns" if self.query.where is None else "filter"
                raise ReadFailed(Problem(("dataset", key), f"fails in {piece.path}: {first_line(error)}")) from error
            yield Slab(start, start + rows.height, frame)
            start += rows.height
