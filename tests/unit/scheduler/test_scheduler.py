"""The scheduler on a clock of the test; what it starts are processes that end at once, or none."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from batchrun.core.schedules import Firing, NoSuchSchedule, Schedule, ScheduleError
from batchrun.flow.cron import Cron
from batchrun.scheduler import Scheduler
from batchrun.store import ScheduleStore

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Process(NamedTuple):
    """What a scheduler sees of a process."""

    code: int | None = None


class World:
    """A store, a clock, and what was started."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.now = NOON
        self.started: list[tuple[str, datetime]] = []
        self.said: list[str] = []
        self.store = ScheduleStore(home)
        self.code: int | None = None

    def add(self, cron: str = "* * * * *", **fields: Any) -> None:
        schedule = Schedule(**{"name": "every", "job": "job.yaml", "folder": str(self.home), **fields}, cron=cron)
        self.store.add(schedule, Cron(cron, schedule.timezone).after(self.now), self.now)

    def scheduler(self) -> Scheduler:
        return Scheduler(self.home, on_note=self.said.append, clock=lambda: self.now, start=self.start)

    def start(self, firing: Firing) -> Process:
        self.started.append((firing.schedule.name, firing.due_at))
        return Process(self.code)

    def firings(self, name: str = "every") -> list[tuple[datetime, str]]:
        return [(firing.due_at, firing.status) for firing in reversed(self.store.firings(name))]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_each_time_is_claimed_once_by_two_schedulers(world: World) -> None:
    """Two schedulers on one store are a spare, not a double."""
    world.add(overlap="allow")
    both = world.scheduler(), world.scheduler()
    for _ in range(5):
        world.now += MINUTE
        for scheduler in both:
            scheduler.look()
        for firing in world.store.open_firings():
            world.store.begin(firing.id, 1, world.now)
    assert [due for _, due in world.started] == [NOON + MINUTE * count for count in range(1, 6)]


def _race(home: str, seconds: int, started: Any, gate: Any) -> None:
    def start(firing: Firing) -> Process:
        started.put(firing.due_at)
        ScheduleStore(Path(home)).begin(firing.id, os.getpid(), clock[0])
        return Process()

    clock = [NOON]
    scheduler = Scheduler(Path(home), clock=lambda: clock[0], start=start)
    for _ in range(seconds):
        gate.wait()
        clock[0] += MINUTE
        scheduler.look()


def test_processes_that_race_for_a_time_fire_it_once(world: World) -> None:
    """The claim is one transaction: the same instant in three processes, twenty times over."""
    world.add(overlap="allow")
    context = multiprocessing.get_context("spawn")
    started, gate = context.Queue(), context.Barrier(3)
    processes = [context.Process(target=_race, args=(str(world.home), 20, started, gate)) for _ in range(3)]
    for process in processes:
        process.start()
    fired = [started.get(timeout=60) for _ in range(20)]
    for process in processes:
        process.join(60)
    assert started.empty() and sorted(fired) == [NOON + MINUTE * count for count in range(1, 21)]


def _claim_and_die(home: str) -> None:
    def start(_firing: Firing) -> Process:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    Scheduler(Path(home), clock=lambda: NOON + MINUTE, start=start).look()


def test_a_scheduler_killed_between_claim_and_start_loses_nothing(world: World) -> None:
    """The next scheduler starts what was claimed, and of all processes that were started only one begins."""
    world.add()
    process = multiprocessing.get_context("spawn").Process(target=_claim_and_die, args=(str(world.home),))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert world.firings() == [(NOON + MINUTE, "claimed")]
    world.now = NOON + MINUTE + timedelta(seconds=11)
    world.scheduler().look()
    assert world.started == [("every", NOON + MINUTE)]
    (firing,) = world.store.open_firings()
    assert [world.store.begin(firing.id, pid, world.now) for pid in (1, 2)] == [True, False]


def test_a_claim_whose_process_never_begins_ends_as_a_failure(world: World) -> None:
    """A broken installation is told, and does not start processes for ever."""
    world.add(cron="@yearly")
    world.store.pause("every", None)
    world.store.pause("every", NOON)
    world.code = 0
    scheduler = world.scheduler()
    scheduler.look()
    scheduler.look()
    ((_, status),) = world.firings()
    assert status == "failed" and "its process ended with code 0 before it began" in str(world.store.firings("every")[0].error)
    assert len(world.started) == 1


def test_a_process_that_is_gone_is_a_failed_firing(world: World) -> None:
    """A killed process cannot say so itself; the next firing does not wait for it."""
    world.add()
    scheduler = world.scheduler()
    world.now += MINUTE
    scheduler.look()
    (firing,) = world.store.open_firings()
    world.store.begin(firing.id, 1, world.now)
    world.now += MINUTE
    scheduler.look()
    assert [status for _, status in world.firings()] == ["failed", "claimed"]


def test_a_working_directory_that_is_gone_is_a_failed_firing(world: World, tmp_path: Path) -> None:
    """One bad schedule does not end the scheduler, nor hold up the others."""
    world.add(folder=str(tmp_path / "gone"))
    world.add(name="other", folder=str(tmp_path))
    world.now += MINUTE
    Scheduler(world.home, on_note=world.said.append, clock=lambda: world.now).look()
    assert world.firings() == [(world.now, "failed")]
    assert world.firings("other") == [(world.now, "claimed")]
    assert any("cannot start its process" in line for line in world.said)


def test_a_queued_firing_begins_when_the_one_before_has_ended(world: World) -> None:
    """At most one waits; it is started, not forgotten."""
    world.add(overlap="queue")
    scheduler = world.scheduler()
    world.now += MINUTE
    scheduler.look()
    (first,) = world.store.open_firings()
    log = world.store.folder / f"firing-{first.id}.log"
    log.parent.mkdir()
    program = f"import fcntl; log = open({str(log)!r}, 'a'); fcntl.flock(log, fcntl.LOCK_EX); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        world.store.begin(first.id, running.pid, world.now)
        for _ in range(2):
            world.now += MINUTE
            scheduler.look()
        assert [status for _, status in world.firings()] == ["running", "queued", "skipped"]
        begun = world.store.firing(first.id)
        assert begun is not None and world.store.end(begun, "completed", None, world.now)
        scheduler.look()
        running.communicate(b"\n")
    assert [status for _, status in world.firings()] == ["completed", "claimed", "skipped"]
    assert [due for _, due in world.started] == [NOON + MINUTE, NOON + 2 * MINUTE]


def test_a_clock_that_jumps_repeats_nothing(world: World) -> None:
    """Set back by half an hour, then forward: no time fires twice, and the schedule goes on."""
    world.add(cron="*/10 * * * *", overlap="allow")
    scheduler = world.scheduler()
    for minutes in (10, 20, -10, 0, 10, 20, 30, 40):
        world.now = NOON + MINUTE * minutes
        scheduler.look()
    assert [due for _, due in world.started] == [NOON + MINUTE * minutes for minutes in (10, 20, 30, 40)]


def test_a_night_behind_a_pause_was_not_missed(world: World) -> None:
    """What is paused rests: when it is resumed, nothing is made up for."""
    world.add()
    world.store.pause("every", None)
    world.now += timedelta(hours=3)
    world.scheduler().look()
    assert world.started == []
    world.store.pause("every", Cron("* * * * *").after(world.now))
    world.scheduler().look()
    assert world.started == []
    world.now += MINUTE
    world.scheduler().look()
    assert world.started == [("every", world.now)]


def test_a_store_that_cannot_be_used_is_told_once_and_tried_again(world: World) -> None:
    """A full or locked disk ends no scheduler."""
    world.add()
    world.store.__exit__()
    path = world.home / "schedules.db"
    kept = path.read_bytes()
    path.write_bytes(b"this is no database at all, and far too long to be an empty one" * 20)
    looks: list[int] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            looks.append(1)
            if len(looks) == 3:
                for left in world.home.glob("schedules.db-*"):
                    left.unlink()
                path.unlink()
                path.write_bytes(kept)
                world.now += MINUTE
            if len(looks) == 5:
                self.set()
            return True

    world.scheduler().run(Stop())
    assert [line for line in world.said if "nothing fires" in line and "put back a copy of it" in line] == world.said[:1]
    assert len(world.started) == 1


def test_names_of_schedules(world: World) -> None:
    """A name is taken until it is removed; one that is unknown is told with the nearest."""
    world.add()
    with pytest.raises(ScheduleError, match="already"):
        world.add()
    with pytest.raises(NoSuchSchedule, match='did you mean "every"'):
        world.store.remove("evry")
    world.store.remove("every")
    assert world.store.schedules() == []
