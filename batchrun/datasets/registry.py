"""What is written down about a version of a dataset: its files, its rows, its columns with their statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from batchrun.core.dataset_versions import Column, Content, VersionFile
from batchrun.core.errors import JobError
from batchrun.datasets.loaded import Loaded
from batchrun.datasets.parquet import ReadFailed
from batchrun.datasets.source import Source

_TEXT_CHARS = 100
_HELD_FRAMES = 64


def describe(source: Source, spool: Path) -> Content:
    """Read all of a dataset once, in bounded memory, and say what it holds.

    Args:
        source: the dataset, without filter, sample or limit.
        spool: a folder for copies of files that cannot be read in slices.

    Raises:
        JobError: a file is damaged, or changes while it is read.
    """
    loaded = _load(source, spool)
    statistics = _statistics(loaded, list(source.columns))
    digests = source.digests
    files = [VersionFile(file.relative, file.size_bytes, digest) for file, digest in zip(source.data_files, digests, strict=True)]
    return Content(
        fingerprint=source.fingerprint,
        format=source.format,
        row_count=loaded.total_items,
        columns=tuple(Column(name, kind, *statistics[name]) for name, kind in source.columns.items()),
        files=tuple(files),
    )


def head(source: Source, rows: int, spool: Path) -> list[Mapping[str, Any]]:
    """The first rows of a dataset.

    Raises:
        JobError: a file is damaged.
        ExecutionError: as above.
    """
    items = (item for window in _load(source, spool).windows() for item in window)
    return [item.data for item, _ in zip(items, range(rows), strict=False)]


def frame_of(source: Source, spool: Path) -> pl.LazyFrame:
    """All rows of a dataset, in no certain order, read when they are asked for.

    Args:
        source: the dataset, without filter, sample or limit.
        spool: a folder for copies of files that cannot be read in slices; it must stay for as long as rows are read.

    Raises:
        JobError: a file is damaged.
    """
    loaded, columns = _load(source, spool), list(source.columns)
    query, table = loaded.scan.query, loaded.scan.table
    frames = [query.rows(table.scan(at), columns, file=at, offset=0).select(columns) for at in range(len(table.paths))]
    return pl.concat(frames)


def _load(source: Source, spool: Path) -> Loaded:
    return source.load(tuple(source.columns), (), spool=spool, rejects=spool / "rejects.parquet")


def _statistics(loaded: Loaded, columns: list[str]) -> dict[str, tuple[int, Any, Any]]:
    """Null count, minimum and maximum of each column."""
    held: list[pl.DataFrame] = []
    try:
        for frame in _frames(loaded, columns):
            held.append(frame.select(*_parts(frame)))
            if len(held) >= _HELD_FRAMES:
                held = [_together(held)]
    except ReadFailed as error:
        raise JobError([error.problem]) from error
    if not held:
        return dict.fromkeys(columns, (0, None, None))
    row = _together(held).select(_shown(name, kind) for name, kind in held[0].schema.items()).row(0)
    return {name: (row[3 * at], row[3 * at + 1], row[3 * at + 2]) for at, name in enumerate(columns)}


def _frames(loaded: Loaded, columns: list[str]) -> Iterator[pl.DataFrame]:
    for slab in loaded.scan.slabs([(0, loaded.scan.table.rows)], columns):
        yield slab.frame.select(columns)


def _parts(frame: pl.DataFrame) -> Iterator[pl.Expr]:
    """Three values of each column, named by its position, as names of columns may be anything."""
    for at, (name, kind) in enumerate(frame.schema.items()):
        column = pl.col(name)
        values = column.cast(pl.String) if isinstance(kind, pl.Categorical | pl.Enum) else column
        yield column.null_count().cast(pl.Int64).alias(f"n{at}")
        for letter, value in (("a", values.min()), ("z", values.max())):
            yield (value if _is_ordered(kind) else pl.lit(None, pl.Null)).alias(f"{letter}{at}")


def _together(frames: list[pl.DataFrame]) -> pl.DataFrame:
    how = {"n": pl.Expr.sum, "a": pl.Expr.min, "z": pl.Expr.max}
    held = pl.concat(frames)
    return held.select(pl.lit(None).alias(name) if kind == pl.Null else how[name[0]](pl.col(name)) for name, kind in held.schema.items())


def _shown(name: str, kind: pl.DataType) -> pl.Expr:
    """A statistic as a value that JSON has."""
    value = pl.col(name)
    if kind.is_integer() or kind in (pl.Boolean, pl.Null):
        return value
    if kind.is_float():  # JSON has no infinity
        return pl.when(value.is_finite()).then(value.cast(pl.Float64)).otherwise(None).alias(name)
    text = value.cast(pl.String)
    return pl.when(text.str.len_chars() > _TEXT_CHARS).then(text.str.slice(0, _TEXT_CHARS) + "…").otherwise(text).alias(name)


def _is_ordered(kind: pl.DataType) -> bool:
    return not (kind.is_nested() or kind in (pl.Binary, pl.Object, pl.Null, pl.Unknown))
