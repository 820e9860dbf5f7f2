"""When a service is called at all."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.policies import Breaker
from batchrun.flow.breaker import CircuitBreaker


def opened(**policy: float) -> CircuitBreaker:
    """A breaker that has opened at 0 s after three failures."""
    breaker = CircuitBreaker(Breaker(failures=3, **policy))  # type: ignore[arg-type]
    for _ in range(3):
        assert not breaker.is_open
        breaker.failed(now=0.0, chance=0.0)
    assert breaker.is_open
    return breaker


def test_only_failures_in_a_row_open_it() -> None:
    """A service that fails now and then is called as before."""
    breaker = CircuitBreaker(Breaker(failures=3))
    for now in range(100):
        breaker.failed(now + 0.0, chance=0.0)
        breaker.failed(now + 0.1, chance=0.0)
        breaker.succeeded(now + 0.2)
    assert (breaker.is_open, breaker.opened, breaker.wait_seconds(100.0)) == (False, 0, 0.0)


def test_one_call_tries_the_service_after_waits_that_grow() -> None:
    """A service that comes up again is not run over, and one that is away for long is not pestered."""
    breaker, now, waits = opened(probe_initial_seconds=1, probe_max_seconds=5), 0.0, []
    for _ in range(5):
        waits.append(breaker.wait_seconds(now))
        now += waits[-1]
        assert breaker.wait_seconds(now) == 0.0
        assert breaker.sent()
        assert breaker.wait_seconds(now + 1_000) == math.inf
        breaker.failed(now, chance=0.0, is_probe=True)
    assert waits == [1, 2, 4, 5, 5]
    breaker.succeeded(now)
    assert (breaker.is_open, breaker.wait_seconds(now), breaker.sent()) == (False, 0.0, False)
    assert (breaker.opened, breaker.parked_seconds(now + 99)) == (1, 17.0)


def test_calls_from_before_neither_open_it_twice_nor_put_off_the_next_try() -> None:
    """Many calls in flight fail together; that is one outage."""
    breaker = opened(probe_initial_seconds=1)
    for _ in range(50):
        breaker.failed(now=0.9, chance=0.0)
    assert (breaker.opened, breaker.wait_seconds(1.0)) == (1, 0.0)


def test_a_success_from_before_closes_it() -> None:
    """Who answers is there."""
    breaker = opened()
    breaker.succeeded(0.1)
    assert not breaker.is_open
    breaker.failed(0.2, chance=0.0)
    assert not breaker.is_open


def test_a_try_that_was_not_made_lets_the_next_call_try() -> None:
    """An item that is cancelled just then must not park the others for ever."""
    breaker = opened(probe_initial_seconds=1)
    assert breaker.sent()
    breaker.not_tried(is_probe=True)
    assert breaker.wait_seconds(1.0) == 0.0


def test_it_gives_up_after_as_long_as_the_job_says() -> None:
    """Counted from when it opened, tries or not; without a limit never."""
    assert opened().gives_up_at() == math.inf
    breaker = opened(max_parked_seconds=10)
    assert breaker.sent()
    breaker.failed(5.0, chance=0.0, is_probe=True)
    assert breaker.gives_up_at() == 10.0
    breaker.succeeded(6.0)
    assert breaker.gives_up_at() == math.inf


@given(st.lists(st.sampled_from(["ok", "bad", "cut", "late"]), max_size=200), st.floats(0, 0.999))
def test_there_is_always_a_next_try_soon(events: list[str], chance: float) -> None:
    """Whatever happens to calls, an open breaker lets one through within its longest wait, and no second one beside it."""
    breaker, now = CircuitBreaker(Breaker(failures=2, probe_initial_seconds=0.5, probe_max_seconds=4)), 0.0
    for event in events:
        wait = breaker.wait_seconds(now)
        assert 0 <= wait <= 4 * 1.25
        now += wait
        is_probe = breaker.sent()
        assert not is_probe or breaker.wait_seconds(now + 1e9) == math.inf
        if event == "ok":
            breaker.succeeded(now)
        elif event == "cut":
            breaker.not_tried(is_probe=is_probe)
        else:
            breaker.failed(now, chance, is_probe=is_probe)
        if event == "late":
            breaker.failed(now, chance)
