"""Percentiles of durations, counted in buckets."""

from __future__ import annotations

import math
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.results.durations import buckets_of, cumulated, percentile

RELATIVE_ERROR = 10 ** (1 / 48) - 1
DURATIONS = st.lists(st.floats(min_value=1e-5, max_value=1e9), min_size=1, max_size=300)


def counted(durations: list[float]) -> Counter[int]:
    return Counter(buckets_of(pa.array(durations, pa.float64())).to_pylist())


@given(DURATIONS, st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_percentiles_are_within_five_percent(durations: list[float], share: float) -> None:
    """The page says how exact they are, and they are."""
    exact = sorted(durations)[math.ceil(share * len(durations)) - 1]
    assert percentile(counted(durations), share, max(durations)) == pytest.approx(exact, rel=RELATIVE_ERROR + 1e-9)


@given(DURATIONS, DURATIONS)
def test_counts_of_two_runs_add_up_to_those_of_both(first: list[float], second: list[float]) -> None:
    """After a resume, percentiles are those of all items."""
    assert counted(first) + counted(second) == counted(first + second)


@given(DURATIONS)
def test_cumulated_counts_are_exact_and_never_fall(durations: list[float]) -> None:
    """A histogram for Prometheus says of each bound how many calls were shorter."""
    counts = [count for _, count in cumulated(counted(durations))]
    assert counts == sorted(counts)
    for seconds, count in cumulated(counted(durations)):
        shorter, about = (sum(duration < seconds * 1e3 * share for duration in durations) for share in (0.999, 1.001))
        assert shorter <= count <= about


def test_a_day_and_nothing_at_all_need_few_buckets() -> None:
    """Memory does not grow with the number of items: there are not more than 400 different buckets in ten years."""
    found = buckets_of(pa.array([0.0, 1e-9, 1e-6, 10 * 365 * 86_400e3])).to_pylist()
    assert found[:3] == [-144, -144, -144]
    assert max(found) - min(found) < 450


def test_no_executions_have_no_percentile() -> None:
    """A node that never ran has zeros, not an error."""
    assert percentile({}, 0.99, 0.0) == 0.0
    assert {count for _, count in cumulated({})} == {0}
