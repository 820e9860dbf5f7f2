"""Going on with executions that were stopped on purpose: budgets, time limits, signals, and what must not have changed."""

from __future__ import annotations

import shutil
import signal

import pytest

from tests.e2e.conftest import Calls, Project, ended

ITEMS = 300
WORK = """\
import asyncio
from pathlib import Path

import batchrun


async def use(size: int, context: batchrun.Context) -> dict:
    with open("log", "a") as log:
        log.write(f"{size}\\n")
    context.add_usage(input_tokens=6, output_tokens=4, cost=0.5)
    return {"size": size}


async def hold(size: int) -> dict:
    with open("calls", "w") as pipe:
        pipe.write("\\n")
    while not Path("release").exists():
        await asyncio.sleep(0.01)
    return {"size": size}


def after(before: dict) -> int:
    return before["size"] + 1
"""
JOB = """\
name: two-nodes
dataset: {path: data.parquet, id: id}
workflow:
  nodes:
    - {id: first, type: python, call: "steps:use", inputs: {size: "{{ item.size }}"}}
    - {id: after, type: python, call: "steps:after", inputs: {before: "{{ nodes.first.output }}"}}
run: {parallelism: 4, retry: {max_attempts: 1}}
"""


@pytest.fixture
def work(project: Project) -> Project:
    """A job of an async node that reports usage and a plain one after it."""
    project.write("steps.py", WORK)
    project.write("job.yaml", JOB)
    project.table("data.parquet", {"id": [f"item {row}" for row in range(ITEMS)], "size": range(ITEMS)})
    return project


def settings(*chosen: str) -> list[str]:
    return [part for setting in chosen for part in ("--set", setting)]


@pytest.mark.parametrize(
    ("limit", "most_calls", "sentence"),
    [
        ("run.budget.max_calls=100", 100, "the budget of 100 calls is used up"),
        ("run.budget.max_tokens=500", 54, "the budget of 500 tokens is used up"),
        ("run.budget.max_cost=20", 44, "the budget of cost 20 is used up"),
    ],
)
def test_a_budget_pauses_and_counts_over_all_resumes(work: Project, limit: str, most_calls: int, sentence: str) -> None:
    """Not a call is made beyond the limit, not even by a resume, and with a larger one nothing is done twice."""
    paused = work.batchrun("run", "job.yaml", *settings(limit))
    assert paused.code == 4, paused.err
    assert sentence in paused.err and "to go on: batchrun resume runs/" in paused.err
    assert (work.record["status"], work.record["stop_reason"]) == ("paused", "budget")
    calls = len((work.folder / "log").read_text().splitlines())
    assert 0 < calls <= most_calls
    assert work.batchrun("resume").code == 4
    assert len((work.folder / "log").read_text().splitlines()) == calls
    assert work.batchrun("resume", "latest", *settings(limit.partition("=")[0] + "=null")).code == 0
    assert sorted(map(int, (work.folder / "log").read_text().split())) == list(range(ITEMS))
    assert work.result["output"].to_pylist() == [row + 1 for row in range(ITEMS)]
    assert work.counters["completed_items"] == ITEMS


def test_a_time_limit_pauses_the_execution(work: Project, calls: Calls) -> None:
    """A job that takes longer than it may leaves a row for every item, and goes on when it may."""
    chosen = ("run.timeout_seconds=1.5", "run.grace_seconds=0.1", "workflow.nodes.first.call=steps:hold")
    paused = work.batchrun("run", "job.yaml", *settings(*chosen))
    assert paused.code == 4 and "run.timeout_seconds, 1.5 s, is used up" in paused.err, paused.err
    assert work.counters["cancelled_items"] == ITEMS
    (work.folder / "release").touch()
    resumed = work.batchrun("resume", "latest", *settings("run.timeout_seconds=null"))
    assert (resumed.code, work.counters["completed_items"]) == (0, ITEMS), resumed.err


def test_a_signal_pauses_and_a_resume_goes_on(work: Project, calls: Calls) -> None:
    """After Ctrl-C the rest is run, once, in whichever folder the execution is by then."""
    process = work.start("run", "job.yaml", *settings("run.grace_seconds=0.1", "workflow.nodes.first.call=steps:hold"))
    calls.wait_for(4)
    process.send_signal(signal.SIGINT)
    assert ended(process).code == 130
    (execution,) = work.executions
    shutil.move(execution, work.folder / "elsewhere")
    (work.folder / "release").touch()
    resumed = work.batchrun("resume", "elsewhere")
    assert resumed.code == 0, resumed.err
    again = work.batchrun("resume", "elsewhere")
    assert (again.code, again.err) == (0, "elsewhere has completed: there is nothing to do\n")


def test_a_resume_refuses_other_items_and_other_columns(work: Project) -> None:
    """Results of different items or of different shapes never end up in one table; the message names what changed."""
    assert work.batchrun("run", "job.yaml", *settings("run.budget.max_calls=100")).code == 4
    before = {path.name: path.read_bytes() for path in (work.executions[0] / "journal").iterdir() if path.suffix}
    for change, sentence in {
        "dataset.filter='size > 3'": "dataset.filter changed from None to 'size > 3'",
        "output.keep=[size]": "the columns of the result changed (size)",
        "workflow.output_schema=int64": "the output changed",
    }.items():
        refused = work.batchrun("resume", "latest", *settings(change))
        assert refused.code == 2 and sentence in refused.err, refused.err
    frame = work.table("data.parquet", {"id": ["item 0"], "size": [1]})
    refused = work.batchrun("resume", "--accept-changes")
    assert refused.code == 2 and f"the dataset {frame.name} changed" in refused.err, refused.err
    assert all((work.executions[0] / "journal" / name).read_bytes() == content for name, content in before.items())


def test_an_execution_without_a_journal_says_so(work: Project) -> None:
    """Who chose speed over durability is told that there is nothing to go on from."""
    assert work.batchrun("run", "job.yaml", *settings("run.durable=false", "run.budget.max_calls=100")).code == 4
    assert work.files == {"execution.json", "inputs.parquet", "journal", "report.html", "results.parquet"}
    assert [path.name for path in (work.executions[0] / "journal").iterdir()] == ["lock"]
    refused = work.batchrun("resume")
    assert refused.code == 2 and "was run with run.durable: false" in refused.err, refused.err
