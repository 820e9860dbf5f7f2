"""What the store keeps of an execution: its record as a row, and a row as `StoredExecution`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from batchrun.core.checks import at_least, refuse
from batchrun.store.database import StoreError

SELECT = """
    SELECT execution_id, job_name, status, stop_reason, error, folder, host, pid,
           created_at, started_at, completed_at, cancel_requested_at, heartbeat_at, progress, record
    FROM executions
"""
"""The beginning of every query whose rows `stored` reads."""


class StateChange(NamedTuple):
    """One change of the status of an execution.

    Attributes:
        status: the status from then on.
        at: when, in UTC.
        reason: why, if there was a reason.
        host: the machine of the process that changed it.
        pid: that process.
    """

    status: str
    at: datetime
    reason: str | None = None
    host: str | None = None
    pid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionQuery:
    """Which executions to list; what is not given does not matter.

    Attributes:
        job: the name of their job; `*` stands for any characters.
        status: one of these, as stored. An interrupted execution is stored as `running` or `finalizing`: ask for these to find it.
        created_after: from this time on; without a zone: local time.
        created_before: before this time; without a zone: local time.
        limit: the newest so many.

    Raises:
        InvalidFields: `limit` is negative.

    Example:
        >>> ExecutionQuery(job="triage*", status=("failed", "cancelled"), limit=50).job
        'triage*'
    """

    job: str | None = None
    status: tuple[str, ...] = ()
    created_after: datetime | None = None
    created_before: datetime | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        refuse(at_least(0, limit=self.limit))

    def conditions(self) -> Iterator[tuple[str, list[object]]]:
        """Its conditions as SQL over the columns of the store, each with its values."""
        if self.job is not None:
            yield ("job_name GLOB ?", [_glob(self.job)]) if "*" in self.job else ("job_name = ?", [storable(self.job)])
        if self.status:
            yield f"status IN ({', '.join('?' * len(self.status))})", [storable(status) for status in self.status]
        if self.created_after is not None:
            yield "created_at >= ?", [time_text(self.created_after)]
        if self.created_before is not None:
            yield "created_at < ?", [time_text(self.created_before)]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredExecution:
    """An execution as the store knows it: as of its last change of status, and its last heartbeat.

    All times are in UTC.

    Attributes:
        id: its execution id.
        job_name: the name of its job.
        status: the status its process stored last; `running` also when that process is gone.
        stop_reason: what ended it before its last item.
        error: what broke it.
        folder: where its results and its journal are.
        host: the machine of its last process.
        pid: its last process.
        created_at: when it was submitted.
        started_at: when its first item started.
        completed_at: when it ended.
        cancel_requested_at: when it was first told to cancel.
        heartbeat_at: when its process last told how far it is.
        progress: how far it was then.
        record: its `execution.json`; in lists without `job`, which can be large.
    """

    id: str
    job_name: str
    status: str
    stop_reason: str | None
    error: str | None
    folder: Path
    host: str | None
    pid: int | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    cancel_requested_at: datetime | None
    heartbeat_at: datetime | None
    progress: dict[str, Any] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def states(self) -> tuple[StateChange, ...]:
        """Every change of its status, in the order they happened, which is that of their times unless a clock was set back."""
        return tuple(
            StateChange(state["status"], _time(state["at"]), state.get("reason"), state.get("host"), state.get("pid"))
            for state in self.record.get("states", ())
        )


class Row(NamedTuple):
    """A record in the form it is stored in: the values of the columns it fills, and its job."""

    values: dict[str, object]
    job: bytes | None


def row_of(record: Mapping[str, Any]) -> Row:
    """The row of a record.

    Raises:
        StoreError: the record lacks a field that every execution has, or a value is not what its field holds.
    """
    kept = dict(record)  # in one step, like each encoding below: the thread that owns the record may go on changing it
    job = kept.pop("job", None)
    try:
        values: dict[str, object] = {name: str(kept[name]) for name in ("execution_id", "job_name", "status", "folder")}
        values |= {name: _text(kept.get(name)) for name in ("stop_reason", "error", "host")}
        values |= {"epoch": int(kept.get("epoch") or 0), "pid": None if kept.get("pid") is None else int(kept["pid"])}
        values |= {"created_at": time_text(_time(kept["created_at"]))}
        values |= {name: _moved(kept.get(name)) for name in ("started_at", "completed_at", "cancel_requested_at")}
        for state in kept.get("states") or ():
            StateChange(state["status"], _time(state["at"]))
        values["record"] = orjson.dumps(kept).decode()
        return Row(values, None if job is None else orjson.dumps(job))
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        problem = f"it has no {error}" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
        name, folder = kept.get("execution_id", "without id"), kept.get("folder", "its folder")
        raise StoreError(f"cannot list execution {name}, look at execution.json in {folder}: {problem}") from error


def stored(values: tuple[Any, ...]) -> StoredExecution:
    """The execution of a row of `SELECT`.

    Raises:
        ValueError: a value is not what its column holds.
    """
    execution_id, job_name, status, stop_reason, error, folder, host, pid, created, started, completed, cancel, beat, progress, record = (
        values
    )
    return StoredExecution(
        id=execution_id,
        job_name=job_name,
        status=status,
        stop_reason=stop_reason,
        error=error,
        folder=Path(folder),
        host=host,
        pid=pid,
        created_at=datetime.fromisoformat(created),
        started_at=started and datetime.fromisoformat(started),
        completed_at=completed and datetime.fromisoformat(completed),
        cancel_requested_at=cancel and datetime.fromisoformat(cancel),
        heartbeat_at=beat and datetime.fromisoformat(beat),
        progress=_mapping(progress) if progress else {},
        record=_mapping(record),
    )


def time_text(time: datetime) -> str:
    """A time as it is stored: UTC, to the microsecond, so that text sorts like time. Without a zone it is local time."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def storable(text: str) -> str:
    """What people typed, without the characters that no stored text can have."""
    return text.encode(errors="replace").decode()


def _glob(pattern: str) -> str:
    """A pattern in which only `*` is special, for GLOB, to which `?` and `[` are as well."""
    return storable(pattern).replace("[", "[[]").replace("?", "[?]")


def _mapping(text: str) -> dict[str, Any]:
    value = orjson.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"{text[:60]!r} is not a mapping")  # noqa: TRY004 - it is what JSON that cannot be read raises, too
    return value


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _time(value: str | datetime) -> datetime:
    time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return time.astimezone(UTC)


def _moved(value: str | datetime | None) -> str | None:
    return None if value is None else time_text(_time(value))
