"""What a running execution tells of itself, and what it hears."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from batchrun.core.ids import new_execution_id
from batchrun.execution import account, control, submitted
from batchrun.execution.prepare import prepare
from tests.e2e.conftest import Calls, Project
from tests.e2e.steered import ITEMS, JOB, Steered, steering, until

MODES = {"worker": "hold", "chunk": "block"}
"""A workflow that waits is run by workers, one that does not in chunks."""


@pytest.fixture
def steered(project: Project, calls: Calls, request: pytest.FixtureRequest) -> Iterator[Steered]:
    with steering(project, calls, getattr(request, "param", "hold")) as steered:
        yield steered


in_both_modes = pytest.mark.parametrize("steered", MODES.values(), ids=MODES, indirect=True)


@in_both_modes
def test_every_field_of_the_progress_is_true(steered: Steered) -> None:
    """Who looks from outside knows how far it is, where its items are, and what they wait for."""
    steered.start()
    steered.go(*range(5))
    steered.wait_for_calls(5)
    until(lambda: (now := steered.look().progress).completed_items == 5 and now.open_nodes == {"held": 3} and now.waiting_for["call"] == 3)
    progress = steered.look().progress
    assert (progress.total_items, progress.processed_items, progress.failed_items, progress.restored_items) == (ITEMS, 5, 0, 0)
    assert (progress.total_nodes, progress.current_node_id, progress.current_node_idx) == (2, "held", 1)
    assert (progress.slowest_node_id, progress.open_nodes) == ("held", {"held": 3})
    assert (progress.waiting_for["call"], sum(progress.waiting_for.values())) == (3, 3)
    assert progress.items_per_second > 0 and progress.remaining_seconds is not None
    steered.process.kill()
    steered.wait()
    steered.start("resume")
    until(lambda: steered.look().progress.restored_items == 5 and steered.look().progress.open_items == 3)
    assert steered.look().progress.completed_items == 5
    assert steered.release() == 0
    ended = steered.look().progress
    assert (ended.completed_items, ended.restored_items, ended.open_items, ended.total_nodes) == (ITEMS, 5, 0, 2)
    assert (ended.current_node_id, ended.current_node_idx, ended.slowest_node_id, ended.open_nodes) == (None, None, "held", {})


def test_items_that_wait_for_another_attempt_are_open(steered: Steered) -> None:
    """An execution in which nothing seems to happen says why."""
    steered.project.write(
        "job.yaml",
        (JOB % "fail")
        .replace("run: {", "run: {item_timeout_seconds: null, ")
        .replace("max_attempts: 1", "max_attempts: 2, backoff: {initial_seconds: 1e6, max_seconds: 1e6}"),
    )
    steered.start(held=12)
    until(lambda: steered.look().progress.waiting_for.get("backoff") == 12)
    progress = steered.look().progress
    assert (progress.open_items, progress.open_nodes, progress.current_node_id, progress.current_node_idx) == (12, {"held": 12}, "held", 1)
    account.pause(steered.folder)
    assert steered.wait() == 4


def test_a_killed_execution_is_interrupted_at_once_and_its_states_tell_its_story(steered: Steered) -> None:
    """Run, killed, resumed, paused, resumed, completed: every process leaves its states, in the folder and in the list alike."""
    processes = [steered.start()]
    steered.go(0, 1)
    steered.wait_for_calls(2)
    until(lambda: [execution.progress.get("completed_items") for execution in steered.listed] == [2])
    assert (steered.look().status, steered.stored.status) == ("running", "running")
    begun = steered.project.record
    processes[0].kill()
    steered.wait()
    assert (steered.look().status, steered.stored.status, steered.look().progress.completed_items) == ("interrupted", "running", 2)
    processes.append(steered.start("resume"))
    assert account.pause(steered.folder) == "requested"
    steered.until_said("paused by process ")
    assert steered.release() == 4
    processes.append(steered.start("resume", held=0))
    assert steered.wait() == 0
    record = steered.project.record
    first, second, third = (process.pid for process in processes)
    assert [(state["status"], state["reason"], state["pid"]) for state in record["states"]] == [
        ("running", None, first),
        ("running", None, second),
        ("finalizing", None, second),
        ("paused", "user", second),
        ("running", None, third),
        ("finalizing", None, third),
        ("completed", None, third),
    ]
    times = [datetime.fromisoformat(state["at"]) for state in record["states"]]
    assert times == sorted(times)
    assert {state["host"] for state in record["states"]} == {record["host"]} == {os.uname().nodename}
    assert (record["pid"], record["epoch"], record["store"]) == (third, 3, str(steered.project.folder / ".batchrun"))
    assert (record["created_at"], record["started_at"]) == (begun["created_at"], begun["started_at"])
    assert (record["status"], record["stop_reason"], record["error"], record["cancel_requested_at"]) == ("completed", None, None, None)
    assert steered.stored.record == record
    assert [state.at for state in steered.stored.states] == times


@in_both_modes
def test_tuning_takes_effect_is_remembered_and_is_in_the_result(steered: Steered) -> None:
    """More items begin at once, fewer only as others end; a resume goes on with the new values, and the result says them."""
    steered.start()
    account.tune(steered.folder, {"run.parallelism": 5})
    steered.wait_for_calls(2)
    account.tune(steered.folder, ["run.parallelism=1"])
    steered.until_said("run.parallelism=1: set by process ")
    steered.go(*range(9))
    steered.wait_for_calls(5)
    account.pause(steered.folder)
    steered.until_said("paused by process ")
    assert steered.release() == 4
    assert steered.project.record["job"]["run"]["parallelism"] == 1
    steered.start("resume", held=0)
    assert steered.wait() == 0
    alone = [line for line in steered.log if int(line.split()[1]) >= 5]
    assert alone == [f"{what} {size}" for size in range(5, ITEMS) for what in ("start", "end")]
    job = json.loads(pq.read_metadata(steered.folder / "results.parquet").metadata[b"effective_job"])
    assert job == steered.project.record["job"] == steered.stored.record["job"]
    assert job["run"]["parallelism"] == 1


@in_both_modes
def test_a_cancellation_wins_over_a_pause_and_counts_once(steered: Steered) -> None:
    """Whoever asks last to end it for good is heard while calls end, and is not heard twice."""
    steered.start()
    assert account.pause(steered.folder) == "requested"
    steered.until_said("paused by process ")
    assert account.cancel(steered.folder) == "requested"
    until(lambda: steered.project.record["cancel_requested_at"] is not None)
    at = steered.project.record["cancel_requested_at"]
    assert account.cancel(steered.folder) == "requested"
    assert account.pause(steered.folder) == "requested"
    until(lambda: list((steered.folder / "control").iterdir()) == [])
    assert steered.release() == 1
    record = steered.project.record
    assert (record["status"], record["stop_reason"], record["cancel_requested_at"]) == ("cancelled", "cancel", at)
    assert [(state["status"], state["reason"]) for state in record["states"]] == [
        ("running", None),
        ("finalizing", None),
        ("cancelled", "cancel"),
    ]
    assert (steered.stored.record, steered.stored.cancel_requested_at) == (record, datetime.fromisoformat(at))
    assert steered.project.counters["cancelled_items"] == ITEMS - 3


def test_requests_from_before_a_resume_are_forgotten(steered: Steered) -> None:
    """What a dead process did not hear must not stop the one that goes on."""
    steered.start().kill()
    steered.wait()
    control.send(steered.folder, "cancel")
    control.send(steered.folder, "tune", ["run.parallelism=1"])
    steered.start("resume")
    assert list((steered.folder / "control").iterdir()) == []
    assert steered.release() == 0
    assert steered.project.record["job"]["run"]["parallelism"] == 3


def test_requests_to_a_pending_execution_are_taken_up_before_its_first_item(steered: Steered, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked between submitting and starting was meant for the process that comes."""
    monkeypatch.chdir(steered.project.folder)
    id = new_execution_id()
    submitted(prepare("job.yaml"), id, steered.project.folder / "runs" / id)
    control.send(steered.folder, "tune", {"run.parallelism": 2})
    control.send(steered.folder, "pause")
    steered.start("resume", id, held=0)
    assert steered.wait() == 4
    assert [state["status"] for state in steered.project.record["states"]] == ["pending", "running", "finalizing", "paused"]
    assert steered.project.record["job"]["run"]["parallelism"] == 2
    assert (steered.project.counters["cancelled_items"], steered.log) == (ITEMS, [])


def test_cancelling_while_the_result_is_written_wins_as_well(steered: Steered) -> None:
    """Between the last call and the end of the process nobody looks for requests, but none gets lost."""
    steered.project.table("data.parquet", {"id": range(2_000_000), "size": range(2_000_000)})
    process = steered.start()
    account.pause(steered.folder)
    steered.until_said("paused by process ")
    (steered.project.folder / "release").touch()
    record = steered.folder / "execution.json"
    until(lambda: b'"finalizing"' in record.read_bytes())
    process.send_signal(signal.SIGSTOP)
    assert steered.look().status == "finalizing"
    assert account.cancel(steered.folder) == "requested"
    process.send_signal(signal.SIGCONT)
    assert steered.wait() == 1
    content = steered.project.record
    assert [state["status"] for state in content["states"]] == ["running", "finalizing", "paused", "cancelled"]
    assert content["cancel_requested_at"] < content["completed_at"]
    assert (
        content["duration_seconds"]
        < sum(
            (datetime.fromisoformat(after["at"]) - datetime.fromisoformat(before["at"])).total_seconds()
            for before, after in itertools.pairwise(content["states"])
        )
        + 60
    )
    assert (steered.stored.status, list((steered.folder / "control").iterdir())) == ("cancelled", [])


def test_nothing_else_is_written_into_the_working_directory(steered: Steered) -> None:
    """Whoever runs a job finds its results and the list of executions beside it, and nothing to clean up."""
    before = set(steered.project.folder.iterdir())
    steered.start("run", "job.yaml", "--set", "run.durable=false")
    account.tune(steered.folder, {"run.parallelism": 1})
    steered.until_said("set by process ")
    assert steered.release() == 0
    made = {path.name for path in set(steered.project.folder.iterdir()) - before}
    assert made - {"__pycache__"} == {"runs", ".batchrun", "log", "said", "release"}
    assert steered.project.files == {"execution.json", "inputs.parquet", "report.html", "results.parquet", "journal", "control"}
    assert [path.name for path in Path(steered.project.folder, ".batchrun").iterdir()] == ["store.db"]
