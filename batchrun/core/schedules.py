"""What a schedule says, and what became of each of its firings."""

from __future__ import annotations

import re
import shlex
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

from batchrun.core.checks import above, at_least, problem, refuse
from batchrun.core.errors import BatchrunError

Verb: TypeAlias = Literal["run", "refresh"]
Overlap: TypeAlias = Literal["skip", "queue", "allow"]
Missed: TypeAlias = Literal["skip", "once"]
FiringStatus: TypeAlias = Literal[
    "claimed", "queued", "running", "completed", "waiting", "paused", "cancelled", "failed", "rejected", "unchanged", "skipped", "missed"
]

TRIGGER_VARIABLE = "BATCHRUN_TRIGGER"
"""The environment variable that says what starts executions, such as `schedule nightly`; their records keep it."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


class ScheduleError(BatchrunError):
    """What was asked of a schedule cannot be done. The message says why, and what can."""


class NoSuchSchedule(ScheduleError):
    """There is no schedule of this name. The message names those there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a job is run, and how.

    Attributes:
        name: names it.
        job: the path of the job file.
        cron: minute, hour, day of the month, month, day of the week; or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
        timezone: the zone the expression is about, such as `Europe/Berlin`.
        verb: what a firing does.
        overrides: fields of the job that are different, such as `("run.parallelism=64",)`.
        folder: the working directory of its executions.
        overlap: what happens at a time at which an earlier firing still runs: nothing; this one begins when that one ends (at most
            one waits); or both run at once.
        missed: what happens to times at which no scheduler ran: nothing, or one firing stands for all of them.
        max_age_seconds: a missed time older than this is not made up for.
        jitter_seconds: each firing begins up to so much later, by an amount that follows from its time.
        on_failure_command: is run after a failed firing; split like a command line, without a shell.
        on_failure_webhook: is sent what failed.

    Raises:
        InvalidFields: a value is not allowed. The expression and the zone are checked when it is stored.

    Example:
        >>> Schedule(name="nightly", job="job.yaml", cron="30 2 * * *", timezone="Europe/Berlin").overlap
        'skip'
    """

    name: str
    job: str
    cron: str
    timezone: str = "UTC"
    verb: Verb = "run"
    overrides: tuple[str, ...] = ()
    folder: str = "."
    overlap: Overlap = "skip"
    missed: Missed = "once"
    max_age_seconds: float = 86_400
    jitter_seconds: float = 0
    on_failure_command: str | None = None
    on_failure_webhook: str | None = None

    def __post_init__(self) -> None:
        refuse(
            problem("name", None if _NAME.fullmatch(self.name) else _bad_name(self.name)),
            *(
                problem(name, None if value in allowed else f"must be {' or '.join(allowed)}, got {value!r}")
                for name, value, allowed in (
                    ("verb", self.verb, get_args(Verb)),
                    ("overlap", self.overlap, get_args(Overlap)),
                    ("missed", self.missed, get_args(Missed)),
                )
            ),
            above(0, max_age_seconds=self.max_age_seconds),
            at_least(0, jitter_seconds=self.jitter_seconds),
            problem("on_failure_command", _bad_command(self.on_failure_command)),
            problem("on_failure_webhook", _bad_address(self.on_failure_webhook)),
        )

    @property
    def trigger(self) -> str:
        """What its executions say they were started by."""
        return f"schedule {self.name}"

    @property
    def has_hook(self) -> bool:
        """Whether somebody is told of failures."""
        return self.on_failure_command is not None or self.on_failure_webhook is not None

    def plain(self) -> dict[str, Any]:
        """Its fields as values for JSON. The path of a webhook, which often is all of its secret, is left out."""
        shown = None if self.on_failure_webhook is None else f"{_origin(self.on_failure_webhook)}/…"
        return {**asdict(self), "overrides": list(self.overrides), "on_failure_webhook": shown}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSchedule:
    """A schedule in the store.

    Attributes:
        id: its number, never given again.
        schedule: what it says.
        is_paused: it does not fire until it is resumed.
        next_at: the next time it fires, before jitter, in UTC.
        created_at: when it was stored, in UTC.
    """

    id: int
    schedule: Schedule
    is_paused: bool
    next_at: datetime
    created_at: datetime

    def plain(self) -> dict[str, Any]:
        """Its fields as values for JSON; see `Schedule.plain`."""
        times = {"next_at": None if self.is_paused else self.next_at.isoformat(), "created_at": self.created_at.isoformat()}
        return {**self.schedule.plain(), "is_paused": self.is_paused, **times}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Who was told of a failed firing.

    Attributes:
        hook: `command` or `webhook`.
        has_succeeded: it was run and ended with 0, or answered with a status of success.
        detail: how it ended.
        attempts: how often it was tried.
    """

    hook: Literal["command", "webhook"]
    has_succeeded: bool
    detail: str
    attempts: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """What became of one time of a schedule. All times are in UTC.

    Attributes:
        id: its number.
        schedule: what its schedule said.
        due_at: its time, by the cron expression.
        status: `claimed` until its process has begun, `queued` behind an earlier one, `running`; then how its execution ended,
            `rejected` when its job is invalid, `unchanged` when a refresh found nothing to do; `skipped` as an earlier one still ran;
            `missed` as no scheduler did.
        claimed_at: when a scheduler took it.
        started_at: when its process began.
        ended_at: when that ended.
        starts: how many processes were started for it; all but one end at once.
        pid: the one that runs it.
        execution_id: its execution, if there is one.
        folder: the folder of that.
        error: why it failed, or was not run.
        told: who was told of its failure.
    """

    id: int
    schedule: Schedule
    due_at: datetime
    status: FiringStatus
    claimed_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    starts: int = 0
    pid: int | None = None
    execution_id: str | None = None
    folder: str | None = None
    error: str | None = None
    told: tuple[Told, ...] = ()

    def plain(self) -> dict[str, Any]:
        """Its fields as values for JSON."""
        times = {name: getattr(self, name) for name in ("due_at", "claimed_at", "started_at", "ended_at")}
        return {
            "id": self.id,
            "schedule": self.schedule.name,
            "job": self.schedule.job,
            "verb": self.schedule.verb,
            "status": self.status,
            **{name: time and time.isoformat() for name, time in times.items()},
            **{name: getattr(self, name) for name in ("execution_id", "folder", "error")},
            "told": [asdict(each) for each in self.told],
        }


def _bad_name(name: str) -> str:
    return (
        f"{name!r} cannot name a schedule: allowed are up to 100 letters, digits, dots, dashes and underscores, neither dot nor dash first"
    )


def _bad_command(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        words = shlex.split(text)
    except ValueError as error:
        return f"cannot be split into words: {error}"
    return None if words else "names no program"


def _bad_address(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    return None if is_address else "must be an address that begins with http:// or https://"


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"
