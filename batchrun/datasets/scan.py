"""Rows of the dataset, computed and filtered, in frames small enough to hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from batchrun.core.errors import Problem
from batchrun.datasets.parquet import POLARS_ERRORS, ROW, ParquetTable, Piece, ReadFailed, first_line
from batchrun.datasets.sampling import is_below

INDEX = "__batchrun_index"
"""The position of a row in the dataset: `item_index`."""


def _all(_start: int, _stop: int) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is computed from each row, and which rows are kept.

    Attributes:
        constants: the partition columns, one row per file.
        casts: columns of the file that are read as another type.
        added: columns computed from the others; one may take the place of a column of the file.
        where: the filter, over the columns of the file and the added ones.
        sample: seed and threshold.
    """

    constants: pl.DataFrame
    casts: Mapping[str, pl.Expr]
    added: Mapping[str, pl.Expr]
    where: pl.Expr | None = None
    sample: tuple[int, int] | None = None

    def file_columns(self, columns: Sequence[str]) -> list[str]:
        """The columns of the file that `columns` and the filter need."""
        return [name for name in self._inputs(columns) if name not in self.constants.columns]

    def rows(self, file_rows: pl.LazyFrame, columns: Sequence[str], *, file: int, offset: int) -> pl.LazyFrame:
        """The rows kept of one file: `INDEX` and `columns`. `offset` is the position of the file's first row."""
        inputs = self._inputs(columns)
        constants = [self.constants[name] for name in inputs if name in self.constants.columns]
        rows = file_rows.with_columns(
            *(pl.lit(values[file], dtype=values.dtype).alias(values.name) for values in constants),
            *(self.casts[name].alias(name) for name in inputs if name in self.casts),
        )
        rows = rows.with_columns(self.added[name].alias(name) for name in self._needed(columns) if name in self.added)
        if self.where is not None:
            rows = rows.filter(self.where)
        position = pl.col(ROW).cast(pl.Int64) + offset
        if self.sample is not None:
            rows = rows.filter(is_below(position, *self.sample))
        return rows.select(position.alias(INDEX), *columns)

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
    """A table and what is asked of it.

    Attributes:
        pruned: the files in which no row can pass the filter.
    """

    table: ParquetTable
    query: Query
    pruned: frozenset[int] = frozenset()

    def slabs(
        self, ranges: Iterable[tuple[int, int]], columns: Sequence[str], is_needed: Callable[[int, int], bool] = _all
    ) -> Iterator[Slab]:
        """The rows kept in ranges of positions, in order.

        Args:
            ranges: start and stop of each, ascending.
            columns: what is read of each row, besides `INDEX`.
            is_needed: told the start and the stop of a piece before it is read; false leaves it out.

        Raises:
            ReadFailed: a file is damaged, or an expression fails on a value.
        """
        file_columns = self.query.file_columns(columns)
        for start, stop in ranges:
            for piece in self.table.pieces(start, stop, file_columns, self.pruned):
                if is_needed(piece.start, piece.start + piece.rows):
                    yield from self._slabs(piece, columns, file_columns)

    def _slabs(self, piece: Piece, columns: Sequence[str], file_columns: Sequence[str]) -> Iterator[Slab]:
        offset = piece.start - piece.first
        if piece.batch_rows is None:
            try:
                frame = self.query.rows(piece.scan(), columns, file=piece.file, offset=offset).collect()
            except (OSError, *POLARS_ERRORS):
                # Read again by pyarrow below: it succeeds, or tells a damaged file from a failing expression.
                pass
            else:
                piece.refuse_changes()
                yield Slab(piece.start, piece.start + piece.rows, frame)
                return
        start = piece.start
        for decoded in piece.batches(file_columns):
            try:
                frame = self.query.rows(decoded.lazy(), columns, file=piece.file, offset=offset).collect()
            except POLARS_ERRORS as error:
                key = "with_columns" if self.query.where is None else "filter"
                raise ReadFailed(Problem(("dataset", key), f"fails in {piece.path}: {first_line(error)}")) from error
            yield Slab(start, start + decoded.height, frame)
            start += decoded.height
