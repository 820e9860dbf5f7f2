"""Which rows of a dataset are items, in one bit a row."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

import polars as pl

_STEP = 2**16


@dataclass(frozen=True, slots=True)
class Kept:
    """The rows that are items; their ordinals are given in order.

    Attributes:
        stop: the position after the last item.
        total: how many items there are.
        marks: for each row before `stop`, whether it is an item; null: all are.
        counts: how many items there are before each 65,536th row and in all.
    """

    stop: int
    total: int
    marks: pl.Series | None = None
    counts: tuple[int, ...] = ()

    @classmethod
    def first(cls, rows: int) -> Kept:
        """The first rows of a dataset, all of them."""
        return cls(rows, rows)

    @classmethod
    def marked(cls, parts: Iterable[pl.Series]) -> Kept:
        """The rows that are marked in columns of truth values, which are those of the dataset one after the other."""
        marks = pl.concat([pl.Series(dtype=pl.Boolean), *parts], rechunk=True)
        counts = (0, *accumulate(_sum(marks.slice(at, _STEP)) for at in range(0, len(marks), _STEP)))
        return cls(len(marks), counts[-1], marks, counts).head(counts[-1])

    def head(self, limit: int) -> Kept:
        """The first ones, without the rows after the last of them."""
        if self.marks is None:
            return Kept.first(min(limit, self.total))
        total = min(limit, self.total)
        if total == 0:
            return Kept(0, 0, self.marks.head(0), (0,))
        at = bisect_left(self.counts, total) - 1  # the step with the last one
        stop = at * _STEP + self.marks.slice(at * _STEP, _STEP).arg_true()[total - self.counts[at] - 1] + 1
        return Kept(stop, total, self.marks.head(stop), (*self.counts[: at + 1], total))

    def before(self, position: int) -> int:
        """How many items come before a row: its ordinal, if it is one."""
        position = min(position, self.stop)
        if self.marks is None:
            return position
        at = position // _STEP
        rest = position - at * _STEP
        return self.counts[at] + _sum(self.marks.slice(at * _STEP, rest)) if rest else self.counts[at]

    def has_any(self, start: int, stop: int) -> bool:
        """Whether a row from `start` to before `stop` is an item."""
        return self.before(start) < self.before(stop)

    def mask(self, start: int, stop: int) -> pl.Series | None:
        """For each row from `start` to before `stop`, whether it is an item; null: all are."""
        if self.marks is None or self.before(stop) - self.before(start) == stop - start:
            return None
        return self.marks.slice(start, stop - start)

    def parts(self) -> Iterator[tuple[int, pl.Series]]:
        """All rows in order, some at a time: the position of the first one, and whether each is an item."""
        step = 16 * _STEP
        for at in range(0, self.stop, step):
            rows = min(step, self.stop - at)
            yield at, pl.repeat(True, rows, dtype=pl.Boolean, eager=True) if self.marks is None else self.marks.slice(at, rows)

    @property
    def fingerprint(self) -> str:
        """A hash of the positions of the items when they are marked, else how many there are."""
        if self.marks is None:
            return f"first {self.total}"
        padding = pl.repeat(False, -len(self.marks) % 8, dtype=pl.Boolean, eager=True)
        bits = pl.concat([self.marks, padding], rechunk=True).to_arrow()
        start = bits.offset // 8
        return hashlib.blake2b(memoryview(bits.buffers()[1])[start : start + len(bits) // 8], digest_size=16).hexdigest()


def _sum(marks: pl.Series) -> int:
    return int(marks.sum() or 0)
