"""`batchrun schedule` with real jobs: what fires is run, listed and told, whoever dies meanwhile."""

from __future__ import annotations

import json
import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import batchrun
from batchrun.core.schedules import Firing
from batchrun.scheduler import Scheduler
from batchrun.store import ScheduleStore
from tests.e2e.conftest import PATIENCE_SECONDS, Project
from tests.e2e.held import until

OPEN = ("claimed", "queued", "running")
WAITING = """\
import os

def tidy(text: str) -> str:
    open("begun", "a").write(f"{os.getpid()}\\n")
    open("gate").read()
    return text.upper()
"""


def add(project: Project, *arguments: str, name: str = "nightly", job: str = "job.yaml") -> None:
    done = project.batchrun("schedule", "add", name, job, "--cron", "@yearly", *arguments)
    assert (done.code, done.out.strip()) == (0, name), done.err


def store(project: Project) -> ScheduleStore:
    return ScheduleStore(project.folder / ".batchrun")


def make_due(project: Project, name: str = "nightly") -> None:
    """Its next time is now."""
    with store(project) as schedules:
        schedules.pause(name, None)
        schedules.pause(name, datetime.now(UTC))


def latest(project: Project, name: str = "nightly") -> Firing:
    with store(project) as schedules:
        return schedules.firings(name, 1)[0]


def fired(project: Project, name: str = "nightly") -> Firing:
    """What became of the schedule, fired now."""
    make_due(project, name)
    Scheduler().look()
    return ended(project, name)


def ended(project: Project, name: str = "nightly") -> Firing:
    until(lambda: latest(project, name).status not in OPEN)
    firing = latest(project, name)
    if firing.status in ("failed", "rejected") and firing.schedule.has_hook:
        until(lambda: bool(latest(project, name).told))
    return latest(project, name)


def listed(project: Project, *arguments: str) -> Any:
    done = project.batchrun("schedule", "list", *arguments, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


@pytest.fixture
def gated(project: Project) -> Project:
    """Items of the job wait until the gate is opened."""
    project.write("steps.py", WAITING)
    project.write("data.csv", "id,text,size\na,one,1\n")
    os.mkfifo(project.folder / "gate")
    return project


def open_gate(project: Project) -> None:
    with (project.folder / "gate").open("w"):
        pass


def until_begun(project: Project) -> int:
    """Waits for the call of the item; the process it is made in."""
    begun = project.folder / "begun"
    until(lambda: begun.exists() and begun.read_text().endswith("\n"))
    return int(begun.read_text().split()[-1])


def test_a_firing_is_an_execution_that_says_what_started_it(project: Project) -> None:
    """Who finds a result in the morning sees where it came from."""
    add(project, "--timezone", "Europe/Berlin", "--set", "dataset.limit=2")
    firing = fired(project)
    assert (firing.status, firing.error, firing.told) == ("completed", None, ())
    assert project.record["trigger"] == "schedule nightly" and project.record["execution_id"] == firing.execution_id
    assert project.result.num_rows == 2
    assert "schedule nightly" in project.batchrun("list").out and "trigger    schedule nightly" in project.batchrun("show").out


def test_the_list_of_schedules_says_what_became_of_the_last_firing(project: Project) -> None:
    """One look in the morning is enough; an execution that a person started says nothing of schedules."""
    add(project, "--timezone", "Europe/Berlin")
    firing = fired(project)
    assert "trigger" not in batchrun.execute(project.folder / "job.yaml", quiet=True).record
    shown = project.batchrun("schedule", "list").out
    assert "Europe/Berlin" in shown and "completed" in shown and str(firing.execution_id) in shown
    assert listed(project, "nightly")[0]["execution_id"] == firing.execution_id


def test_a_refresh_that_finds_nothing_new_is_no_execution(project: Project) -> None:
    """A schedule that refreshes pays for what changed only."""
    add(project, "--refresh")
    assert [fired(project).status, fired(project).status] == ["completed", "unchanged"]
    assert len(project.executions) == 1
    project.write("data.csv", (project.folder / "data.csv").read_text() + "d,four,4\n")
    assert fired(project).status == "completed" and len(project.executions) == 2


def test_a_job_that_became_invalid_is_a_failed_firing_and_people_are_told(project: Project) -> None:
    """A mistake that was made since the schedule was ends no scheduler, and nobody has to look for it."""
    add(project, "--on-failure-command", "tee told.json")
    project.write("job.yaml", "name: small\nworkflow: {nodes: []}\n")
    firing = fired(project)
    assert firing.status == "rejected" and "job.yaml" in str(firing.error)
    assert [(told.hook, told.has_succeeded) for told in firing.told] == [("command", True)]
    told = json.loads((project.folder / "told.json").read_text())
    assert (told["schedule"], told["status"], told["error"]) == ("nightly", "rejected", firing.error)
    assert "rejected" in project.batchrun("schedule", "list", "nightly").out
    project.write("job.yaml", "{")
    assert fired(project).status == "rejected"


def test_an_execution_that_fails_is_told_with_its_counts(project: Project) -> None:
    """A failure policy decides what a failed execution is."""
    add(project, "--on-failure-command", "tee told.json", "--set", "run.failure_policy.max_failures=0")
    project.write("data.csv", "id,text,size\na,bad,1\nb,bad,2\n")
    firing = fired(project)
    assert firing.status == "failed" and firing.execution_id == project.record["execution_id"]
    assert json.loads((project.folder / "told.json").read_text())["failed_items"] >= 1


def test_the_end_of_the_scheduler_does_not_end_an_execution(gated: Project) -> None:
    """Ctrl-C, and kill -9, end who fires and not what was fired."""
    for number, code in ((signal.SIGINT, 0), (signal.SIGKILL, -signal.SIGKILL)):
        name = f"after-{number}"
        add(gated, name=name)
        make_due(gated, name)
        scheduler = gated.start("schedule", "run")
        until_begun(gated)
        scheduler.send_signal(number)
        scheduler.communicate(timeout=PATIENCE_SECONDS)
        assert scheduler.returncode == code
        open_gate(gated)
        assert ended(gated, name).status == "completed"
        (gated.folder / "begun").unlink()


def test_a_firing_names_its_execution_while_it_runs(gated: Project) -> None:
    """Who wonders what runs there can watch it, pause it, or cancel it."""
    add(gated)
    make_due(gated)
    assert gated.batchrun("schedule", "run", "--once").code == 0
    until_begun(gated)
    (firing,), id = listed(gated, "nightly"), gated.record["execution_id"]
    assert (firing["status"], firing["execution_id"]) == ("running", id)
    assert id in gated.batchrun("schedule", "list").out
    open_gate(gated)
    assert ended(gated).execution_id == id


def test_a_firing_whose_process_was_killed_is_noticed_and_told(gated: Project) -> None:
    """A process that runs out of memory cannot call for help; the scheduler does, and names the execution to go on with."""
    add(gated, "--on-failure-command", "tee told.json")
    make_due(gated)
    assert gated.batchrun("schedule", "run", "--once").code == 0
    os.kill(until_begun(gated), signal.SIGKILL)
    scheduler = Scheduler()
    until(lambda: scheduler.look() is None and latest(gated).status not in OPEN)
    firing = ended(gated)
    assert firing.status == "failed" and f"batchrun resume {gated.record['execution_id']}" in str(firing.error)
    assert json.loads((gated.folder / "told.json").read_text())["execution_id"] == gated.record["execution_id"]


def test_what_still_runs_is_not_started_a_second_time(gated: Project) -> None:
    """By default, a time at which the firing before still runs is left out, and says so."""
    add(gated)
    make_due(gated)
    gated.batchrun("schedule", "run", "--once")
    until_begun(gated)
    make_due(gated)
    gated.batchrun("schedule", "run", "--once")
    assert (latest(gated).status, latest(gated).error) == ("skipped", "an earlier firing still ran")
    open_gate(gated)
    with store(gated) as schedules:
        until(lambda: [firing.status for firing in schedules.firings("nightly")] == ["skipped", "completed"])


def test_two_schedulers_at_once_run_a_job_once(project: Project) -> None:
    """The spare one does nothing."""
    add(project)
    make_due(project)
    both = [project.start("schedule", "run", "--once") for _ in range(2)]
    for process in both:
        process.communicate(timeout=PATIENCE_SECONDS)
    assert ended(project).status == "completed" and len(project.executions) == 1


def test_schedules_are_paused_and_resumed(project: Project) -> None:
    """A schedule rests without being forgotten."""
    add(project)
    for verb, said in (("pause", ""), ("pause", "paused already"), ("resume", ""), ("resume", "is not paused")):
        done = project.batchrun("schedule", verb, "nightly")
        assert done.code == 0 and said in done.err
        with store(project) as schedules:
            assert schedules.find("nightly").is_paused == (verb == "pause")


def test_schedules_are_replaced_and_removed(project: Project) -> None:
    """A schedule is changed without losing what became of it."""
    add(project)
    fired(project)
    assert project.batchrun("schedule", "add", "nightly", "job.yaml", "--cron", "@daily").code == 1
    add(project, "--replace", "--jitter-seconds", "30")
    assert (listed(project)[0]["jitter_seconds"], len(listed(project, "nightly"))) == (30, 1)
    assert project.batchrun("schedule", "remove", "nightly").code == 0
    assert "no schedule 'nightly'" in project.batchrun("schedule", "remove", "nightly").err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("job.yaml", "--cron", "61 * * * *"), 1, "is no cron expression (Bad minute)"),
        (("job.yaml", "--cron", "@daily", "--timezone", "Europe/Berlln"), 1, 'did you mean "Europe/Berlin"?'),
        (("nothing.yaml", "--cron", "@daily"), 2, "nothing.yaml"),
        (("job.yaml", "--cron", "@daily", "--set", "run.parallelism=0"), 2, "parallelism"),
    ],
)
def test_mistakes_are_found_when_a_schedule_is_made(project: Project, arguments: tuple[str, ...], code: int, said: str) -> None:
    """Not in the night it should have fired."""
    done = project.batchrun("schedule", "add", "nightly", *arguments)
    assert (done.code, said in done.err) == (code, True), done.err
    with store(project) as schedules:
        assert schedules.schedules() == []


async def test_schedules_from_python(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same names for those who block and those who await."""
    monkeypatch.chdir(project.folder)
    with batchrun.Client() as client:
        made = client.schedules.add("nightly", "job.yaml", "30 2 * * *", timezone="Asia/Tokyo", overrides=["dataset.limit=1"])
        assert made.next_at.hour == 17 and made.schedule.job == str(project.folder / "job.yaml")
        assert client.schedules.pause("nightly") and not client.schedules.pause("nightly")
    async with batchrun.AsyncClient() as client:
        assert await client.schedules.resume("nightly")
        assert [each.schedule.name for each in await client.schedules.list()] == ["nightly"]
        looked_at = made.next_at + timedelta(seconds=30)
        Scheduler(clock=lambda: looked_at).look()
        until(lambda: latest(project).status not in OPEN)
        (firing,) = await client.schedules.firings("nightly")
        assert (firing.status, firing.due_at) == ("completed", made.next_at)
        assert Path(str(firing.folder)).parent == project.folder / "runs"
        await client.schedules.remove("nightly")
        assert client is not None and await client.schedules.list() == []
