"""What becomes of each time of a schedule, decided without a clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.core.schedules import Schedule, StoredSchedule
from batchrun.flow.cron import Cron
from batchrun.flow.firings import ON_TIME_SECONDS, Busy, Decision, after_set_back, begins_at, decide

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
IDLE = Busy()


def stored(next_at: datetime, *, is_paused: bool = False, **fields: Any) -> StoredSchedule:
    schedule = Schedule(**{"name": "hourly", "job": "job.yaml", "cron": "0 * * * *", **fields})
    return StoredSchedule(id=1, schedule=schedule, is_paused=is_paused, next_at=next_at, created_at=NOON)


def decided(now: datetime, busy: Busy = IDLE, **fields: Any) -> Decision:
    decision = decide(stored(NOON, **fields), now, busy)
    assert decision is not None
    return decision


def test_nothing_fires_early_or_while_it_is_paused() -> None:
    """A schedule fires at its time, not in the look before."""
    assert decide(stored(NOON), NOON - timedelta(seconds=1), Busy()) is None
    assert decide(stored(NOON, is_paused=True), NOON, Busy()) is None
    assert decided(NOON) == Decision(NOON, NOON + timedelta(hours=1))


@pytest.mark.parametrize(
    ("overlap", "busy", "status"),
    [
        ("skip", Busy(), "claimed"),
        ("skip", Busy(running=1), "skipped"),
        ("queue", Busy(running=1), "queued"),
        ("queue", Busy(running=1, queued=1), "skipped"),
        ("queue", Busy(queued=1), "skipped"),
        ("allow", Busy(running=3), "claimed"),
    ],
)
def test_overlap(overlap: str, busy: Busy, status: str) -> None:
    """What happens at the time of a firing while an earlier one runs is what the schedule says."""
    assert decided(NOON, busy, overlap=overlap).status == status


def test_missed_times_are_one_firing_or_none() -> None:
    """After a night without a scheduler the job runs once, for the latest time, and not nine times; or not at all."""
    morning, latest = NOON + timedelta(hours=9, minutes=20), NOON + timedelta(hours=9)
    once = decided(morning)
    assert once[:3] == (latest, latest + timedelta(hours=1), "claimed")
    assert once.reason == "stands for those missed since 2026-11-02 12:00 UTC"
    assert decided(morning, missed="skip")[:3] == (latest, latest + timedelta(hours=1), "missed")
    assert decided(morning, max_age_seconds=600).status == "missed"
    assert decided(morning, max_age_seconds=1_200).status == "claimed"


def test_a_scheduler_that_is_a_little_late_missed_nothing() -> None:
    """A busy machine is no reason to leave a time out."""
    for seconds in (1, ON_TIME_SECONDS):
        assert decided(NOON + timedelta(seconds=seconds), missed="skip") == Decision(NOON, NOON + timedelta(hours=1))
    assert decided(NOON + timedelta(hours=3, seconds=5), missed="skip").status == "claimed"  # 15:00 is on time, those before are not


def test_a_clock_that_was_far_ahead_does_not_stop_a_schedule_for_years() -> None:
    """After a wrong clock was put right, the next time is the next one; a clock set back by an hour repeats nothing."""
    ahead = stored(NOON.replace(year=2031))
    assert after_set_back(ahead, NOON) == Decision(None, NOON + timedelta(hours=1))
    assert after_set_back(stored(NOON + timedelta(hours=2)), NOON) is None
    assert decide(stored(NOON + timedelta(hours=2)), NOON, Busy()) is None
    assert after_set_back(stored(datetime(2027, 1, 1, tzinfo=UTC), cron="@yearly"), NOON) is None


@settings(max_examples=60)
@given(
    st.sampled_from(["*/5 * * * *", "17 * * * *", "0 3 * * *"]),
    st.lists(st.integers(1, 40), min_size=20, max_size=200),
    st.sampled_from([0, 45, 700]),
    st.sampled_from(["once", "skip"]),
)
def test_every_time_is_fired_or_accounted_for_once(cron: str, looks: list[int], jitter_seconds: int, missed: str) -> None:
    """However irregularly a scheduler looks, times come in order, none twice, and each belongs to one decision."""
    times, now = Cron(cron), NOON
    schedule = stored(times.after(NOON), cron=cron, jitter_seconds=jitter_seconds, missed=missed)
    reached = NOON
    for wait_seconds in looks:
        now += timedelta(seconds=wait_seconds * 17)
        while decision := decide(schedule, now, Busy()):
            assert decision.due_at is not None and reached < decision.due_at <= now
            assert begins_at(schedule.schedule, decision.due_at) <= now
            assert decision.next_at == times.after(decision.due_at)
            if times.after(reached) != decision.due_at:
                assert decision.reason is not None and "missed since" in decision.reason
            reached = decision.due_at
            schedule = stored(decision.next_at, cron=cron, jitter_seconds=jitter_seconds, missed=missed)
    assert begins_at(schedule.schedule, times.after(reached)) > now
