"""Adding up what items wait for."""

from __future__ import annotations

import pytest

from batchrun.execution.waits import Waits, added_waits


class Clock:
    """Says the time that it is set to; looking at items takes time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_samples_become_the_time_of_all_items_together() -> None:
    """Four items that wait for half a second have waited for two seconds."""
    clock = Clock()
    waits = Waits(clock)
    waits.look(lambda: {"call": 4, "lane": 0})
    for at in (0.25, 0.5):
        clock.now = at
        waits.look(lambda: {"call": 4, "lane": 0})
    assert waits.seconds == {"call": 2.0}


def test_looking_takes_a_hundredth_of_the_time_at_most() -> None:
    """With a million open items, the execution is not slowed down by counting them."""
    clock, looks = Clock(), []
    waits = Waits(clock)

    def slow() -> dict[str, int]:
        looks.append(clock.now)
        clock.now += 0.1
        return {"call": 1_000}

    for tick in range(500):
        clock.now = max(clock.now, tick * 0.2)
        waits.look(slow)
    assert len(looks) <= 1 + 100 / (0.1 * 100)
    assert waits.seconds["call"] == pytest.approx(1_000 * (looks[-1] - looks[0]) + 500 * looks[0], rel=0.01)


def test_waits_of_several_runs_add_up_longest_first() -> None:
    """A resume forgets nothing, and the first thing said is the largest."""
    assert list(added_waits({"call": 1.0, "backoff": 5.0}, {"call": 0.5, "lane": 9.0}).items()) == [
        ("lane", 9.0),
        ("backoff", 5.0),
        ("call", 1.5),
    ]
