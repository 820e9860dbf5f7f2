"""Heartbeats of executions on other machines, whose clocks may be wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from batchrun.execution.pulse import Pulses

NOW = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)


class Watch:
    """Somebody who watches an execution on another machine; each clock is what the test says."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._pulses = Pulses(clock=lambda: self.seconds)

    def sees(self, heartbeat_at: datetime, now: datetime = NOW, *, after: float = 1.0) -> bool:
        self.seconds += after
        return self._pulses.is_alive("id", heartbeat_at, now)


@pytest.mark.parametrize("ahead", [timedelta(hours=-5), timedelta(minutes=-1), timedelta(0), timedelta(minutes=1), timedelta(days=400)])
@pytest.mark.parametrize("interval", [1.0, 30.0])
def test_a_watched_heart_that_beats_is_alive_whatever_its_clock(ahead: timedelta, interval: float) -> None:
    """Clocks of machines differ; who sees heartbeats come knows that they do."""
    watch = Watch()
    looks = [watch.sees(NOW + ahead + timedelta(seconds=at), NOW + timedelta(seconds=at), after=interval) for at in range(100)]
    assert looks[1:] == [True] * 99
    assert looks[0] == (timedelta(seconds=-30) < ahead < timedelta(days=1))


@pytest.mark.parametrize("ahead", [timedelta(hours=-5), timedelta(seconds=-31), timedelta(0), timedelta(hours=5), timedelta(days=400)])
def test_a_heart_that_stops_while_it_is_watched_is_dead(ahead: timedelta) -> None:
    """A heartbeat from the future, or a clock that is set back, keeps no dead execution alive."""
    watch = Watch()
    for at in range(5):
        watch.sees(NOW + ahead + timedelta(seconds=at))
    last = NOW + ahead + timedelta(seconds=4)
    seen = [watch.sees(last, NOW - timedelta(hours=1)) for _ in range(61)]
    assert seen[0] and not seen[-1]
    assert not watch.sees(last)


def test_a_heartbeat_from_the_future_counts_for_half_a_minute() -> None:
    """The first look has only the clocks; the next ones know better."""
    watch = Watch()
    future = NOW + timedelta(hours=3)
    assert [watch.sees(future, after=after) for after in (1, 14, 15, 1, 100)] == [True, True, True, False, False]


def test_a_heartbeat_that_changed_long_ago_proves_nothing() -> None:
    """Between two looks a day apart an execution can have gone on and died."""
    watch = Watch()
    assert watch.sees(NOW)
    assert not watch.sees(NOW + timedelta(hours=1), NOW + timedelta(days=1), after=86_400)
