"""Calls that hold the interpreter lock and never come back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.conftest import Ended, Project, default_home, ended

ITEMS = 50
BAD = 17
JOB = """\
name: held
dataset: {path: data.parquet, id: id}
workflow:
  nodes:
    - {id: size, type: template, template: "{{ item.size }}"}
    - {id: match, type: python, call: "steps:match", inputs: {size: "{{ item.size }}"}}
run: {parallelism: 4, item_timeout_seconds: 3, retry: {max_attempts: 1}}
"""
STEPS = f"""\
import re
import time
from pathlib import Path

import batchrun


def match(size: int) -> bool:
    time.sleep(0.005)
    return re.fullmatch(r"(a+)+$", "a" * 40 + "b" if size == {BAD} else "aaa") is not None


def match_in_context(size: int, context: batchrun.Context) -> bool:
    return match(size)


@batchrun.node
def part(size: int) -> bool:
    return match(size)


@batchrun.workflow
async def flow(size: int) -> bool:
    return await part(size)


def files(size: int) -> list[str]:
    (folder,) = Path("runs").glob("*/journal")
    return sorted(path.name for path in folder.iterdir())


def sleep(size: int) -> int:
    time.sleep(4)
    return size
"""
RUNNER = """\
import sys

import batchrun
from batchrun.execution import end_when_held

if len(sys.argv) > 1:
    end_when_held(float(sys.argv[1]))
execution = batchrun.execute("job.yaml", quiet=True)
print(execution.status)
"""


@pytest.fixture
def work(project: Project) -> Project:
    project.write("job.yaml", JOB)
    project.write("steps.py", STEPS)
    project.write("runner.py", RUNNER)
    project.table("data.parquet", {"id": [f"item {row}" for row in range(ITEMS)], "size": range(ITEMS)})
    return project


def run(work: Project, *arguments: str) -> Ended:
    """Run the job in a program: one of batchrun's own when it says how long after the last deadline it may be ended."""
    command = [sys.executable, "runner.py", *arguments]
    return ended(subprocess.Popen(command, cwd=work.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=default_home()))


def calls(work: Project, function: str) -> None:
    """Have the job call another function."""
    work.write("job.yaml", JOB.replace("steps:match", f"steps:{function}"))


def errors(work: Project) -> dict[str, tuple[str, str | None]]:
    """Type and node of the errors in the result, by item."""
    failed = {row["source_item_id"]: row["error"] for row in work.result.to_pylist() if row["status"] == "failed"}
    return {id: (error["type"], error["node_id"]) for id, error in failed.items()}


def statuses(work: Project) -> Counter[str]:
    return Counter(work.result["status"].to_pylist())


def journal(work: Project) -> Path:
    (folder,) = work.executions
    return folder / "journal"


def test_a_call_that_holds_the_interpreter_ends_the_process_which_says_why(work: Project) -> None:
    """A run that nothing in Python can reach any more does not hang for ever: it ends, can be resumed, and its page names the call."""
    first = run(work, "2")
    assert (first.code, first.out) == (1, "")
    assert "a call held the interpreter and did not come back" in first.err
    assert "batchrun resume goes on" in first.err
    assert "interrupted, resumable" in work.batchrun("list").out
    page = work.batchrun("show").out
    assert "so its process was ended, after 5 s" in page
    assert f"match ({work.folder / 'steps.py'}:10)" in page
    shown = json.loads(work.batchrun("show", "--json").out)
    assert shown["status"] == "interrupted"
    assert str(BAD) in shown["error"].rpartition("at positions ")[2]


def test_a_resume_ends_the_call_alone(work: Project) -> None:
    """The item whose call never returns fails at its deadline, in a process; all others complete, in the same command."""
    run(work, "2")
    resumed = work.batchrun("resume", "--set", "run.item_timeout_seconds=10")
    assert resumed.code == 3, resumed.err
    assert "run first, in processes" in resumed.err
    assert statuses(work) == {"completed": ITEMS - 1, "failed": 1}
    assert errors(work) == {f"item {BAD}": ("Timeout", "match")}
    assert work.counters["processed_items"] == ITEMS
    assert {"held.txt", "lanes"}.isdisjoint(path.name for path in journal(work).iterdir())
    assert [change["status"] for change in work.record["states"]].count("paused") == 0


def test_a_resume_reaches_what_python_workflows_call(work: Project) -> None:
    """A function that a workflow calls runs in a thread like any other, and can hold the interpreter like any other."""
    calls(work, "flow")
    assert run(work, "2").code == 1
    assert work.batchrun("resume", "--set", "run.item_timeout_seconds=10").code == 3  # other items wait that long for their process
    assert errors(work) == {f"item {BAD}": ("Timeout", "match")}
    assert statuses(work) == {"completed": ITEMS - 1, "failed": 1}


def test_a_call_that_no_process_can_make_fails_and_says_so(work: Project) -> None:
    """An item that would hold up each resume anew ends, too; those beside it can be retried in threads."""
    calls(work, "match_in_context")
    assert run(work, "2").code == 1
    assert work.batchrun("resume").code == 3
    assert f"item {BAD}" in errors(work)
    assert set(errors(work).values()) == {("InvalidValue", "match")}
    assert statuses(work).total() == ITEMS
    failed = next(row["error"] for row in work.result.to_pylist() if row["source_item_id"] == f"item {BAD}")
    assert "its parameter 'context' is the context of the call" in failed["message"]


def test_only_processes_of_batchrun_are_ended(work: Project) -> None:
    """A notebook, or a service that calls `batchrun.execute`, is not ended by a library; the command line is watched."""
    calls(work, "files")
    assert run(work).out == "completed\n"
    assert not any("held.txt" in files or "lanes" in files for files in work.result["output"].to_pylist())
    (execution,) = work.executions
    shutil.rmtree(execution)
    work.batchrun("run", "job.yaml")
    assert all("held.txt" in files and "lanes" in files for files in work.result["output"].to_pylist())


def test_long_calls_that_release_the_lock_are_left_alone(work: Project) -> None:
    """A healthy run of nothing but calls that block, each for longer than the process may be held, completes."""
    calls(work, "sleep")
    work.write("job.yaml", JOB.replace("steps:match", "steps:sleep").replace("item_timeout_seconds: 3", "item_timeout_seconds: 60"))
    work.table("data.parquet", {"id": [f"item {row}" for row in range(4)], "size": range(4)})
    assert run(work, "-57").out == "completed\n"
    assert statuses(work) == {"completed": 4}
