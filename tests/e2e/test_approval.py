"""Items that wait for a person, while other processes run them, end and are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrun.client import Execution
from tests.e2e.conftest import PATIENCE_SECONDS, Project, ended
from tests.e2e.held import held, held_job, release, until

JOB = """\
name: asked
dataset: {path: data.parquet, id: id, limit: 4}
workflow:
  nodes:
    - {id: ok, type: approval, output: {size: "{{ item.size }}"}, when: "{{ item.size < 2 }}"}
    - {id: done, type: template, template: "went on with {{ nodes.ok.output.size }}", when: "{{ item.size < 2 }}"}
    - {id: hold, type: python, call: "steps:hold", inputs: {size: "{{ item.size }}"}, when: "{{ item.size >= 2 }}"}
  output: {done: "{{ nodes.done.output }}", held: "{{ nodes.hold.output }}"}
run: {parallelism: 2, retry: {max_attempts: 1}}
"""


@pytest.fixture
def work(project: Project) -> Iterator[Project]:
    """Two items wait for a person, and two are held in a call until the test says so."""
    with held_job(project) as work:
        work.write("job.yaml", JOB)
        yield work


@pytest.fixture
def runner(work: Project) -> subprocess.Popen[str]:
    """A process that runs it, once both items wait."""
    process, _ = held(work)
    until(lambda: len(execution(work).waiting_items()) == 2)
    return process


def execution(work: Project) -> Execution:
    (folder,) = work.executions
    return Execution(folder)


def done(work: Project) -> dict[str, str | None]:
    """What the items that were decided about came to."""
    rows = work.result.select(["source_item_id", "status", "output"]).to_pylist()
    return {row["source_item_id"]: json.loads(row["output"])["done"] if row["output"] else row["status"] for row in rows[:2]}


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(PATIENCE_SECONDS)


def test_a_person_decides_at_the_end(work: Project) -> None:
    """The whole way on the command line: run, look, decide, resume."""
    work.write("job.yaml", JOB.replace("limit: 4", "limit: 2"))
    ran = work.batchrun("run", "job.yaml")
    assert ran.code == 4
    assert "waiting in" in ran.err and "2 items wait for a person" in ran.err and "2 items: 0 completed, 2 waiting\n" in ran.err
    id = work.record["execution_id"]
    assert f"to see what they wait for: batchrun show runs/{id} --waiting\n" in ran.err
    assert work.record["stop_reason"] == "waiting" and work.counters["waiting_items"] == 2
    page = work.batchrun("show", "--waiting").out
    assert page.startswith(f"2 items of {id} wait for a person\n  item 0  ok  since ") and '{"size": 0}' in page
    listed = [json.loads(line) for line in work.batchrun("show", "--waiting", "--json").out.splitlines()]
    assert [(item["source_item_id"], item["node_id"], item["shown"]) for item in listed] == [
        ("item 0", "ok", {"size": 0}),
        ("item 1", "ok", {"size": 1}),
    ]
    approved = work.batchrun("approve", "--item", "item 0", "--set", 'output={"size": 7}', "--by", "Ada")
    assert (approved.code, approved.err) == (0, f"approved 1 item of {id}; to go on: batchrun resume runs/{id}\n")
    shown = work.batchrun("show", "--item", "item 0").out
    assert "approved by Ada at node ok; goes on with the next resume" in shown and '  output   {"size": 7}\n' in shown
    assert "waits for a person at node ok, since " in work.batchrun("show", "--item", "item 1").out
    assert work.batchrun("reject", "--all", "--reason", "too small").err.startswith("rejected 1 item")
    assert work.batchrun("approve", "--all").err == f"no item of {id} waits for a person: there is nothing to do\n"
    resumed = work.batchrun("resume")
    assert resumed.code == 3 and "item 1: rejected: too small" in resumed.err
    assert done(work) == {"item 0": "went on with 7", "item 1": "failed"}
    assert "File " not in work.batchrun("show", "--item", "item 1").out
    assert work.batchrun("show", "--waiting").out == f"no item of {id} waits for a person\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["approve"], "say which items: --item ID, as often as wanted, or --all"),
        (["reject", "--all", "--item", "item 0"], "say which items"),
        (["approve", "--all", "--set", "outptu=1"], "only output can be set"),
        (["approve", "--item", "item 9"], "item item 9 of "),
    ],
)
def test_half_a_decision_decides_nothing(work: Project, arguments: list[str], message: str) -> None:
    """Whoever mistypes is told, and all items wait as before."""
    work.write("job.yaml", JOB.replace("limit: 4", "limit: 2"))
    work.batchrun("run", "job.yaml", "--quiet")
    refused = work.batchrun(*arguments)
    assert refused.code != 0 and message in refused.err
    assert len(execution(work).waiting_items()) == 2


def test_a_running_process_takes_decisions_and_goes_on_by_itself(work: Project, runner: subprocess.Popen[str]) -> None:
    """Who decides while the others still run need not come back to resume."""
    id = execution(work).id
    assert execution(work).progress.waiting_items in (0, 2)
    approved = work.batchrun("approve", id, "--item", "item 0")
    assert (approved.code, approved.err) == (0, f"approved 1 item of {id}: they go on at the end of this run\n")
    assert [item.id for item in execution(work).waiting_items()] == ["item 1"]
    assert release(work, runner) == 4
    assert done(work) == {"item 0": "went on with 0", "item 1": "waiting"}
    assert [change["status"] for change in work.record["states"]].count("running") == 2
    assert execution(work).status == "waiting"


def test_a_decision_survives_the_death_of_the_process_that_took_it(work: Project, runner: subprocess.Popen[str]) -> None:
    """Once the command has returned, the decision is on the disk."""
    work.batchrun("approve", "--all")
    kill(runner)
    assert execution(work).status == "interrupted" and execution(work).waiting_items() == []
    assert "approved at node ok; goes on with the next resume" in work.batchrun("show", "--item", "item 0").out
    (work.folder / "release").touch()
    assert work.batchrun("resume").code == 0
    assert done(work) == {"item 0": "went on with 0", "item 1": "went on with 1"}


def test_after_a_crash_a_person_can_decide_at_once(work: Project, runner: subprocess.Popen[str]) -> None:
    """What was asked is in the journal, so nobody has to resume only to be asked."""
    kill(runner)
    assert [item.id for item in execution(work).approve(["item 1"], output={"size": 5}, by="Ada")] == ["item 1"]
    (work.folder / "release").touch()
    assert work.batchrun("resume").code == 4
    assert done(work) == {"item 0": "waiting", "item 1": "went on with 5"}


def test_a_process_that_dies_before_it_takes_a_decision_does_not_lose_it(work: Project, runner: subprocess.Popen[str]) -> None:
    """Whoever decides waits until it is written down, and writes it himself when nobody else can."""
    os.kill(runner.pid, signal.SIGSTOP)
    asking = work.start("approve", "--all")
    control = execution(work).folder / "control"
    until(lambda: any(not path.name.startswith(".") for path in _files(control)))
    assert asking.poll() is None
    kill(runner)
    answer = ended(asking)
    assert answer.code == 0 and answer.err.startswith("approved 2 items of ")
    assert execution(work).waiting_items() == []
    (work.folder / "release").touch()
    assert work.batchrun("resume").code == 0
    assert not _files(control)


def _files(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.exists() else []


def test_a_resume_that_was_told_before_it_came_to_the_item_does_not_ask_again(work: Project, runner: subprocess.Popen[str]) -> None:
    """The items that are held come first now; what is decided meanwhile holds though the others are run again after that."""
    kill(runner)
    resumed = work.start("resume", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: execution(work).status == "running")
    execution(work).approve()
    assert release(work, resumed) == 0
    assert done(work) == {"item 0": "went on with 0", "item 1": "went on with 1"}
