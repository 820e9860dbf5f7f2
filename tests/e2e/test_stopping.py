"""Ends before the last item: signals, hung calls, policies and rules. Each leaves one row per item and says why."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import termios
from collections import Counter

import pytest

from tests.e2e.conftest import Calls, Ended, Project, ended

WORK = """\
import asyncio
import threading
from pathlib import Path


def tell():
    with open("calls", "w") as pipe:
        pipe.write("\\n")


async def hold(size: int) -> int:
    tell()
    while not Path("release").exists():
        await asyncio.sleep(0.01)
    return size


def hang(size: int) -> int:
    tell()
    threading.Event().wait()
    return size


async def refuse_to_end(size: int) -> int:
    tell()
    while True:
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            pass


def hang_at_3(size: int) -> int:
    tell()
    if size == 3:
        threading.Event().wait()
    return size


def odd(size: int) -> int:
    if size % 2:
        raise ValueError("odd")
    return size


class QuotaExhausted(Exception):
    pass


async def quota(size: int) -> int:
    if size == 5:
        raise QuotaExhausted("come back tomorrow")
    return size


async def awaits_what_was_cancelled(size: int) -> int:
    task = asyncio.get_running_loop().create_future()
    if size == 3:
        task.cancel()
    else:
        task.set_result(size)
    return await task
"""
ITEMS = 3_000
"""More than are loaded at once."""


@pytest.fixture
def work(project: Project) -> Project:
    """A job whose one node is chosen by each test."""
    project.write("steps.py", WORK)
    job = (project.folder / "job.yaml").read_text().replace("text:", "size:").replace("item.text", "item.size")
    project.write("job.yaml", job.replace("run: {", "run: {parallelism: 4, "))
    project.table("data.parquet", {"id": [f"item {row}" for row in range(ITEMS)], "size": range(ITEMS)})
    return project


def arguments(function: str, *settings: str) -> list[str]:
    chosen = ["dataset.path=data.parquet", f"workflow.nodes.tidy.call=steps:{function}", *settings]
    return ["run", "job.yaml", *(part for setting in chosen for part in ("--set", setting))]


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline()


def run_all_but_one(work: Project, process: subprocess.Popen[str], last: Ended, status: str) -> None:
    """Of twenty items, the one whose call hung has another status; all others were completed."""
    assert [row["status"] for row in work.result.select(["status"]).to_pylist()] == ["completed"] * 3 + [status] + ["completed"] * 16
    assert f"20 items: 19 completed, 1 {'failed' if status == 'failed' else 'not done'}" in last.err
    assert process.returncode == last.code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=["Ctrl-C", "kill", "hang up"])
def test_a_signal_pauses_the_execution_and_every_item_keeps_its_row(work: Project, calls: Calls, number: signal.Signals) -> None:
    """Calls in flight end and are kept; all other items, loaded or not, have rows that say they were not run."""
    process = work.start(*arguments("hold"))
    calls.wait_for(4)
    process.send_signal(number)
    assert line_of(process) == f"stopped by {number.name}: calls in flight have 10 s to end; once more to abort without a result\n"
    (work.folder / "release").touch()
    last = ended(process)
    assert last.code == 130
    assert "paused in" in last.err
    assert "3,000 items: 4 completed, 2,996 not done" in last.err
    rows = work.result.select(["source_item_id", "item_index", "status", "size"]).to_pylist()
    assert Counter(row["status"] for row in rows) == {"completed": 4, "cancelled": ITEMS - 4}
    assert [(row["source_item_id"], row["item_index"], row["size"]) for row in rows] == [(f"item {at}", at, at) for at in range(ITEMS)]
    assert (work.counters["total_items"], work.counters["cancelled_items"]) == (ITEMS, ITEMS - 4)
    assert (work.record["status"], work.record["stop_reason"], work.record["error"]) == ("paused", "signal", f"stopped by {number.name}")


@pytest.mark.parametrize("function", ["hold", "hang", "refuse_to_end"])
def test_a_second_signal_aborts_at_once(work: Project, calls: Calls, function: str) -> None:
    """Who does not want to wait for calls in flight gets the prompt back and nothing that looks like a result, and can still resume."""
    process = work.start(*arguments(function, "run.grace_seconds=3600"))
    calls.wait_for(4)
    process.send_signal(signal.SIGINT)
    line_of(process)
    process.send_signal(signal.SIGINT)
    last = ended(process)
    assert last.code == 130
    assert last.err.endswith("aborted\n")
    assert "Traceback" not in last.err
    assert work.files == {"execution.json", "inputs.parquet", "journal"}
    if function == "hold":
        (work.folder / "release").touch()
        assert work.batchrun("resume").code == 0
        assert work.counters["completed_items"] == ITEMS


def test_a_terminal_that_goes_away_stops_the_execution_as_a_person_would(work: Project, calls: Calls) -> None:
    """A connection that breaks off costs nothing: what is in flight ends, though the terminal says more than once that it is gone."""
    terminal, inside = pty.openpty()

    def take_the_terminal() -> None:
        fcntl.ioctl(inside, termios.TIOCSCTTY, 0)

    process = work.start(
        *arguments("hold"), stdin=inside, stdout=inside, stderr=inside, start_new_session=True, preexec_fn=take_the_terminal
    )
    os.close(inside)
    calls.wait_for(4)
    os.close(terminal)
    process.send_signal(signal.SIGHUP)
    (work.folder / "release").touch()
    assert process.wait(60) == 130
    assert (work.record["status"], work.record["error"], work.counters["completed_items"]) == ("paused", "stopped by SIGHUP", 4)
    assert work.batchrun("resume").code == 0
    assert work.counters["completed_items"] == ITEMS


def test_what_ignores_the_end_of_its_terminal_goes_on(work: Project, calls: Calls) -> None:
    """Who starts a job with `nohup` and logs out wants it done."""
    process = work.start(*arguments("hold"), preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    calls.wait_for(4)
    process.send_signal(signal.SIGHUP)
    (work.folder / "release").touch()
    assert ended(process).code == 0
    assert work.counters["completed_items"] == ITEMS


def test_a_signal_that_comes_too_late_to_stop_anything_completes(work: Project, calls: Calls) -> None:
    """When the calls in flight were the last ones, everything is done: there is nothing to resume."""
    process = work.start(*arguments("hold", "dataset.limit=4"))
    calls.wait_for(4)
    process.send_signal(signal.SIGTERM)
    line_of(process)
    (work.folder / "release").touch()
    assert ended(process).code == 0
    assert (work.record["status"], work.record["stop_reason"], work.counters["completed_items"]) == ("completed", None, 4)


def test_a_function_that_hangs_fails_its_item_and_does_not_hold_up_the_exit(work: Project, calls: Calls) -> None:
    """A thread cannot be ended, but its item can, and the process: all other items are done."""
    process = work.start(*arguments("hang_at_3", "dataset.limit=20", "run.item_timeout_seconds=2"))
    last = ended(process)
    assert last.code == 3, last.err
    run_all_but_one(work, process, last, "failed")
    assert "Timeout  tidy  1      item 3: the item ran longer than item_timeout_seconds: 2" in last.err


def test_a_function_that_hangs_without_a_deadline_yields_to_a_signal(work: Project, calls: Calls) -> None:
    """Neither the items queued behind it nor Ctrl-C have to wait for a call that never ends."""
    process = work.start(*arguments("hang_at_3", "dataset.limit=20", "run.item_timeout_seconds=null", "run.grace_seconds=2"))
    calls.wait_for(20)
    process.send_signal(signal.SIGINT)
    last = ended(process)
    assert last.code == 130, last.err
    run_all_but_one(work, process, last, "cancelled")


def test_too_many_failures_end_the_execution_as_failed(work: Project) -> None:
    """The failure policy stops what makes no sense to go on with, and the rows say how far it came."""
    last = work.batchrun(*arguments("odd", "run.failure_policy.max_failures=2"))
    assert last.code == 1
    assert (work.record["status"], work.record["stop_reason"]) == ("failed", "failure_policy")
    assert "max_failures" in work.record["error"]
    assert work.record["error"] in last.err
    counters = work.counters
    assert counters["total_items"] == ITEMS
    assert counters["failed_items"] > 2
    assert "failures.parquet" in work.files


def test_a_stop_rule_pauses_and_leaves_the_item_open(work: Project) -> None:
    """An exhausted quota is no failure of the item: it is not done, and the execution says why it paused."""
    rule = "run.retry.rules=[{match: {error_type: QuotaExhausted}, action: stop}]"
    last = work.batchrun(*arguments("quota", rule, "run.parallelism=1"))
    assert last.code == 4
    assert (work.record["status"], work.record["stop_reason"]) == ("paused", "rule")
    assert work.record["error"] == "node tidy: QuotaExhausted: come back tomorrow"
    assert work.counters["completed_items"] == 5
    assert work.counters["cancelled_items"] == ITEMS - 5
    assert "5 completed, 2,995 not done" in last.err


def test_a_cancellation_of_the_functions_own_making_is_a_failure(work: Project) -> None:
    """Only the dispatcher cancels items: what a function lets out must not pass for an item that was not run."""
    last = work.batchrun(*arguments("awaits_what_was_cancelled", "dataset.limit=20"))
    assert last.code == 3, last.err
    (failed,) = (row for row in work.result.select(["item_index", "status", "error"]).to_pylist() if row["status"] != "completed")
    assert (failed["item_index"], failed["status"], failed["error"]["type"]) == (3, "failed", "CancelledError")
