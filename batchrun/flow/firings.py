"""Whether a schedule fires now, and if not, why."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from batchrun.core.schedules import Schedule, StoredSchedule
from batchrun.flow.cron import Cron, jitter

ON_TIME_SECONDS = 60
"""A firing that is noticed later than this was missed."""

_SET_BACK = timedelta(days=1)


class Decision(NamedTuple):
    """What becomes of a time of a schedule.

    Attributes:
        due_at: the time; null: only `next_at` changes.
        next_at: the time after it.
        status: what it is from now on.
        reason: why it is not run, or what it stands for.
    """

    due_at: datetime | None
    next_at: datetime
    status: Literal["claimed", "queued", "skipped", "missed"] = "claimed"
    reason: str | None = None


class Busy(NamedTuple):
    """What a schedule is doing already.

    Attributes:
        running: its firings that are under way.
        queued: those that wait for the end of these.
    """

    running: int = 0
    queued: int = 0


def begins_at(schedule: Schedule, due_at: datetime) -> datetime:
    """When a firing begins, jitter included."""
    return due_at + jitter(schedule.name, due_at, schedule.jitter_seconds)


def decide(stored: StoredSchedule, now: datetime, busy: Busy) -> Decision | None:
    """What is to be done now; null: nothing yet. Times that were missed are one decision, however many they are."""
    schedule, first = stored.schedule, stored.next_at
    if stored.is_paused or begins_at(schedule, first) > now:
        return None
    cron = Cron(schedule.cron, schedule.timezone)
    due_at, since = first, None
    if (now - begins_at(schedule, first)).total_seconds() > ON_TIME_SECONDS:
        due_at = cron.latest(first, max(first, now - timedelta(seconds=schedule.jitter_seconds)))
        since = f"those missed since {first:%Y-%m-%d %H:%M} UTC"
    next_at = cron.after(due_at)
    late_seconds = (now - begins_at(schedule, due_at)).total_seconds()
    if late_seconds > ON_TIME_SECONDS and schedule.missed == "skip":
        return Decision(due_at, next_at, "missed", f"no scheduler was running; it stands for {since}")
    if late_seconds > max(ON_TIME_SECONDS, schedule.max_age_seconds):
        return Decision(due_at, next_at, "missed", f"older than {schedule.max_age_seconds:g} seconds; it stands for {since}")
    stands_for = f"stands for {since}" if since and (due_at != first or late_seconds > ON_TIME_SECONDS) else None
    if (not busy.running and not busy.queued) or schedule.overlap == "allow":
        return Decision(due_at, next_at, "claimed", stands_for)
    if schedule.overlap == "queue" and not busy.queued:
        return Decision(due_at, next_at, "queued", stands_for)
    waits = " and another one waits for its end" if busy.queued else ""
    return Decision(due_at, next_at, "skipped", f"an earlier firing still ran{waits}")


def after_set_back(stored: StoredSchedule, now: datetime) -> Decision | None:
    """The next time of a schedule when its clock was far ahead for a while; null: it is right as it is.

    A clock that was set back by up to a day waits for times that have not fired yet: none fires twice.
    """
    if stored.next_at - now <= _SET_BACK:
        return None
    next_at = Cron(stored.schedule.cron, stored.schedule.timezone).after(now)
    return Decision(None, next_at) if stored.next_at - next_at > _SET_BACK else None
