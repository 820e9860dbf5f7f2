"""What many items take, as a sample of them tells."""

from __future__ import annotations

import random

import pytest

from batchrun.flow.estimate import Bound, covered, extrapolate, most_at_once

BUSY = Bound("run.parallelism: 4", "busy", 4.0)


def test_equal_items_leave_no_doubt() -> None:
    """A range is as wide as items are different."""
    found = extrapolate([{"busy": 2.0, "calls": 3.0}] * 5, [BUSY], 100)
    assert (found.seconds.low, found.seconds.expected, found.seconds.high) == (50.0, 50.0, 50.0)
    assert found.amounts["calls"].expected == 300.0


def test_the_slowest_bound_decides_and_the_first_one_wins_a_tie() -> None:
    """A limit of requests by the minute makes fast items slow, and is named."""
    items = [{"busy": 0.1, "requests": 1.0}] * 10
    rate = Bound("resources.api.requests_per_minute: 60", "requests", 1.0)
    found = extrapolate(items, [BUSY, rate], 100)
    assert (found.bounded_by, found.seconds.expected) == (rate.name, 100.0)
    same = Bound("another", "requests", 1.0)
    assert extrapolate(items, [same, rate], 100).bounded_by == "another"


def test_the_interval_holds_what_it_promises() -> None:
    """Of samples of 30 uneven items, about 95 in 100 intervals hold what the rest really took; a fixed seed makes it always the same."""
    draw = random.Random(7)  # noqa: S311 - not for secrets
    held = 0
    for trial in range(100):
        sample = [{"busy": draw.lognormvariate(0, 0.5)} for _ in range(30)]
        rest = sum(draw.lognormvariate(0, 0.5) for _ in range(200))
        found = extrapolate(sample, [Bound("x", "busy", 1.0)], 200, seed=trial)
        held += found.seconds.low <= rest <= found.seconds.high
    assert 88 <= held <= 100


def test_the_same_seed_gives_the_same_range() -> None:
    """Who plans twice is told the same."""
    sample = [{"busy": float(number)} for number in range(1, 9)]
    assert extrapolate(sample, [BUSY], 50, seed=3) == extrapolate(sample, [BUSY], 50, seed=3)


def test_an_end_is_never_below_zero_nor_on_the_wrong_side() -> None:
    """One dear item among free ones makes a wide range, not a negative cost."""
    found = extrapolate([{"busy": 0.0}] * 19 + [{"busy": 10.0}], [BUSY], 1_000)
    assert 0.0 <= found.seconds.low <= found.seconds.expected <= found.seconds.high


def test_a_small_rest_is_less_certain_than_a_large_one() -> None:
    """Ten other items are themselves a draw; of a hundred thousand only the mean matters."""
    sample = [{"busy": float(number % 3)} for number in range(30)]

    def width(rest_items: int) -> float:
        seconds = extrapolate(sample, [BUSY], rest_items).seconds
        return (seconds.high - seconds.expected) / seconds.expected

    assert width(10) > 1.5 * width(100_000)


def test_samples_of_thousands_are_reckoned_in_bounded_work() -> None:
    """A large sample needs fewer draws, and its range is narrow."""
    found = extrapolate([{"busy": 1.0 + number % 2} for number in range(10_000)], [BUSY], 1_000_000)
    assert found.seconds.high / found.seconds.low == pytest.approx(1.0, abs=0.05)


def test_intervals_that_touch_do_not_share_an_instant() -> None:
    """Functions that run one after another in one thread are one at a time."""
    one_by_one = [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]
    assert (most_at_once(one_by_one), covered(one_by_one)) == (1, 3.0)
    assert most_at_once([(0.0, 5.0), *one_by_one]) == 2
    assert (most_at_once([]), covered([])) == (1, 0)
