"""Schedules and their firings. Every change is one transaction, so that any number of schedulers agree on who fires what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import orjson

from batchrun.core.errors import known_values
from batchrun.core.schedules import Firing, FiringStatus, NoSuchSchedule, Schedule, ScheduleError, StoredSchedule, Told
from batchrun.flow.firings import Busy, Decision
from batchrun.store.database import Database, Kind, damaged, store_home
from batchrun.store.records import storable, time_text

_SCHEMA = (
    """
    CREATE TABLE schedules (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        definition TEXT NOT NULL,
        is_paused INTEGER NOT NULL,
        next_at TEXT NOT NULL,
        created_at TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE firings (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        schedule_id INTEGER NOT NULL,
        due_at TEXT NOT NULL,
        status TEXT NOT NULL,
        claimed_at TEXT NOT NULL,
        started_at TEXT,
        ended_at TEXT,
        starts INTEGER NOT NULL,
        pid INTEGER,
        execution_id TEXT,
        folder TEXT,
        error TEXT,
        told TEXT NOT NULL,
        UNIQUE (schedule_id, due_at)
    )
    """,
    "CREATE INDEX firings_by_status ON firings (status)",
)
SCHEDULES = Kind(
    "schedules.db",
    "list of schedules",
    (_SCHEMA,),
    "what schedules there were is written down nowhere else: put back a copy of it, or delete it and add them again",
)
"""A file of its own: unlike the list of executions it cannot be made anew from anything."""

KEPT_FIRINGS = 1_000
"""The newest so many firings of each schedule are remembered."""

_SCHEDULES = "SELECT id, definition, is_paused, next_at, created_at FROM schedules"
_FIRINGS = """
    SELECT firings.id, definition, due_at, status, claimed_at, started_at, ended_at, starts, pid, execution_id, folder, error, told
    FROM firings JOIN schedules ON schedules.id = schedule_id
"""
_ADD = "INSERT INTO schedules (name, definition, is_paused, next_at, created_at) VALUES (?, ?, 0, ?, ?)"
_REPLACE = "UPDATE schedules SET definition = ?, is_paused = 0, next_at = ? WHERE name = ?"
_CLAIM = """
    INSERT INTO firings (schedule_id, due_at, status, claimed_at, starts, error, told) VALUES (?, ?, ?, ?, 0, ?, '[]')
    ON CONFLICT DO NOTHING
"""
_BUSY = """
    SELECT count(*) FILTER (WHERE status IN ('claimed', 'running')), count(*) FILTER (WHERE status = 'queued')
    FROM firings WHERE schedule_id = ?
"""
_DEQUEUE = """
    UPDATE firings SET status = 'claimed', claimed_at = ? WHERE status = 'queued'
    AND NOT EXISTS (SELECT 1 FROM firings AS other WHERE other.schedule_id = firings.schedule_id AND other.status IN ('claimed', 'running'))
"""
_FORGET = """
    DELETE FROM firings WHERE schedule_id = ? AND status NOT IN ('claimed', 'queued', 'running')
    AND id <= (SELECT id FROM firings WHERE schedule_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?)
"""


class ScheduleStore:
    """The schedules in the folder of the store, in a file that the first of them makes. For one thread at a time; any number of processes.

    All of its methods raise `StoreError` when the file cannot be read or written.

    Args:
        home: the folder of the store; null: see `store_home`.

    Attributes:
        folder: for the logs of firings.
    """

    def __init__(self, home: Path | None = None) -> None:
        self._database = Database(home or store_home(), SCHEDULES)
        self.folder = self._database.path.parent / "schedules"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def add(self, schedule: Schedule, next_at: datetime, now: datetime, *, replace: bool = False) -> None:
        """Store a schedule; it fires first at `next_at`.

        Args:
            schedule: what it says.
            next_at: its first time.
            now: when this is done.
            replace: take the place of the one of this name, which keeps its firings.

        Raises:
            ScheduleError: there is one of this name.
        """
        definition = orjson.dumps(asdict(schedule)).decode()
        with self._database.transaction():
            if not self._rows("WHERE name = ?", schedule.name):
                self._database.write(_ADD, (schedule.name, definition, time_text(next_at), time_text(now)))
            elif replace:
                self._database.write(_REPLACE, (definition, time_text(next_at), schedule.name))
            else:
                raise ScheduleError(f"there is a schedule {schedule.name!r} already: choose another name, replace it, or remove it first")

    def schedules(self) -> list[StoredSchedule]:
        """All schedules, sorted by name."""
        return self._rows("ORDER BY name")

    def due(self, now: datetime) -> list[StoredSchedule]:
        """The schedules whose next time has come."""
        return self._rows("WHERE NOT is_paused AND next_at <= ? ORDER BY next_at", time_text(now))

    def find(self, name: str) -> StoredSchedule:
        """The schedule of this name.

        Raises:
            NoSuchSchedule: there is none; the message names those there are.
        """
        found = self._rows("WHERE name = ?", storable(name))
        if not found:
            known = [each.schedule.name for each in self.schedules()]
            raise NoSuchSchedule(f"no schedule {name!r} in {self._database.path}; {known_values(name, known, kind='schedules')}")
        return found[0]

    def remove(self, name: str) -> None:
        """Forget a schedule and its firings. What they started goes on.

        Raises:
            NoSuchSchedule: there is none.
        """
        with self._database.transaction():
            id = self.find(name).id
            self._database.write("DELETE FROM firings WHERE schedule_id = ?", (id,))
            self._database.write("DELETE FROM schedules WHERE id = ?", (id,))

    def pause(self, name: str, next_at: datetime | None) -> bool:
        """Let a schedule rest, or fire again, first at `next_at`. Returns whether that changed anything.

        Raises:
            NoSuchSchedule: there is none.
        """
        with self._database.transaction():
            stored = self.find(name)
            if stored.is_paused == (next_at is None):
                return False
            values = (next_at is None, time_text(next_at or stored.next_at), stored.id)
            return self._database.write("UPDATE schedules SET is_paused = ?, next_at = ? WHERE id = ?", values) > 0

    def decide(self, schedule_id: int, now: datetime, decision: Callable[[StoredSchedule, Busy], Decision | None]) -> Firing | None:
        """Ask what a schedule is to do and write that down, with nobody in between: no time of a schedule has two firings.

        Returns:
            The firing there is now of it; null: none, or somebody else was faster.
        """
        with self._database.transaction():
            for stored in self._rows("WHERE id = ?", schedule_id):
                ((running, queued),) = self._database.read(_BUSY, (schedule_id,))
                decided = decision(stored, Busy(running, queued))
                if decided is None:
                    return None
                self._database.write("UPDATE schedules SET next_at = ? WHERE id = ?", (time_text(decided.next_at), schedule_id))
                if decided.due_at is None:
                    return None
                values = (schedule_id, time_text(decided.due_at), decided.status, time_text(now), decided.reason)
                if not self._database.write(_CLAIM, values):  # it fired before the clock was set back
                    return None
                self._database.write(_FORGET, (schedule_id, schedule_id, KEPT_FIRINGS))
                return self._firings("WHERE schedule_id = ? AND due_at = ?", schedule_id, time_text(decided.due_at))[0]
        return None

    def dequeue(self, now: datetime) -> None:
        """Claim the firings that waited for the end of others which have ended."""
        if self._firings("WHERE status = 'queued' LIMIT 1"):
            self._database.write(_DEQUEUE, (time_text(now),))

    def open_firings(self) -> list[Firing]:
        """The firings that have not ended, oldest first."""
        return self._firings("WHERE status IN ('claimed', 'queued', 'running') ORDER BY firings.id")

    def firings(self, name: str, limit: int | None = None) -> list[Firing]:
        """The newest firings of a schedule, newest first; null: all that are remembered.

        Raises:
            NoSuchSchedule: there is none.
        """
        return self._firings("WHERE schedule_id = ? ORDER BY due_at DESC LIMIT ?", self.find(name).id, -1 if limit is None else limit)

    def firing(self, id: int) -> Firing | None:
        """A firing; null when its schedule was removed."""
        found = self._firings("WHERE firings.id = ?", id)
        return found[0] if found else None

    def try_start(self, firing: Firing, now: datetime) -> bool:
        """Count a process that is to be started for a firing. Returns whether this scheduler is to start it."""
        sql = "UPDATE firings SET starts = starts + 1, claimed_at = ? WHERE id = ? AND status = 'claimed' AND starts = ?"
        return self._database.write(sql, (time_text(now), firing.id, firing.starts)) > 0

    def begin(self, id: int, pid: int, now: datetime) -> bool:
        """Say that the process of a firing has begun. True for one process of each firing only."""
        sql = "UPDATE firings SET status = 'running', started_at = ?, pid = ? WHERE id = ? AND status = 'claimed'"
        return self._database.write(sql, (time_text(now), pid, id)) > 0

    def note_execution(self, id: int, execution_id: str, folder: Path | str) -> None:
        """Say which execution a firing has."""
        self._database.write("UPDATE firings SET execution_id = ?, folder = ? WHERE id = ?", (execution_id, str(folder), id))

    def end(self, firing: Firing, status: FiringStatus, error: str | None, now: datetime) -> bool:
        """Say how a firing ended. Returns whether it is still what it was: only one process says so."""
        sql = "UPDATE firings SET status = ?, error = coalesce(?, error), ended_at = ? WHERE id = ? AND status = ?"
        values = (status, None if error is None else storable(error), time_text(now), firing.id, firing.status)
        return self._database.write(sql, values) > 0

    def note_told(self, id: int, told: Sequence[Told]) -> None:
        """Say who was told of a failed firing."""
        self._database.write("UPDATE firings SET told = ? WHERE id = ?", (orjson.dumps([asdict(each) for each in told]).decode(), id))

    def _rows(self, where: str, *values: object) -> list[StoredSchedule]:
        return [self._schedule(row) for row in self._database.read(f"{_SCHEDULES} {where}", values)]

    def _firings(self, where: str, *values: object) -> list[Firing]:
        return [self._firing(row) for row in self._database.read(f"{_FIRINGS} {where}", values)]

    def _schedule(self, row: tuple[Any, ...]) -> StoredSchedule:
        id, definition, is_paused, next_at, created_at = row
        times = datetime.fromisoformat(next_at), datetime.fromisoformat(created_at)
        return StoredSchedule(
            id=id, schedule=self._definition(definition), is_paused=bool(is_paused), next_at=times[0], created_at=times[1]
        )

    def _firing(self, row: tuple[Any, ...]) -> Firing:
        id, definition, due, status, claimed, started, ended, starts, pid, execution_id, folder, error, told = row
        return Firing(
            id=id,
            schedule=self._definition(definition),
            due_at=datetime.fromisoformat(due),
            status=status,
            claimed_at=datetime.fromisoformat(claimed),
            started_at=started and datetime.fromisoformat(started),
            ended_at=ended and datetime.fromisoformat(ended),
            starts=starts,
            pid=pid,
            execution_id=execution_id,
            folder=folder,
            error=error,
            told=tuple(Told(**each) for each in orjson.loads(told)),
        )

    def _definition(self, text: str) -> Schedule:
        try:
            fields = orjson.loads(text)
            return Schedule(**{**fields, "overrides": tuple(fields["overrides"])})
        except (TypeError, ValueError, KeyError) as error:
            raise damaged(self._database.path, str(error), SCHEDULES) from error
