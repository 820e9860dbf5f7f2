"""Worker processes of slices that die, hang or are stopped, and their parent killed: no item is lost, and none that is done runs twice."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from pathlib import Path

import pytest

from batchrun.results import Recovered
from tests.e2e.conftest import Calls, Project, ended
from tests.e2e.held import until, until_told

JOB = """\
name: sliced
dataset: {path: data.parquet, id: id}
workflow:
  nodes:
    - {id: work, type: python, call: "steps:work", inputs: {id: "{{ item.id }}", kind: "{{ item.kind }}"}}
run: {parallelism: 4, backend: processes, processes: 2, grace_seconds: 0.5, retry: {max_attempts: 1}}
output: {path: runs, keep: [kind]}
"""
WAITING_JOB = JOB.replace("steps:work", "steps:waits")
STEPS = """\
import asyncio, ctypes, os, re, time
from pathlib import Path
import batchrun

LOG = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def work(id: int, kind: str) -> int:
    os.write(LOG, f"{id}\\n".encode())
    if kind == "exit":
        os._exit(7)
    if kind == "segfault":
        ctypes.string_at(0)
    if kind == "bad":
        raise ValueError(kind)
    if kind == "held":
        re.match(r"(a+)+$", "a" * 60 + "b")
    if kind == "slow":
        time.sleep(0.01)
    return id

async def first(id: int) -> int:
    os.write(LOG, f"{id}\\n".encode())
    return id

async def second(id: int, kind: str) -> int:
    if kind == "exit" and not Path("go").exists():
        while not Path("kept").exists():
            await asyncio.sleep(0.01)
        os._exit(7)
    return id

async def until_cancelled(id: int, kind: str, context: batchrun.Context) -> int:
    with open("calls", "w") as pipe:
        pipe.write("at work\\n")
    while not context.is_cancelled:
        await asyncio.sleep(0.01)
    return id

async def waits(id: int, kind: str) -> int:
    if kind == "exit":
        await asyncio.sleep(0.05)
    work(id, kind)
    if kind == "waits":
        with open("calls", "w") as pipe:
            pipe.write("at work\\n")
        while not Path("go").exists():
            await asyncio.sleep(0.01)
    return id

class Unready:
    def setup(self):
        raise RuntimeError("no model")

    def __call__(self, id, kind):
        return id

class Loading(Unready):
    def setup(self):
        with open("calls", "w") as pipe:
            pipe.write("loading\\n")
        while True:
            time.sleep(0.01)

class Dying(Unready):
    def setup(self):
        os._exit(9)
"""


@pytest.fixture
def sliced(project: Project) -> Project:
    project.write("steps.py", STEPS)
    project.write("job.yaml", JOB)
    return project


def _items(project: Project, kinds: list[str]) -> None:
    project.table("data.parquet", {"id": list(range(len(kinds))), "kind": kinds})


def _runs(project: Project) -> Counter[int]:
    return Counter(map(int, (project.folder / "log").read_text().split()))


def _has_begun(folder: Path, ordinal: int) -> bool:
    """Whether the journal has what nodes of an open item have come to."""
    recovered = Recovered(folder)
    recovered.read_open_items()
    return recovered.item(ordinal) is not None


def _workers_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task").glob("*/children")
    found = [int(child) for each in children for child in each.read_text().split()]
    return [each for each in found if b"slices.worker" in Path(f"/proc/{each}/cmdline").read_bytes()]


@pytest.mark.parametrize("call", ["work", "waits"])
def test_only_the_item_fails_that_ends_its_worker(sliced: Project, call: str) -> None:
    """What crashes costs its own item and nothing else, and the item is named for it."""
    sliced.write("job.yaml", JOB.replace("steps:work", f"steps:{call}"))
    kinds = ["ok"] * 60
    kinds[17], kinds[40] = "exit", "segfault"
    _items(sliced, kinds)
    run = sliced.batchrun("run", "job.yaml")
    assert run.code == 3, run.err
    rows = sliced.result.to_pylist()
    assert [row["source_item_id"] for row in rows] == list(range(60))
    assert {row["source_item_id"]: row["error"]["type"] for row in rows if row["status"] != "completed"} == {
        17: "WorkerCrashed",
        40: "WorkerCrashed",
    }
    assert "exit code 7" in rows[17]["error"]["message"] and "SIGSEGV" in rows[40]["error"]["message"]
    assert rows[17]["error"]["node_id"] == "work" and "string_at" in rows[40]["error"]["traceback"]


def test_an_item_that_holds_its_worker_fails_at_its_deadline(sliced: Project) -> None:
    """Nothing written in Python can end such a call; its process ends itself, and the others go on."""
    _items(sliced, ["ok", "ok", "held", *["ok"] * 30])
    run = sliced.batchrun("run", "job.yaml", "--set", "run.item_timeout_seconds=3")
    assert run.code == 3, run.err
    failed = [row for row in sliced.result.to_pylist() if row["status"] == "failed"]
    assert [(row["source_item_id"], row["error"]["type"]) for row in failed] == [(2, "Timeout")]
    assert "in work" in failed[0]["error"]["traceback"]


def test_a_killed_parent_costs_what_was_at_work(sliced: Project, calls: Calls) -> None:
    """Its workers end with it; a resume runs what is not in the journal, and nothing that is."""
    sliced.write("job.yaml", WAITING_JOB)
    _items(sliced, [*["ok"] * 200, *["waits"] * 2, *["ok"] * 20])
    process = sliced.start("run", "job.yaml")
    calls.wait_for(2)
    workers = _workers_of(process.pid)
    assert len(workers) == 2
    (folder,) = sliced.executions
    while not Recovered(folder).count("completed"):
        pass
    process.send_signal(signal.SIGKILL)
    ended(process)
    for worker in workers:
        while Path(f"/proc/{worker}").exists():
            pass
    done = {ordinal for ordinal, is_done in enumerate(Recovered(folder).done) if is_done}
    sliced.write("go", "")
    resumed = sliced.batchrun("resume", str(sliced.executions[0]))
    assert resumed.code == 0, resumed.err
    assert sliced.counters["completed_items"] == 222 and sliced.result["source_item_id"].to_pylist() == list(range(222))
    assert {200, 201} <= {id for id, count in _runs(sliced).items() if count > 1} <= {*range(222)} - done


@pytest.mark.parametrize("how", ["SIGINT", "pause", "cancel"])
def test_a_stop_leaves_the_rest_for_a_resume(sliced: Project, calls: Calls, how: str) -> None:
    """Ctrl-C, which all processes of a terminal hear, and requests stop the workers; what they finish in the grace period counts."""
    sliced.write("job.yaml", WAITING_JOB)
    _items(sliced, [*["ok"] * 20, *["waits"] * 2, *["ok"] * 2000])
    process = sliced.start("run", "job.yaml", start_new_session=True)
    calls.wait_for(2)
    if how == "SIGINT":
        os.killpg(process.pid, signal.SIGINT)
    else:
        assert sliced.batchrun(how, str(sliced.executions[0])).code == 0
    stopped = ended(process)
    status = {"SIGINT": "paused", "pause": "paused", "cancel": "cancelled"}[how]
    assert sliced.record["status"] == status, stopped.err
    assert sliced.counters["cancelled_items"] >= 2
    assert sliced.result["source_item_id"].to_pylist() == list(range(2022))
    sliced.write("go", "")
    assert sliced.batchrun("resume", str(sliced.executions[0])).code == 0
    assert sliced.counters["completed_items"] == 2022
    assert {id for id, count in _runs(sliced).items() if count > 1} <= {20, 21}


def test_the_failure_policy_is_judged_over_all_workers(sliced: Project) -> None:
    """No worker knows how many items have failed in another one."""
    _items(sliced, ["bad", *["slow"] * 600])
    run = sliced.batchrun("run", "job.yaml", "--set", "run.failure_policy.max_failures=0")
    assert run.code == 1 and "max_failures" in run.err
    assert sliced.counters["failed_items"] == 1 and sliced.counters["cancelled_items"] > 0


@pytest.mark.parametrize(
    ("call", "said"), [("Unready", "RuntimeError: no model"), ("Dying", "worker processes do not start: it ended with exit code 9")]
)
def test_nodes_that_cannot_be_set_up_end_the_execution(sliced: Project, call: str, said: str) -> None:
    """Nothing is run again and again that cannot begin."""
    sliced.write("job.yaml", JOB.replace("steps:work", f"steps:{call}"))
    _items(sliced, ["ok"] * 5)
    run = sliced.batchrun("run", "job.yaml")
    assert run.code == 1 and said in run.err, run.err
    assert sliced.record["status"] == "failed"


def test_what_an_item_had_done_is_kept_when_it_ends_its_worker(sliced: Project) -> None:
    """The nodes that completed before are in its row, and a retry does not run them again."""
    nodes = """\
    - {id: first, type: python, call: "steps:first", inputs: {id: "{{ item.id }}"}}
    - {id: second, type: python, call: "steps:second", inputs: {id: "{{ nodes.first.output }}", kind: "{{ item.kind }}"}}
"""
    sliced.write("job.yaml", re.sub(" +- {id: work.*\n", nodes, JOB))
    _items(sliced, ["ok", "exit", *["ok"] * 5])
    process = sliced.start("run", "job.yaml")
    until(lambda: bool(sliced.executions) and _has_begun(sliced.executions[0], 1))
    until(lambda: Recovered(sliced.executions[0]).count("completed") == 6)  # what is not in the journal would run again
    sliced.write("kept", "")
    run = ended(process)
    assert run.code == 3 and "the items that it was at run again, one at a time" in run.err, run.err
    row = sliced.result.to_pylist()[1]
    assert row["error"]["type"] == "WorkerCrashed"
    assert [(node["node_id"], node["status"], node["output"]) for node in row["node_executions"]] == [("first", "completed", "1")]
    sliced.write("go", "")
    assert sliced.batchrun("retry", str(sliced.executions[0])).code == 0
    assert [node["node_id"] for node in sliced.result.to_pylist()[1]["node_executions"]] == ["first", "second"]
    assert _runs(sliced) == dict.fromkeys(range(7), 1)


def test_a_worker_that_is_killed_costs_no_item(sliced: Project, calls: Calls) -> None:
    """What it was at runs again in another one, and people are told."""
    sliced.write("job.yaml", WAITING_JOB)
    _items(sliced, [*["ok"] * 20, *["waits"] * 2, *["ok"] * 200])
    process = sliced.start("run", "job.yaml")
    calls.wait_for(2)
    for worker in _workers_of(process.pid):
        os.kill(worker, signal.SIGKILL)
    calls.wait_for(3)  # one at a time: both may have been in the same worker
    sliced.write("go", "")
    run = ended(process)
    assert run.code == 0 and "a worker process died with SIGKILL" in run.err, run.err
    assert sliced.counters["completed_items"] == 222 and sliced.result["source_item_id"].to_pylist() == list(range(222))


def test_calls_hear_of_a_cancel_that_comes_after_a_pause(sliced: Project, calls: Calls) -> None:
    """They end what they have begun elsewhere, instead of leaving it for a resume."""
    sliced.write("job.yaml", JOB.replace("steps:work", "steps:until_cancelled").replace("grace_seconds: 0.5", "grace_seconds: 60"))
    _items(sliced, ["ok"] * 20)
    with (sliced.folder / "told").open("w") as told:
        process = sliced.start("run", "job.yaml", stderr=told)
    calls.wait_for(4)
    for verb, said in (("pause", "paused by process "), ("cancel", "")):
        assert sliced.batchrun(verb, str(sliced.executions[0])).code == 0
        until_told(sliced, said)
    assert ended(process).code == 1
    assert sliced.record["status"] == "cancelled" and sliced.counters["completed_items"] == 4


def test_a_stop_does_not_wait_for_workers_that_get_ready(sliced: Project, calls: Calls) -> None:
    """Whoever sees a mistake while a model is loaded need not wait for it, and nobody is shown where that was."""
    sliced.write("job.yaml", JOB.replace("steps:work", "steps:Loading").replace("grace_seconds: 0.5", "grace_seconds: 1000"))
    _items(sliced, ["ok"] * 20)
    process = sliced.start("run", "job.yaml", start_new_session=True)
    calls.wait_for(2)
    os.killpg(process.pid, signal.SIGINT)
    stopped = ended(process)
    assert stopped.code == 130 and "Traceback" not in stopped.err, stopped.err
    assert sliced.record["status"] == "paused" and sliced.counters["cancelled_items"] == 20
