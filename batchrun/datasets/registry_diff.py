"""The difference of two versions of a dataset, row by row.

Only the key and one number of each row are held in memory: a hash of the other columns. Rows whose numbers differ are
looked at again, column by column, so many at a time that they fit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from batchrun.core.dataset_names import DatasetError
from batchrun.core.errors import known_values
from batchrun.datasets.parquet import POLARS_ERRORS, first_line
from batchrun.datasets.schema import dtype_name

_KEY, _BEFORE, _AFTER = "key", "before", "after"
_HELD_CELLS = 24_000_000
_FOR_DEVELOPERS = " (set POLARS_VERBOSE=1 to see full path)"


class DiffRefused(DatasetError):
    """Two versions cannot be compared by this column. The message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedRow:
    """A row that is in both versions and not the same.

    Attributes:
        key: the value of the key column.
        columns: the columns that changed, each with the value before and after.
    """

    key: Any
    columns: Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetDiff:
    """What changed from one version of a dataset to another.

    Attributes:
        added_rows: rows whose key only the later version has.
        removed_rows: rows whose key only the earlier version has.
        changed_rows: rows with the same key and other values, in columns that both versions have with the same type.
        unchanged_rows: the other rows with the same key.
        changed_columns: how many rows changed in each column, the most changed one first.
        added_columns: columns that only the later version has, with their types.
        removed_columns: columns that only the earlier version has, with their types.
        retyped_columns: columns that have another type, with both types; their values are not compared.
        added: the first added rows by key.
        removed: the first removed rows by key.
        changed: the first changed rows by key.
    """

    added_rows: int
    removed_rows: int
    changed_rows: int
    unchanged_rows: int
    changed_columns: Mapping[str, int]
    added_columns: Mapping[str, str]
    removed_columns: Mapping[str, str]
    retyped_columns: Mapping[str, tuple[str, str]]
    added: tuple[Mapping[str, Any], ...] = field(default=())
    removed: tuple[Mapping[str, Any], ...] = field(default=())
    changed: tuple[ChangedRow, ...] = field(default=())

    @property
    def is_empty(self) -> bool:
        """Whether both versions have the same rows and columns."""
        schema = self.added_columns or self.removed_columns or self.retyped_columns
        return not (self.added_rows or self.removed_rows or self.changed_rows or schema)


def diff_frames(before: pl.LazyFrame, after: pl.LazyFrame, key: str, examples: int = 5) -> DatasetDiff:
    """Compare two versions. Memory grows with the number of rows, 8 bytes and the key for each, not with their width.

    Args:
        before: the rows of the earlier version.
        after: the rows of the later version.
        key: the column that names each row; unique and never null in both.
        examples: how many rows of each kind are given.

    Raises:
        DiffRefused: the key is no column, not of the same type, null somewhere or not unique, or a file cannot be read.
    """
    try:
        return _Comparison(before, after, key).diff(examples)
    except (OSError, *POLARS_ERRORS) as error:
        reason = first_line(error).replace(_FOR_DEVELOPERS, "")
        raise DiffRefused(f"the versions cannot be compared, as a file cannot be read or is gone: {reason}") from error


class _Comparison:
    def __init__(self, before: pl.LazyFrame, after: pl.LazyFrame, key: str) -> None:
        self._frames = {_BEFORE: before, _AFTER: after}
        self._key = key
        types = self._types = {side: dict(frame.collect_schema()) for side, frame in self._frames.items()}
        for side in (_BEFORE, _AFTER):
            if key not in types[side]:
                raise DiffRefused(f'the version {side} has no column "{key}"; {known_values(key, types[side], kind="columns")}')
            if types[side][key].is_nested():
                raise DiffRefused(f'"{key}" is {dtype_name(types[side][key])}; a key is a text, a number or a date')
        was, is_now = types[_BEFORE][key], types[_AFTER][key]
        if was != is_now:
            raise DiffRefused(f'the key "{key}" was {dtype_name(was)} and is {dtype_name(is_now)}: choose a key of the same type in both')
        self._shared = [name for name, kind in types[_BEFORE].items() if name != key and types[_AFTER].get(name) == kind]

    def diff(self, examples: int) -> DatasetDiff:
        before, after = (self._hashed(side) for side in (_BEFORE, _AFTER))
        joined = before.lazy().join(after.lazy(), on=_KEY, how="full", coalesce=True, suffix="_after").collect()
        is_added, is_removed = pl.col("hash").is_null(), pl.col("hash_after").is_null()
        changed = joined.filter(pl.col("hash") != pl.col("hash_after")).select(_KEY)
        counts = joined.select(added=is_added.sum(), removed=is_removed.sum()).row(0, named=True)
        added, removed = (joined.filter(each).select(pl.col(_KEY).bottom_k(examples)) for each in (is_added, is_removed))
        del before, after
        types = self._types
        both = types[_BEFORE].keys() & types[_AFTER].keys()
        return DatasetDiff(
            added_rows=counts["added"],
            removed_rows=counts["removed"],
            changed_rows=changed.height,
            unchanged_rows=joined.height - counts["added"] - counts["removed"] - changed.height,
            changed_columns=dict(self._changed_columns(changed).most_common()),
            added_columns={name: dtype_name(kind) for name, kind in types[_AFTER].items() if name not in both},
            removed_columns={name: dtype_name(kind) for name, kind in types[_BEFORE].items() if name not in both},
            retyped_columns={
                name: (dtype_name(kind), dtype_name(types[_AFTER][name]))
                for name, kind in types[_BEFORE].items()
                if name in both and kind != types[_AFTER][name]
            },
            added=tuple(self._rows(_AFTER, added)),
            removed=tuple(self._rows(_BEFORE, removed)),
            changed=tuple(self._changed_rows(changed.select(pl.col(_KEY).bottom_k(examples)))),
        )

    def _hashed(self, side: str) -> pl.DataFrame:
        """Key and hash of each row."""
        row = pl.struct(_comparable(pl.col(name), self._types[side][name]) for name in self._shared).hash() if self._shared else pl.lit(0)
        rows = self._frames[side].select(pl.col(self._key).alias(_KEY), row.cast(pl.UInt64).alias("hash")).collect(engine="streaming")
        keys = rows[_KEY]
        if keys.null_count():
            raise DiffRefused(f'"{self._key}" is null in {keys.null_count():,} rows of the version {side}; choose a key without nulls')
        if keys.n_unique() < rows.height:
            twice = rows.group_by(_KEY).len().filter(pl.col("len") > 1)
            shown = ", ".join(repr(value) for value in twice[_KEY].sort().head(3).to_list())
            raise DiffRefused(
                f'"{self._key}" is not unique in the version {side}: {twice.height:,} values are there twice or more: {shown}'
            )
        return rows

    def _changed_columns(self, keys: pl.DataFrame) -> Counter[str]:
        """In how many of these rows each column differs."""
        counted: Counter[str] = Counter()
        step = max(10_000, _HELD_CELLS // max(len(self._shared), 1))
        names = {f"c{at}": name for at, name in enumerate(self._shared)}
        for some in keys.iter_slices(step):
            before, after = (self._column_hashes(side, some) for side in (_BEFORE, _AFTER))
            joined = before.lazy().join(after.lazy(), on=_KEY, suffix="_after")
            differ = joined.select((pl.col(short) != pl.col(f"{short}_after")).sum() for short in names).collect().row(0)
            counted.update({name: count for name, count in zip(names.values(), differ, strict=True) if count})
        return counted

    def _column_hashes(self, side: str, keys: pl.DataFrame) -> pl.DataFrame:
        columns = (_comparable(pl.col(name), self._types[side][name]).hash().alias(f"c{at}") for at, name in enumerate(self._shared))
        return self._with_keys(side, keys).select(pl.col(self._key).alias(_KEY), *columns).collect(engine="streaming")

    def _changed_rows(self, keys: pl.DataFrame) -> Iterator[ChangedRow]:
        before, after = ({row[self._key]: row for row in self._rows(side, keys)} for side in (_BEFORE, _AFTER))
        hashes = {side: self._column_hashes(side, keys).rows_by_key(_KEY, named=True, unique=True) for side in (_BEFORE, _AFTER)}
        for key, row in before.items():
            one, other = hashes[_BEFORE][key], hashes[_AFTER][key]
            differ = [name for at, name in enumerate(self._shared) if one[f"c{at}"] != other[f"c{at}"]]
            yield ChangedRow(key=key, columns={name: (row[name], after[key][name]) for name in differ})

    def _rows(self, side: str, keys: pl.DataFrame) -> list[dict[str, Any]]:
        """Whole rows with these keys, of which there are a few, sorted by key."""
        if not keys.height:
            return []
        return self._with_keys(side, keys).collect(engine="streaming").sort(self._key).to_dicts()

    def _with_keys(self, side: str, keys: pl.DataFrame) -> pl.LazyFrame:
        return self._frames[side].join(keys.lazy(), left_on=self._key, right_on=_KEY, how="semi")


def _comparable(column: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """A column whose hash is that of its values: categories are numbered differently in each file."""
    return column.cast(pl.String) if isinstance(kind, pl.Categorical | pl.Enum) else column
