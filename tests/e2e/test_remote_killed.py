"""Runs of remote workflows whose runner is killed, stopped or cancelled, or whose answers get lost."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from batchrun.testing.faulty_service import FaultyService, Run, Script
from tests.e2e.conftest import Project, ended
from tests.e2e.held import until
from tests.e2e.remote_jobs import ITEMS, JOB, errors, rows, work

ENDED = Script(states=())


@pytest.fixture
def service() -> Iterator[FaultyService]:
    """A service whose runs go on until the test ends them."""
    with FaultyService(script=Script(ends="never")) as service:
        yield service


def begun(project: Project, service: FaultyService, is_time: Callable[[tuple[Run, ...]], bool]) -> subprocess.Popen[str]:
    """A runner that has come so far."""
    process = project.start("run", "job.yaml")
    until(lambda: process.poll() is not None or is_time(service.runs("noxus")))
    assert process.poll() is None, ended(process)
    return process


def all_polled(runs: tuple[Run, ...]) -> bool:
    return len(runs) == ITEMS and all(run.polls >= 2 for run in runs)


def end_runs(service: FaultyService) -> None:
    """Let all runs end well, also those that are still to come."""
    service.set_script(ENDED)
    for run in service.runs("noxus"):
        run.script = ENDED


def submits(service: FaultyService) -> Counter[str]:
    return Counter(run.input["item"] for run in service.runs("noxus"))


def test_a_killed_runner_leaves_its_runs_to_the_next_one(project: Project, service: FaultyService) -> None:
    """The runs are paid for: a resume waits for them instead of beginning others."""
    work(project, service.url_of("noxus"))
    process = begun(project, service, all_polled)
    process.kill()
    process.communicate()
    end_runs(service)
    resumed = project.batchrun("resume", "latest")
    assert resumed.code == 0, resumed.err
    assert submits(service) == {f"item {at}": 1 for at in range(ITEMS)}
    runs = {run.input["item"]: run.id for run in service.runs("noxus")}
    assert {id: row["node_executions"][0]["external_id"] for id, row in rows(project).items()} == runs
    assert project.counters["completed_items"] == ITEMS


@pytest.mark.parametrize("seen", [1, 3, 5])
def test_a_kill_at_any_moment_begins_no_run_twice(project: Project, service: FaultyService, seen: int) -> None:
    """Where nobody knows whether a run has begun, the item says so; all others have exactly one."""
    work(project, service.url_of("noxus"), limits=", max_concurrency: 2")
    process = begun(project, service, lambda runs: len(runs) >= seen)
    process.kill()
    process.communicate()
    end_runs(service)
    resumed = project.batchrun("resume", "latest")
    assert resumed.code in (0, 3), resumed.err
    counts, found = submits(service), errors(project)
    assert max(counts.values()) == 1
    assert set(found.values()) <= {None, "SubmitInDoubt"}
    assert list(found.values()).count("SubmitInDoubt") <= 2  # no more than were being submitted: others waited for their turn
    assert all(counts[id] == 1 for id, error in found.items() if error is None)


def test_a_stopped_execution_leaves_its_runs_alone(project: Project, service: FaultyService) -> None:
    """Stopping is not giving up: the runs go on over there, and the resume finds them."""
    work(project, service.url_of("noxus"))
    process = begun(project, service, all_polled)
    process.send_signal(signal.SIGINT)
    assert ended(process).code == 130
    assert [run.cancels for run in service.runs("noxus")] == [0] * ITEMS
    end_runs(service)
    assert project.batchrun("resume", "latest").code == 0
    assert submits(service) == {f"item {at}": 1 for at in range(ITEMS)}


@pytest.mark.parametrize("options", ["on_failure: stop", "events: {}"], ids=["polls", "events"])
def test_a_stopped_execution_does_not_wait_for_runs_over_there(project: Project, service: FaultyService, options: str) -> None:
    """What only waits ends at once, however long calls in flight may take: their runs are known, and the resume finds them."""
    work(project, service.url_of("noxus"), options)
    project.write("job.yaml", (project.folder / "job.yaml").read_text().replace("grace_seconds: 0.3", "grace_seconds: 3600"))
    process = begun(project, service, lambda runs: len(runs) == ITEMS and all(run.polls + run.streams >= 2 for run in runs))
    process.send_signal(signal.SIGINT)
    assert ended(process).code == 130
    assert [run.cancels for run in service.runs("noxus")] == [0] * ITEMS
    end_runs(service)
    assert project.batchrun("resume", "latest").code == 0
    assert submits(service) == {f"item {at}": 1 for at in range(ITEMS)}


def test_a_cancelled_execution_cancels_its_runs(project: Project, service: FaultyService) -> None:
    """Who cancels wants no more work done; a later resume begins runs that nobody has cancelled."""
    work(project, service.url_of("noxus"))
    process = begun(project, service, all_polled)
    assert project.batchrun("cancel", "latest").code == 0
    assert ended(process).code == 1
    assert [(run.cancels, run.state) for run in service.runs("noxus")] == [(1, "cancelled")] * ITEMS
    service.set_script(ENDED)
    resumed = project.batchrun("resume", "latest")
    assert resumed.code == 0, resumed.err
    assert submits(service) == {f"item {at}": 2 for at in range(ITEMS)}


def test_an_item_without_time_cancels_its_run(project: Project, service: FaultyService) -> None:
    """The item's deadline ends the run, too, and the row says what came of that."""
    work(project, service.url_of("noxus"), run=", item_timeout_seconds: 2", items=1)
    assert project.batchrun("run", "job.yaml").code == 3
    (run,) = service.runs("noxus")
    assert (run.cancels, run.state) == (1, "cancelled")
    error = rows(project)["item 0"]["error"]
    assert (error["type"], error["retryable"]) == ("Timeout", False)
    assert error["message"] == f"the item ran longer than item_timeout_seconds; run {run.id} was cancelled"


def test_a_run_that_cannot_be_cancelled_is_told(project: Project, service: FaultyService) -> None:
    """Somebody may have to look after it over there."""
    work(project, service.url_of("noxus"), 'timeout_seconds: 2\n      cancel: {path: "/v1/nowhere/{run_id}"}', items=1)
    assert project.batchrun("run", "job.yaml").code == 3
    (run,) = service.runs("noxus")
    message = rows(project)["item 0"]["error"]["message"]
    assert f"run {run.id} may go on, cancelling it failed: POST" in message
    assert "answered 404" in message


@pytest.mark.parametrize("options", ["on_lost_submit: resubmit", "idempotent: true"])
def test_a_lost_submit_is_sent_again_where_the_job_says_so(project: Project, service: FaultyService, options: str) -> None:
    """Who can bear a second run, or has a service that knows the key, loses no item; the key is the same."""
    service.set_script(Script(states=(), loses_submit=True))
    work(project, service.url_of("noxus"), options, limits=", breaker: null")
    done = project.batchrun("run", "job.yaml")
    assert done.code == 0, done.err
    assert submits(service) == {f"item {at}": 2 for at in range(ITEMS)}
    assert all(row["attempts"] == 2 for row in rows(project).values())
    keys = [call.headers["idempotency-key"] for call in service.seen("*/runs").calls if call.method == "POST"]
    assert set(Counter(keys).values()) == {2}


def test_a_rule_of_the_node_begins_another_run(project: Project, service: FaultyService) -> None:
    """A run that failed is not asked again how it is: each attempt is a run of its own, with a key of its own."""
    service.set_script(Script(ends="failed", states=()))
    rule = "retry: {max_attempts: 3, backoff: {initial_seconds: 0}, rules: [{match: {error_type: RemoteFailed}, action: retry}]}"
    work(project, service.url_of("noxus"), rule, items=1)
    assert project.batchrun("run", "job.yaml").code == 3
    assert [run.state for run in service.runs("noxus")] == ["failed"] * 3
    assert rows(project)["item 0"]["attempts"] == 3
    keys = [call.headers["idempotency-key"] for call in service.seen("*/runs").calls if call.method == "POST"]
    assert keys == [keys[0], f"{keys[0]}-2", f"{keys[0]}-3"]


@pytest.mark.parametrize("events", ["yes", "early", "absent"])
def test_events_tell_when_to_ask(project: Project, service: FaultyService, events: Any) -> None:
    """A stream makes polling rare; one that breaks off or is not there delays nothing."""
    service.set_script(Script(ends="completed", states=(), run_seconds=1.5, events=events))
    slow = "poll: {initial_seconds: 30, max_seconds: 60}" if events == "yes" else "poll: {initial_seconds: 0.05, max_seconds: 0.2}"
    job = JOB.replace("      poll: {{initial_seconds: 0.02, max_seconds: 0.05}}\n", f"      {slow.replace('{', '{{').replace('}', '}}')}\n")
    work(project, service.url_of("noxus"), "events: {}")
    project.write("job.yaml", job.format(url=service.url_of("noxus"), options="events: {}", limits="", run=""))
    done = ended(project.start("run", "job.yaml"))
    assert done.code == 0, done.err
    assert project.counters["completed_items"] == ITEMS
    runs = service.runs("noxus")
    assert all(run.streams >= 1 for run in runs)
    if events == "yes":
        assert all(run.polls <= 2 for run in runs)  # one is due to the event, and one to the stream's end
    elif events == "early":
        assert any(run.streams > 1 for run in runs)  # it was opened again
    else:
        assert all(run.streams == 1 for run in runs)


def test_who_looks_at_waiting_items_learns_where_to_decide(project: Project, service: FaultyService) -> None:
    """The question is another system's: it is shown with its run, and is neither approved nor rejected here."""
    service.set_script(Script(ends="waiting", states=()))
    work(project, service.url_of("noxus"), items=1)
    assert project.batchrun("run", "job.yaml").code == 4
    (run,) = service.runs("noxus")
    shown = project.batchrun("show", "latest", "--waiting").out
    assert f'{{"run_id": "{run.id}", "state": "awaiting_human_feedback"}}' in shown
    assert "to go on when somebody has decided at the service: batchrun resume runs/" in shown
    for command in (["approve", "latest", "--all"], ["reject", "latest", "--item", "item 0"]):
        refused = project.batchrun(*command)
        assert refused.code != 0
        assert "Decide there, then resume. Nothing was decided here" in refused.err
    end_runs(service)
    assert project.batchrun("resume", "latest").code == 0
    assert submits(service) == {"item 0": 1}


def test_try_shows_the_id_of_the_run(project: Project, service: FaultyService) -> None:
    """Who tries an item finds its run over there."""
    service.set_script(ENDED)
    work(project, service.url_of("noxus"), items=1)
    tried = project.batchrun("try", "job.yaml")
    assert tried.code == 0, tried.err
    (run,) = service.runs("noxus")
    assert f"external id {run.id}" in tried.out
    assert json.dumps({"echo": {"item": "item 0"}})[1:-1] in tried.out
