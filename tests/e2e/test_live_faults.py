"""A running execution among people who abort, write garbage, and take all there is."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from batchrun.execution import account
from tests.e2e.conftest import Calls, Project
from tests.e2e.steered import ITEMS, STEPS, Steered, steering, until


@pytest.fixture
def steered(project: Project, calls: Calls, request: pytest.FixtureRequest) -> Iterator[Steered]:
    with steering(project, calls, getattr(request, "param", "hold")) as steered:
        yield steered


def test_garbage_among_the_requests_does_no_harm(steered: Steered) -> None:
    """Whatever lies in the folder: the execution goes on, says what it did not take up, and still hears what it is asked."""
    steered.start()
    folder = steered.folder / "control"
    folder.mkdir()
    os.mkfifo(folder / "0.json")
    asked = {"by": "me", "at": "2026-11-01T09:30:00Z", "settings": {"run.parallelism": 0, "run.grace_seconds": 1}}
    for name, content in enumerate(({**asked, "kind": "end"}, {**asked, "kind": "tune"}, [], {**asked, "kind": "tune", "settings": 5}), 1):
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "README").write_bytes(os.urandom(1000))
    steered.until_said("run.parallelism=0, run.grace_seconds=1, asked for by me, was not taken up: ")
    account.tune(steered.folder, {"run.parallelism": 4})
    steered.wait_for_calls(1)
    assert (steered.look().status, list(folder.iterdir())) == ("running", [])
    assert steered.release() == 0
    assert steered.project.counters["completed_items"] == ITEMS


@pytest.mark.parametrize("steered", ["block_in_thread"], indirect=True)
def test_functions_that_take_all_threads_do_not_keep_it_from_hearing(steered: Steered) -> None:
    """A pause is most wanted when everything hangs."""
    steered.start("run", "job.yaml", "--set", "run.parallelism=64", held=ITEMS)
    account.pause(steered.folder)
    steered.until_said("paused by process ")
    assert steered.release() == 0


def test_a_first_signal_after_another_stop_aborts_nothing(steered: Steered) -> None:
    """A supervisor that ends what is being cancelled must not cost the calls in flight."""
    process = steered.start()
    account.cancel(steered.folder)
    steered.until_said("cancelled by process ")
    process.send_signal(signal.SIGTERM)
    steered.until_said("SIGTERM: it stops already; once more to abort without a result")
    assert steered.release() == 1
    assert (steered.project.record["status"], steered.project.counters["completed_items"]) == ("cancelled", 3)


@pytest.mark.parametrize("durable", [True, False], ids=["with a journal", "without"])
def test_an_aborted_execution_is_interrupted_or_gone(steered: Steered, durable: bool) -> None:
    """A second Ctrl-C leaves nothing that looks alive; without a journal there is nothing to go on from, and nothing is left."""
    process = steered.start("run", "job.yaml", "--set", f"run.durable={str(durable).lower()}")
    process.send_signal(signal.SIGINT)
    steered.until_said("once more to abort")
    process.send_signal(signal.SIGINT)
    assert steered.wait() == 130
    assert "Traceback" not in steered.said
    if durable:
        assert (steered.look().status, steered.stored.status, steered.look().progress.processed_items) == ("interrupted", "running", 0)
        assert account.cancel(steered.folder) == "done"
    else:
        assert steered.project.executions == []


def test_what_a_resume_would_not_remember_is_not_taken_up(steered: Steered) -> None:
    """On a full disk a limit that cannot be written down stays as it is; it can be changed once there is space."""
    steered.start()
    in_the_way = steered.folder / ".execution.json.tmp"
    in_the_way.mkdir()
    account.tune(steered.folder, {"run.parallelism": 4})
    steered.until_said("run.parallelism=4, asked for by process ")
    assert "was not taken up: cannot write " in steered.said
    in_the_way.rmdir()
    assert steered.project.record["job"]["run"]["parallelism"] == 3
    account.tune(steered.folder, {"run.parallelism": 5})
    steered.wait_for_calls(2)
    assert steered.release() == 0


def test_a_cancellation_that_cannot_be_written_down_is_done(steered: Steered) -> None:
    """A full disk keeps nobody from ending what fills it."""
    steered.start()
    in_the_way = steered.folder / ".execution.json.tmp"
    in_the_way.mkdir()
    account.cancel(steered.folder)
    steered.until_said("cancelled by process ")
    in_the_way.rmdir()
    until(lambda: list((steered.folder / "control").iterdir()) == [])
    assert steered.release() == 1
    assert steered.project.record["status"] == "cancelled"
    assert steered.stored.cancel_requested_at is not None


def test_a_child_that_outlives_a_killed_execution_does_not_keep_it_alive(steered: Steered) -> None:
    """Functions fork workers, which nobody ends when their process is killed; the execution can go on all the same."""
    forking = "    if size == 0 and not Path('child').exists():\n        leave_a_child()\n"
    leave = """
def leave_a_child():
    child = os.fork()
    if not child:
        os.closerange(0, 3)
        while True:
            time.sleep(60)
    Path("child").write_text(str(child))
"""
    steered.project.write("steps.py", STEPS.replace("def plus(size: int) -> int:\n", f"def plus(size: int) -> int:\n{forking}") + leave)
    process = steered.start()
    child = int((steered.project.folder / "child").read_text())
    try:
        process.kill()
        steered.wait()
        os.kill(child, 0)  # it is there
        assert steered.look().status == "interrupted"
        steered.start("resume")
        assert steered.look().status == "running"
        assert steered.release() == 0
    finally:
        os.kill(child, signal.SIGKILL)
