"""Finding out how many calls at a time a service can take."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batchrun.flow.adaptive import AdaptiveLimit


def rounds(limit: AdaptiveLimit, count: int, capacity: int) -> list[int]:
    """The limit after each round of calls, as many as it allows; the service objects to those above its capacity."""
    found = []
    for number in range(count):
        sent = limit.now
        for call in range(sent):
            if call < capacity:
                limit.succeeded(in_flight=limit.now)  # whatever is allowed is used at once
            else:
                limit.objected(sent_at=number + 0.0, now=number + 0.5)
        found.append(limit.now)
    return found


def test_it_finds_the_capacity_of_a_service_and_stays_there() -> None:
    """Within a quarter of it, from below and from above, after a few rounds."""
    for capacity in (5, 20, 100):
        settled = rounds(AdaptiveLimit(most=None), 200, capacity)[30:]
        assert 0.75 * capacity - 1 <= min(settled) and max(settled) <= 1.25 * capacity
        assert sum(min(each, capacity) for each in settled) / len(settled) >= 0.85 * capacity


def test_objections_of_the_same_moment_count_once() -> None:
    """A hundred calls that were sent together say one thing: too many."""
    limit = AdaptiveLimit(most=None)
    for _ in range(100):
        limit.objected(sent_at=1.0, now=2.0)
    assert limit.now == 6
    limit.objected(sent_at=1.9, now=3.0)
    assert limit.now == 6
    limit.objected(sent_at=2.1, now=3.0)
    assert limit.now == 5


def test_it_does_not_grow_while_it_is_not_used() -> None:
    """A limit that nobody has tried says nothing about the service."""
    limit = AdaptiveLimit(most=None)
    for _ in range(1_000):
        limit.succeeded(in_flight=7)
    assert limit.now == 8


@given(st.integers(1, 50), st.lists(st.booleans(), max_size=300))
def test_it_stays_within_its_bounds(most: int, answers: list[bool]) -> None:
    """Never above max_concurrency, and never below one call, whatever the service answers."""
    limit = AdaptiveLimit(most)
    for moment, is_well in enumerate(answers):
        if is_well:
            limit.succeeded(in_flight=limit.now)
        else:
            limit.objected(sent_at=moment + 0.5, now=moment + 0.9)
        assert 1 <= limit.now <= most
    limit.most = 1
    assert limit.now == 1
