"""Schedules, from a program: the same for `Client`, which blocks, and `AsyncClient`, which is awaited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from batchrun.client.pauses import in_thread
from batchrun.config import load_job
from batchrun.core.checks import InvalidFields
from batchrun.core.schedules import Firing, Schedule, ScheduleError, StoredSchedule
from batchrun.flow.cron import Cron
from batchrun.store import ScheduleStore

_Schedules: TypeAlias = list[StoredSchedule]  # inside of the classes below, `list` is their method
_Firings: TypeAlias = list[Firing]


class Schedules:
    """The schedules of a client. They fire while `batchrun schedule run` runs.

    Args:
        home: the folder of the store.

    Example:
        >>> client.schedules.add("nightly", "job.yaml", "30 2 * * *", timezone="Europe/Berlin").next_at  # doctest: +SKIP
        datetime.datetime(2026, 11, 22, 1, 30, tzinfo=datetime.timezone.utc)
        >>> [firing.status for firing in client.schedules.firings("nightly")]  # doctest: +SKIP
        ['completed', 'failed']
    """

    def __init__(self, home: Path) -> None:
        self._home = home

    def add(
        self, name: str, job: str | Path, cron: str, *, overrides: Sequence[str] = (), replace: bool = False, **options: Any
    ) -> StoredSchedule:
        """Make a schedule.

        Args:
            name: names it.
            job: a job file.
            cron: when it fires, such as `30 2 * * *` or `@daily`.
            overrides: fields of the job that are different, in the form of the command line.
            replace: take the place of the one of this name, which keeps its firings.
            **options: further fields of `Schedule`: `timezone`, `verb`, `overlap`, `missed`, `max_age_seconds`, `jitter_seconds`,
                `on_failure_command`, `on_failure_webhook`.

        Raises:
            ScheduleError: a value is not allowed, or there is one of this name.
            JobError: the job file has mistakes.
            StoreError: it cannot be written down.
        """
        try:
            schedule = Schedule(name=name, job=str(job), cron=cron, overrides=tuple(overrides), **options)
        except (InvalidFields, TypeError) as error:
            raise ScheduleError(f"schedule {name!r}: {error}") from None
        return self.put(schedule, replace=replace)

    def put(self, schedule: Schedule, *, replace: bool = False) -> StoredSchedule:
        """Make a schedule; see `add`."""
        now = datetime.now(UTC)
        next_at = Cron(schedule.cron, schedule.timezone).after(now)
        load_job(schedule.job, schedule.overrides)
        with ScheduleStore(self._home) as store:
            store.add(_absolute(schedule), next_at, now, replace=replace)
            return store.find(schedule.name)

    def list(self) -> _Schedules:
        """All schedules, sorted by name.

        Raises:
            StoreError: the store cannot be read.
        """
        with ScheduleStore(self._home) as store:
            return store.schedules()

    def get(self, name: str) -> StoredSchedule:
        """The schedule of this name.

        Raises:
            NoSuchSchedule: there is none.
        """
        with ScheduleStore(self._home) as store:
            return store.find(name)

    def firings(self, name: str, limit: int | None = None) -> _Firings:
        """The newest firings of a schedule, newest first; null: all that are remembered, 1,000.

        Raises:
            NoSuchSchedule: there is none.
        """
        with ScheduleStore(self._home) as store:
            return store.firings(name, limit)

    def remove(self, name: str) -> None:
        """Forget a schedule and its firings. Executions stay, and go on.

        Raises:
            NoSuchSchedule: there is none.
        """
        with ScheduleStore(self._home) as store:
            store.remove(name)

    def pause(self, name: str) -> bool:
        """Let a schedule rest. Returns whether it did not already.

        Raises:
            NoSuchSchedule: there is none.
        """
        with ScheduleStore(self._home) as store:
            return store.pause(name, None)

    def resume(self, name: str) -> bool:
        """Let a paused schedule fire again, from its next time on: what came in between was not missed. Returns whether it was paused.

        Raises:
            NoSuchSchedule: there is none.
        """
        with ScheduleStore(self._home) as store:
            schedule = store.find(name).schedule
            return store.pause(name, Cron(schedule.cron, schedule.timezone).after(datetime.now(UTC)))


class AsyncSchedules:
    """The schedules of an asynchronous client; see `Schedules`.

    Example:
        >>> [each.schedule.name for each in await client.schedules.list()]  # doctest: +SKIP
        ['nightly']
    """

    def __init__(self, schedules: Schedules) -> None:
        self._schedules = schedules

    async def add(
        self, name: str, job: str | Path, cron: str, *, overrides: Sequence[str] = (), replace: bool = False, **options: Any
    ) -> StoredSchedule:
        """Make a schedule; see `Schedules.add`."""
        return await in_thread(lambda: self._schedules.add(name, job, cron, overrides=overrides, replace=replace, **options))

    async def list(self) -> _Schedules:
        """All schedules, sorted by name; see `Schedules.list`."""
        return await in_thread(self._schedules.list)

    async def get(self, name: str) -> StoredSchedule:
        """The schedule of this name; see `Schedules.get`."""
        return await in_thread(self._schedules.get, name)

    async def firings(self, name: str, limit: int | None = None) -> _Firings:
        """The newest firings of a schedule; see `Schedules.firings`."""
        return await in_thread(self._schedules.firings, name, limit)

    async def remove(self, name: str) -> None:
        """Forget a schedule; see `Schedules.remove`."""
        await in_thread(self._schedules.remove, name)

    async def pause(self, name: str) -> bool:
        """Let a schedule rest; see `Schedules.pause`."""
        return await in_thread(self._schedules.pause, name)

    async def resume(self, name: str) -> bool:
        """Let a paused schedule fire again; see `Schedules.resume`."""
        return await in_thread(self._schedules.resume, name)


def _absolute(schedule: Schedule) -> Schedule:
    """The schedule as any process understands it, wherever it is."""
    return replace(schedule, job=str(Path(schedule.job).absolute()), folder=str(Path(schedule.folder).absolute()))
