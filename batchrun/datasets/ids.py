"""The check of the id column: never null, never twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import isnan, nan
from typing import Any

import polars as pl

from batchrun.core.errors import JobError, Problem

_EXAMPLES = 3
_PARTS = 8  # sorted one after another: all at once would take three times the memory


class IdCheck:
    """Takes the ids of all items frame by frame.

    Ids that rise from row to row, as numbers of rows do, are all different: nothing is kept of them. From the first frame
    in which they do not, eight bytes of each are. Equal hashes are only a suspicion: the rows concerned are read again and
    compared.
    """

    def __init__(self, name: str, position: str) -> None:
        self._name, self._position = name, position
        self._hashes: list[pl.Series] = []
        self._nulls: list[int] = []
        self._null_count = 0
        self._last: pl.Series | None = None  # of those that rise
        self._risen = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Take the ids of some items."""
        ids = frame[self._name]
        if ids.null_count():
            self._null_count += ids.null_count()
            self._nulls += frame[self._position].filter(ids.is_null()).head(_EXAMPLES).to_list()
        if not self._hashes and self._rise(ids):
            self._risen += len(ids)
        else:
            self._hashes.append(_hashes(ids))

    def finish(self, read_again: Callable[[], Iterable[pl.DataFrame]]) -> None:
        """Refuse null and repeated ids.

        Raises:
            JobError: with examples.
        """
        if self._null_count:
            rows = ", ".join(map(str, self._nulls[:_EXAMPLES]))
            raise self._refusal(f'"{self._name}" is null in {self._null_count:,} rows, for example in rows {rows} (item_index)')
        if not self._hashes:
            return
        self._hashes += self._hashes_of_risen(read_again())
        repeated = pl.concat([self._repeated_hashes(part) for part in range(_PARTS)])
        self._hashes.clear()
        suspects = repeated.unique(maintain_order=True)
        for start in range(0, len(suspects), _EXAMPLES):
            twice = self._repeated(suspects.slice(start, _EXAMPLES), read_again())
            if twice:
                examples = "; ".join(f"{value!r} in rows {', '.join(map(str, rows))}" for value, rows in twice.items())
                raise self._refusal(
                    f'"{self._name}" is not unique: {len(repeated):,} rows repeat an earlier value, for example {examples} (item_index)'
                )

    def _rise(self, ids: pl.Series) -> bool:
        ids = _plain(ids)
        if not (ids.dtype.is_numeric() or ids.dtype.is_temporal() or ids.dtype == pl.String):
            return False
        before, self._last = self._last, ids.tail(1) if len(ids) else self._last
        follow = before is None or (before < ids.head(1)).all()
        return follow and (ids.head(-1) < ids.slice(1)).all()

    def _hashes_of_risen(self, frames: Iterable[pl.DataFrame]) -> Iterator[pl.Series]:
        """Those of the ids of which nothing was kept: they rose, but later ones may repeat them."""
        missing = self._risen
        for frame in frames if missing else ():
            ids = frame[self._name].head(missing)
            yield _hashes(ids)
            missing -= len(ids)
            if not missing:
                return

    def _repeated_hashes(self, part: int) -> pl.Series:
        hashes = pl.concat([pl.Series(dtype=pl.UInt64), *(some.filter(some % _PARTS == part) for some in self._hashes)]).sort()
        return hashes.filter(hashes == hashes.shift(1))

    def _repeated(self, suspects: pl.Series, frames: Iterable[pl.DataFrame]) -> dict[Any, list[int]]:
        places: dict[Any, list[int]] = {}
        for frame in frames:
            hit = frame.filter(_hashes(frame[self._name]).is_in(suspects.implode()))
            for value, row in zip(hit[self._name].to_list(), hit[self._position].to_list(), strict=True):
                # Each NaN differs from all others but itself; as ids, those of all rows are one.
                rows = places.setdefault(nan if isinstance(value, float) and isnan(value) else value, [])
                if len(rows) < _EXAMPLES:
                    rows.append(row)
            if sum(len(rows) > 1 for rows in places.values()) == len(suspects):
                break
        return {value: rows for value, rows in places.items() if len(rows) > 1}

    def _refusal(self, message: str) -> JobError:
        return JobError([Problem(("dataset", "id"), message)])


def _hashes(ids: pl.Series) -> pl.Series:
    return _plain(ids).hash()


def _plain(ids: pl.Series) -> pl.Series:
    # The codes of a category differ from frame to frame, its text does not.
    return ids.cast(pl.String) if ids.dtype in (pl.Categorical, pl.Enum) else ids
