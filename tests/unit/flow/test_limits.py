"""Calls a minute, counted by the service."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.flow.limits import RequestRate


def arrivals(rate: RequestRate, calls: list[tuple[float, float, float]]) -> list[float]:
    """When calls reach a service: each is asked for after a pause, takes a while to arrive, and a while to be answered."""
    now, arrived, answers = 0.0, [], list[tuple[float, int]]()
    for number, (pause, transit, work) in enumerate(calls):
        now += pause
        while (wait := rate.wait_seconds(now)) > 0:
            if answers and answers[0][0] <= now + wait:
                now = max(answers[0][0], now)
            else:
                now += max(wait, 0.001)
            while answers and answers[0][0] <= now:
                rate.ended(heapq.heappop(answers)[1], now)
        rate.sent(number, now)
        arrived.append(now + transit)
        heapq.heappush(answers, (now + transit + work, number))
    return sorted(arrived)


def most_in(seconds: float, times: list[float]) -> int:
    """The most calls that came within so many seconds, wherever these begin."""
    return max((index - bisect_left(times, end - seconds + 1e-9) + 1 for index, end in enumerate(times)), default=0)


@given(
    st.floats(0.2, 90),
    st.lists(st.tuples(st.floats(0, 3) | st.floats(0, 200), st.floats(0, 2), st.floats(0, 90)), max_size=60),
)
def test_the_service_never_counts_too_many_in_a_minute(per_minute: float, calls: list[tuple[float, float, float]]) -> None:
    """By its own clock, in any 60 seconds, however long calls are on their way or at work, and after any pause."""
    times = arrivals(RequestRate(per_minute), calls)
    assert most_in(60.0, times) <= max(math.floor(per_minute), 1)
    assert len(times) == len(calls)


@pytest.mark.parametrize(("per_minute", "work_seconds"), [(1, 0.1), (60, 0.1), (60, 30.0), (600, 1.0), (600, 90.0)])
def test_what_is_allowed_is_used(per_minute: float, work_seconds: float) -> None:
    """At least nine tenths of it, also when calls take long: only their first two seconds are lost."""
    times = arrivals(RequestRate(per_minute), [(0.0, 0.05, work_seconds)] * (int(per_minute) * 10))
    assert (times[-1] - times[0]) / 60 <= 10 / 0.9


def test_calls_are_spread_and_at_most_those_of_a_second_go_together() -> None:
    """A service is not hit by a whole minute of calls at once, neither at the start nor after a rest."""
    rate = RequestRate(600)
    times = arrivals(rate, [(0.0, 0.0, 0.0)] * 30 + [(3_600.0, 0.0, 0.0)] + [(0.0, 0.0, 0.0)] * 30)
    for part in (times[:30], times[30:]):
        assert most_in(0.05, part) == 10
        assert most_in(1.0, part) <= 20
    assert most_in(0.5, arrivals(RequestRate(60), [(0.0, 0.0, 0.0)] * 5)) == 1


def test_less_than_one_a_minute_is_one_in_several_minutes() -> None:
    """Half a call a minute is a promise, too."""
    times = arrivals(RequestRate(0.5), [(0.0, 0.0, 1.0)] * 4)
    assert most_in(119.9, times) == 1
    assert times[-1] < 3 * 125


def test_a_call_that_was_not_sent_leaves_its_place_to_the_next() -> None:
    """A cancelled item costs the others nothing."""
    rate = RequestRate(1)
    rate.sent(1, now=0.0)
    assert rate.wait_seconds(0.0) == 62.0
    rate.not_sent(1)
    assert rate.wait_seconds(0.0) == 0.0


def test_another_limit_counts_what_was_sent_before() -> None:
    """Changing the limit back and forth is no way around it; a higher one holds at once."""
    rate = RequestRate(2)
    for number in range(2):
        rate.sent(number, now=number * 30.0)
        rate.ended(number, now=number * 30.0)
    assert rate.wait_seconds(30.0) == 30.0
    rate.per_minute = 120
    assert rate.wait_seconds(31.0) == 0.0
    rate.per_minute = 1
    assert rate.wait_seconds(31.0) == 59.0
