"""Random samples that are the same on every machine and with every library version.

Each row gets a number that looks random, from its position and the seed alone; a sample is the rows with the smallest
numbers. Different rows always get different numbers.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

_LARGEST = 2**64 - 1
_PART = 2**20


def mixed(position: pl.Expr, seed: int) -> pl.Expr:
    """SplitMix64 of the position, as unsigned 64-bit integers, which wrap around."""

    def constant(value: int) -> pl.Expr:
        return pl.lit(value & _LARGEST, dtype=pl.UInt64)

    state = (position.cast(pl.UInt64) + constant(seed) + constant(1)) * constant(0x9E3779B97F4A7C15) + constant(seed * 0xD1B54A32D192ED03)
    state = (state ^ (state // constant(2**30))) * constant(0xBF58476D1CE4E5B9)
    state = (state ^ (state // constant(2**27))) * constant(0x94D049BB133111EB)
    return state ^ (state // constant(2**31))


def is_below(position: pl.Expr, seed: int, threshold: int) -> pl.Expr:
    """Whether a row's number is at most `threshold`; -1 keeps no row."""
    return mixed(position, seed) <= pl.lit(threshold, dtype=pl.UInt64) if threshold >= 0 else pl.lit(False)


def fraction_threshold(fraction: float) -> int:
    """The threshold that keeps this share of the rows."""
    return min(int(fraction * 2**64), 2**64) - 1


def smallest_threshold(positions: Iterable[pl.Series], n: int, seed: int) -> int:
    """The threshold that keeps exactly `n` of the rows, or all if there are fewer."""
    kept = pl.Series(dtype=pl.UInt64)
    for part in positions:
        numbers = part.to_frame("at").select(mixed(pl.col("at"), seed))["at"]
        kept = pl.concat([kept, numbers]).sort().head(n)
    return -1 if kept.is_empty() else int(kept[-1])


def chosen(total: int, n: int, seed: int) -> list[int]:
    """The positions of `n` of so many rows, ascending; all of them if there are fewer.

    Example:
        >>> chosen(1_000, 3, seed=7)
        [304, 321, 543]
    """
    parts = (pl.int_range(start, min(start + _PART, total), dtype=pl.Int64, eager=True) for start in range(0, total, _PART))
    threshold = smallest_threshold(parts, n, seed)
    parts = (pl.int_range(start, min(start + _PART, total), dtype=pl.Int64, eager=True) for start in range(0, total, _PART))
    return [at for part in parts for at in part.to_frame("at").filter(is_below(pl.col("at"), seed, threshold))["at"].to_list()]
