"""Looking once a second what is due, and starting it. Everything that must not be lost is in the store, nothing in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Protocol, TypeAlias

from batchrun.core.schedules import Firing, FiringStatus, ScheduleError, StoredSchedule
from batchrun.flow.firings import after_set_back, begins_at, decide
from batchrun.scheduler.logs import is_alive, last_lines, log_of, remove_old
from batchrun.scheduler.process import ended_as, execution_of, is_failure, spawn
from batchrun.store import ScheduleStore, StoreError, store_home

LOOK_SECONDS = 1.0
"""How often a scheduler looks at the clock and at the store."""

START_AGAIN_SECONDS = 10
"""A firing that another scheduler claimed so long ago, and whose process has not begun, is started again."""

MOST_STARTS = 3
"""How often that is done."""


class Process(Protocol):
    """A process that was started."""

    @property
    def code(self) -> int | None:
        """Its exit code; null while it runs."""


Starter: TypeAlias = Callable[[Firing], Process]


class Scheduler:
    """Fires the schedules of a store. Any number of them may do so at once, also on one schedule: each time is fired once.

    A time is claimed in one transaction, then a process is started for it, and the first thing that process does is to say, in
    another transaction, that it has begun. A scheduler that dies in between leaves a claim, which the next one starts again; of all
    processes that were started for a claim only one begins.

    Args:
        home: the folder of the store; null: see `store_home`.
        on_note: is told what is done, a line for people.
        clock: the time in UTC. It may jump.
        start: starts the process of a firing; null: `batchrun.scheduler.process.spawn`.

    Example:
        >>> Scheduler(on_note=print).run(threading.Event())  # doctest: +SKIP
    """

    def __init__(
        self,
        home: Path | None = None,
        *,
        on_note: Callable[[str], None] = lambda _line: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        start: Starter | None = None,
    ) -> None:
        self._home = (home or store_home()).absolute()
        self._store = ScheduleStore(self._home)
        self._on_note = on_note
        self._clock = clock
        self._start_process = start or partial(spawn, home=self._home, folder=self._store.folder)
        self._processes: dict[int, Process] = {}
        self._looked_at: datetime | None = None
        self._trouble: str | None = None
        self._broken: set[int] = set()

    def run(self, stop: threading.Event) -> None:
        """Fire what is due until the event is set. What runs then goes on.

        A store that cannot be used for a while, such as on a full disk, is told once and looked at again each second.
        """
        while not stop.is_set():
            try:
                self.look()
                self._trouble = None
            except StoreError as error:
                if str(error) != self._trouble:
                    self._on_note(f"nothing fires for now: {error}")
                self._trouble = str(error)
            stop.wait(LOOK_SECONDS)

    def look(self) -> None:
        """Do all that is to be done now, and return at once.

        Raises:
            StoreError: the store cannot be read or written.
        """
        now = self._clock()
        is_first, before = self._looked_at is None, self._looked_at or now
        for firing in self._store.open_firings():
            self._follow(firing, now)
        self._processes = {id: process for id, process in self._processes.items() if process.code is None}
        if is_first or now.date() != before.date():
            remove_old(self._store.folder, now)
        if is_first or now < before - timedelta(seconds=LOOK_SECONDS):
            for stored in self._store.schedules():
                self._store.decide(stored.id, now, lambda stored, _busy: after_set_back(stored, now))
        while [stored for stored in self._store.due(now) if self._fires(stored, now)]:
            pass  # some may have come to their next time already
        self._store.dequeue(now)
        for firing in self._store.open_firings():
            if firing.status == "claimed" and not firing.starts:
                self._start(firing, now)
        self._looked_at = now

    def _fires(self, stored: StoredSchedule, now: datetime) -> bool:
        """Claim a time of a schedule, or say why it is not run. Returns whether there may be another one."""
        if begins_at(stored.schedule, stored.next_at) > now:
            return False  # without a transaction
        try:
            firing = self._store.decide(stored.id, now, lambda stored, busy: decide(stored, now, busy))
        except ScheduleError as error:  # a zone that this machine does not know
            if stored.id not in self._broken:
                self._on_note(f"{stored.schedule.name} does not fire: {error}")
            self._broken.add(stored.id)
            return False
        if firing is None:
            return False
        if firing.status in ("skipped", "missed", "queued"):
            self._on_note(f"{_named(firing)}: {firing.status}{f', {firing.error}' if firing.error else ''}")
        return True

    def _start(self, firing: Firing, now: datetime) -> None:
        if not self._store.try_start(firing, now):
            return  # another scheduler does
        try:
            self._processes[firing.id] = self._start_process(firing)
        except OSError as error:
            self._fail(firing, f"cannot start its process in {firing.schedule.folder}: {error.strerror}", now)
        else:
            self._on_note(f"{_named(firing)}: started {firing.schedule.verb} of {firing.schedule.job}")

    def _follow(self, firing: Firing, now: datetime) -> None:
        """Notice how a firing ended whose process could not say it."""
        if firing.status == "running":
            if not is_alive(self._store.folder, firing.id):
                self._note_gone(firing, now)
        elif firing.status == "claimed" and firing.starts:
            process = self._processes.get(firing.id)
            if process is not None and process.code is not None:
                self._fail(firing, f"its process ended with code {process.code} before it began{self._log(firing)}", now)
            elif process is None and abs((now - firing.claimed_at).total_seconds()) > START_AGAIN_SECONDS:
                if firing.starts < MOST_STARTS:
                    self._start(firing, now)
                else:
                    self._fail(firing, f"{firing.starts} processes were started for it and none has begun{self._log(firing)}", now)

    def _note_gone(self, firing: Firing, now: datetime) -> None:
        execution = execution_of(firing, self._home)
        status: FiringStatus = "failed"
        error: str | None = f"its process was ended before it could say how it went{self._log(firing)}"
        if execution is not None:
            self._store.note_execution(firing.id, execution.id, execution.folder)
            status, said = ended_as(execution)
            error = said if status != "failed" else f"{error}; {said}"
        if is_failure(status, execution):
            self._fail(firing, error or status, now, status)
        else:
            self._store.end(firing, status, error, now)

    def _fail(self, firing: Firing, error: str, now: datetime, status: FiringStatus = "failed") -> None:
        if not self._store.end(firing, status, error, now):
            return  # it has ended in the ordinary way since, or another scheduler says so
        self._on_note(f"{_named(firing)}: {status}, {error}")
        if firing.schedule.has_hook:
            try:
                spawn(firing, self._home, self._store.folder, only_tells=True)
            except OSError as trouble:
                self._on_note(f"{_named(firing)}: nobody can be told: {trouble.strerror}")

    def _log(self, firing: Firing) -> str:
        lines = last_lines(log_of(self._store.folder, firing.id))
        return f"; the end of its log: {lines}" if lines else ""


def _named(firing: Firing) -> str:
    return f"{firing.schedule.name} of {firing.due_at:%Y-%m-%d %H:%M} UTC"
