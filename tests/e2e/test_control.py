"""Executions that are steered from other processes: paused, cancelled, tuned, and left to themselves."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrun.client import Execution, submit
from batchrun.core.ids import new_execution_id
from batchrun.execution import submitted
from batchrun.execution.prepare import prepare
from batchrun.testing.loopback import LoopbackServer, json_answer
from tests.e2e.conftest import PATIENCE_SECONDS, Ended, Project
from tests.e2e.held import ITEMS, begun, held, held_job, log, release, until, until_begun, until_told

HTTP_JOB = """\
name: asked
dataset: {path: data.parquet, id: id}
resources: {api: {base_url: "%s", max_concurrency: 2}}
workflow:
  nodes:
    - {id: ask, type: http, resource: api, request: {path: "/"}}
run: {parallelism: 8, retry: {max_attempts: 1}}
"""


@pytest.fixture
def work(project: Project) -> Iterator[Project]:
    """A job whose calls end when the test says so."""
    with held_job(project) as work:
        yield work


def told(answer: Ended) -> str:
    """What a command that went well says; it says nothing to programs."""
    assert (answer.code, answer.out) == (0, ""), answer.err
    return answer.err


def test_a_pause_stops_a_running_execution_and_a_resume_goes_on(work: Project) -> None:
    """Whoever can write to the folder can stop the run from anywhere; calls in flight are kept and none is made twice."""
    process, id = held(work)
    asked = told(work.batchrun("pause", id[:18]))
    assert asked == f"{id} stops within a second; calls in flight have 10 s to end, see batchrun watch {id}\n"
    until_told(work, "paused by process ")
    assert release(work, process) == 4
    assert (work.record["status"], work.record["stop_reason"]) == ("paused", "user")
    assert (work.counters["completed_items"], work.counters["cancelled_items"]) == (2, ITEMS - 2)
    assert told(work.batchrun("pause", id)) == f"{id} is paused: there is nothing to do\n"
    assert work.batchrun("resume", id).code == 0
    assert begun(work) == list(range(ITEMS))
    completed = work.record
    refused = work.batchrun("pause", id)
    assert refused.code == 1 and "is completed: only a running execution can be paused" in refused.err
    assert work.record == completed


def test_a_running_execution_is_cancelled_once_however_often_it_is_asked(work: Project) -> None:
    """Asking again neither fails nor changes anything, before and after the end; a completed execution stays completed."""
    process, id = held(work)
    for _ in range(2):
        assert told(work.batchrun("cancel", id)).startswith(f"{id} stops within a second; calls in flight have 10 s to end")
    until_told(work, "cancelled by process ")
    assert release(work, process) == 1
    cancelled = work.record
    assert (cancelled["status"], cancelled["stop_reason"]) == ("cancelled", "cancel")
    assert cancelled["cancel_requested_at"] < cancelled["completed_at"]
    assert work.counters["completed_items"] == 2
    assert told(work.batchrun("cancel", id)) == f"{id} is cancelled: there is nothing to do\n"
    assert work.record == cancelled
    assert work.batchrun("resume", id, "--quiet").code == 0
    completed = work.record
    assert (completed["status"], completed["cancel_requested_at"]) == ("completed", None)
    assert told(work.batchrun("cancel", id)) == f"{id} is completed: there is nothing to do\n"
    assert work.record == completed
    assert begun(work) == list(range(ITEMS))


@pytest.mark.parametrize("status", ["paused", "interrupted", "pending"])
def test_an_execution_that_nobody_runs_is_cancelled_at_once(work: Project, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no process to ask: the folder says so at once, and twice is once."""
    if status == "pending":
        monkeypatch.chdir(work.folder)
        id = new_execution_id()
        submitted(prepare("job.yaml"), id, work.folder / "runs" / id)
    else:
        process, id = held(work)
        if status == "paused":
            work.batchrun("pause", id)
            until_told(work, "paused by process ")
            release(work, process)
        process.kill()
        process.communicate()
    assert Execution(work.executions[0]).status == status
    assert told(work.batchrun("cancel")) == f"{id} is cancelled\n"
    cancelled = work.record
    assert (cancelled["status"], cancelled["stop_reason"]) == ("cancelled", "cancel")
    assert [execution["status"] for execution in json.loads(work.batchrun("list", "--json").out)] == ["cancelled"]
    assert told(work.batchrun("cancel", id)) == f"{id} is cancelled: there is nothing to do\n"
    assert work.record == cancelled
    (work.folder / "release").touch()
    assert work.batchrun("resume", id).code == 0


def test_what_is_cancelled_before_its_process_has_started_is_not_run(work: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that the execution is cancelled holds, though a process is on its way to run it."""
    monkeypatch.chdir(work.folder)
    execution = submit("job.yaml")
    execution.cancel()
    log_of_process = execution.folder / "process.log"
    until(lambda: any(text in log_of_process.read_text() for text in ("nothing was run", "not done")))
    assert execution.refresh_status() == "cancelled"
    assert not any(line.startswith("end") for line in log(work))


def test_tuning_raises_and_lowers_the_parallelism_and_a_resume_remembers_it(work: Project) -> None:
    """A service that can take more, or less, need not wait for the next run."""
    process, id = held(work)
    assert told(work.batchrun("tune", id, "--parallelism", "5")) == f"{id} takes up run.parallelism=5 within a second\n"
    until_begun(work, 5)
    told(work.batchrun("tune", "--set", "run.parallelism=1"))
    until_told(work, "run.parallelism=1: set by process ")
    for item in range(7):
        (work.folder / f"go-{item}").touch()
    until_begun(work, 8)
    after = log(work).index("start 5")
    assert log(work)[after:] == ["start 5", "end 5", "start 6", "end 6", "start 7"]
    work.batchrun("pause", id)
    until_told(work, "paused by process ")
    assert release(work, process) == 4
    assert work.record["job"]["run"]["parallelism"] == 1
    resumed = json.loads(work.batchrun("resume", "--quiet", "--json").out)
    assert (resumed["status"], resumed["job"]["run"]["parallelism"]) == ("completed", 1)
    assert log(work)[after:] == [f"{what} {item}" for item in range(5, ITEMS) for what in ("start", "end")]


def test_tuning_changes_the_limit_of_a_resource(work: Project) -> None:
    """The limit holds for all nodes that use the service, and the service itself sees it change."""
    with LoopbackServer({"/": json_answer({}, held=True)}) as server:
        work.write("job.yaml", HTTP_JOB % server.url)
        with (work.folder / "told").open("w") as file:
            process = work.start("run", "job.yaml", stdout=file, stderr=file)
        server.wait_until(lambda server: server.in_flight == 2, timeout_seconds=PATIENCE_SECONDS)
        assert told(work.batchrun("tune", "--set", "resources.api.max_concurrency=6"))
        server.wait_until(lambda server: server.in_flight == 6, timeout_seconds=PATIENCE_SECONDS)
        assert told(work.batchrun("tune", "--set", "resources.api.max_concurrency=1"))
        until_told(work, "resources.api.max_concurrency=1: set by process ")
        server.release()
        server.wait_until(lambda server: len(server.requests) == 7, timeout_seconds=PATIENCE_SECONDS)
        server.most_in_flight = 0
        while process.poll() is None:
            server.release(1)
            time.sleep(0.005)
        process.communicate()
        assert (process.returncode, server.most_in_flight, len(server.requests)) == (0, 1, ITEMS)


def test_wrong_values_are_refused_and_change_nothing(work: Project) -> None:
    """What cannot be set is said to whoever asks, not to the log of the run; and nothing can be set once it has ended."""
    process, id = held(work)
    for arguments, sentence in {
        (): "say what is to change: --parallelism N, or --set resources.NAME.max_concurrency=N",
        ("--parallelism", "0"): "0 is not in the range x>=1",
        ("--set", "run.parallelism=none"): "run.parallelism",
        ("--set", "run.grace_seconds=3"): "max_concurrency, requests_per_minute and tokens_per_minute can change",
        ("--set", "resources.api.max_concurrency=3"): "resources.api",
        ("--set", "run.paralelism=3"): "paralelism",
        ("--parallelism", "3", "--set", "dataset.limit=1"): "while items run, only",
        ("--set", "parallelism"): "give it as path=value",
    }.items():
        refused = work.batchrun("tune", id, *arguments)
        assert (refused.code, refused.out) == (2, ""), refused.err
        assert sentence in refused.err and "Traceback" not in refused.err
    assert release(work, process) == 0
    assert "set by" not in (work.folder / "told").read_text()
    assert work.record["job"]["run"]["parallelism"] == 2
    late = work.batchrun("tune", id, "--parallelism", "3")
    assert late.code == 1 and "is completed: only a running execution can be tuned" in late.err


def test_a_detached_run_goes_on_by_itself(work: Project) -> None:
    """The command returns at once with the id for programs, and the execution needs neither it nor its terminal."""
    started = work.batchrun("run", "job.yaml", "--detach", "--set", "run.parallelism=4")
    id = started.out.strip()
    assert (started.code, work.executions) == (0, [work.folder / "runs" / id])
    assert started.err == f"runs in runs/{id}; to look at it: batchrun watch {id}\n"
    until_begun(work, 4)
    (listed,) = json.loads(work.batchrun("list", "--status", "running", "--json").out)
    assert (listed["execution_id"], listed["pid"] in {os.getpid(), None}) == (id, False)
    (work.folder / "release").touch()
    execution = Execution(work.executions[0])
    assert execution.wait(interval_seconds=0.05, timeout_seconds=PATIENCE_SECONDS) == "completed"
    assert (execution.progress.completed_items, execution.results["output"].to_pylist()) == (ITEMS, list(range(ITEMS)))
    assert "40 of 40 items" in (execution.folder / "process.log").read_text()


def test_a_detached_run_is_checked_before_anything_starts(work: Project) -> None:
    """Mistakes are told to whoever starts it, and leave nothing behind; with --json a program gets the record."""
    refused = work.batchrun("run", "job.yaml", "--detach", "--set", "dataset.id=idd")
    assert (refused.code, refused.out) == (2, "")
    assert 'unknown column "idd"; did you mean "id"?' in refused.err
    assert not (work.folder / "runs").exists() or work.executions == []
    (work.folder / "release").touch()
    started = work.batchrun("run", "job.yaml", "-d", "-q", "--json", "--limit", "3")
    assert (started.code, started.err) == (0, "")
    execution = Execution(Path(json.loads(started.out)["folder"]))
    assert execution.wait(interval_seconds=0.05, timeout_seconds=PATIENCE_SECONDS) == "completed"
    assert execution.progress.completed_items == 3
