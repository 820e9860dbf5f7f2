"""How many tokens go in a minute."""

from __future__ import annotations

import random

import pytest

from batchrun.flow.limits import TokenRate


@pytest.mark.parametrize("seed", range(20))
def test_no_minute_ever_holds_more_than_allowed(seed: int) -> None:
    """Whatever the calls use and however long they take; a service counts what arrives with what it has used."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    rate, now, arrived = TokenRate(6_000), 0.0, list[tuple[float, int]]()
    for call in range(400):
        expected = chance.randint(1, 900)
        while (wait := rate.wait_seconds(expected, now)) > 0:
            now += max(wait, 0.001)
        rate.sent(call, expected, now)
        used = chance.randint(1, expected)
        arrived.append((now + chance.random() * 0.5, used))
        now += chance.random() * chance.choice([0, 0.5, 5])
        rate.ended(call, max(now, arrived[-1][0]), used)
        now = max(now, arrived[-1][0])
    for start, _ in arrived:
        assert sum(tokens for at, tokens in arrived if start <= at < start + 60) <= 6_000


def test_at_least_nine_tenths_are_used() -> None:
    """A limit that is kept by half of it would be paid for with time."""
    rate, now, sent = TokenRate(60_000), 0.0, 0
    call = 0
    while now < 1_200:
        wait = rate.wait_seconds(500, now)
        if wait:
            now += max(wait, 0.001)
            continue
        call += 1
        rate.sent(call, 500, now)
        rate.ended(call, now, 500)
        sent += 500
    assert sent / 20 >= 0.9 * 60_000


def test_what_was_not_used_makes_room_at_once() -> None:
    """Answers are mostly much shorter than they might be."""
    rate = TokenRate(600)
    rate.sent(1, 600, 0.0)
    assert rate.wait_seconds(50, 1.0) > 0
    rate.ended(1, 1.0, 20)
    assert rate.wait_seconds(50, 1.0) == 0
    rate.sent(2, 580, 1.0)
    assert rate.wait_seconds(50, 2.0) > 0
    rate.not_sent(2)
    assert rate.wait_seconds(50, 2.0) == 0


def test_a_call_that_needs_more_than_a_minute_has_goes_alone() -> None:
    """It must not wait for ever, and a larger one than expected counts in full."""
    rate = TokenRate(600)
    assert rate.wait_seconds(5_000, 0.0) == 0
    rate.sent(1, 5_000, 0.0)
    rate.ended(1, 1.0)
    assert rate.wait_seconds(1, 30.0) > 30
    rate = TokenRate(600)
    rate.sent(1, 10, 0.0)
    rate.ended(1, 1.0, 700)
    assert rate.wait_seconds(1, 1.0) == pytest.approx(60)
    rate.ended(1, 100.0, 700)  # it is forgotten by then
    rate.per_minute = 6_000
    assert rate.wait_seconds(1, 100.0) == 0
