"""Which rows are items, in one bit a row."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.datasets.kept import Kept


def kept_of(flags: list[bool], cut: int) -> Kept:
    """The rows that are flagged, given in two parts."""
    return Kept.marked(pl.Series(part, dtype=pl.Boolean) for part in (flags[:cut], flags[cut:]))


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 40), st.integers(0, 45))
def test_items_are_counted_and_found_like_in_a_list(flags: list[bool], cut: int, limit: int) -> None:
    """Ordinals, masks and limits are those of the list of positions."""
    kept = kept_of(flags, cut).head(limit)
    positions = [at for at, flag in enumerate(flags) if flag][:limit]
    assert (kept.total, kept.stop) == (len(positions), positions[-1] + 1 if positions else 0)
    for start in range(kept.stop + 1):
        assert kept.before(start) == sum(at < start for at in positions)
        for stop in range(start, kept.stop + 1):
            expected = [at in positions for at in range(start, stop)]
            mask = kept.mask(start, stop)
            assert (mask.to_list() if mask is not None else [True] * (stop - start)) == expected
            assert kept.has_any(start, stop) == any(expected)


@pytest.mark.parametrize("rows", [65_535, 65_536, 65_537, 200_000])
def test_steps_are_joined_without_a_gap(rows: int) -> None:
    """Counts are held for steps of 65,536 rows: an item on either side of their ends is counted once."""
    kept = Kept.marked([pl.int_range(rows, eager=True) % 3 == 0])
    for position in (0, 1, 65_535, 65_536, 65_537, 131_072, rows - 1, rows):
        assert kept.before(min(position, kept.stop)) == (min(position, kept.stop) + 2) // 3
    for limit in (1, 21_845, min(21_846, kept.total), kept.total):
        assert kept.head(limit).stop == 3 * limit - 2
        assert kept.head(limit).before(kept.head(limit).stop) == limit


def test_a_fingerprint_is_that_of_the_positions() -> None:
    """It neither depends on how the rows were read nor on those after the last item."""
    flags = [at % 3 == 0 for at in range(50)]
    assert kept_of(flags, 7).fingerprint == kept_of(flags + [False] * 9, 30).fingerprint
    assert kept_of(flags, 0).head(4).fingerprint == kept_of(flags[:10], 0).fingerprint
    others = [kept_of([False, *flags], 0), kept_of(flags[:-3], 0), kept_of([], 0), Kept.first(17), Kept.first(50)]
    assert len({kept.fingerprint for kept in (kept_of(flags, 0), *others)}) == 6
