"""Workflows in Python: what is recorded, and what is not done again when items go on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import batchrun
from batchrun.client import Execution
from tests.e2e import flows
from tests.e2e.conftest import PATIENCE_SECONDS, Project
from tests.e2e.flows import moods

ITEMS = 4
FRAME = pl.DataFrame({"size": range(ITEMS)})
JOB = """\
name: flow
dataset: {path: data.parquet, id: size}
workflow: {nodes: [{id: flow, type: python, call: "tests.e2e.flows:flow", inputs: {item: "{{ item }}"}, retry: {max_attempts: 1}}]}
run: {parallelism: 2}
output: {path: runs}
"""
OUTPUT = re.compile(r"(\d) weighs (\d+), [0-9a-f-]{36}")


@pytest.fixture(autouse=True)
def _here(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is not said to be elsewhere is written in the folder of the test."""
    monkeypatch.chdir(project.folder)
    project.table("data.parquet", {"size": range(ITEMS)})
    yield
    moods.reset()
    flows.settings["part"] = 1


def run(workflow: Any, **options: Any) -> Execution:
    job = batchrun.Job(dataset=batchrun.Dataset(path="data.parquet", id="size"), workflow=workflow, parallelism=2, **options)
    return batchrun.execute(job, quiet=True)


def column(execution: Execution, name: str) -> list[Any]:
    return list(execution.results[name].to_pylist())


def executions(table: pa.Table, item: int) -> list[tuple[str, int, str]]:
    """Node, occurrence and status of each node execution of an item."""
    return [(node["node_id"], node["occurrence"], node["status"]) for node in table["node_executions"].to_pylist()[item]]


ALL = [
    ("flow.fetch", 0, "completed"),
    ("flow.weigh", 0, "completed"),
    ("flow.weigh", 1, "completed"),
    ("flow.weigh", 2, "completed"),
    ("flow.judge", 0, "completed"),
    ("flow", 0, "completed"),
]


def test_a_workflow_runs_as_a_job_over_a_frame_and_by_its_name(project: Project) -> None:
    """However it is started, it gives the same outputs and records the same calls, each with its occurrence."""
    project.write("job.yaml", JOB)
    for execution in (
        run(flows.flow),
        batchrun.map(flows.flow, FRAME, quiet=True),
        batchrun.execute("job.yaml", quiet=True),
    ):
        assert execution.has_succeeded
        assert column(execution, "output")[0] == "nothing"
        assert [found.groups() for text in column(execution, "output")[1:] if (found := OUTPUT.fullmatch(text))] == [
            ("1", "6"),
            ("2", "12"),
            ("3", "18"),
        ]
        assert executions(execution.results, 1) == ALL
        assert executions(execution.results, 0) == [each for each in ALL if each[0] != "flow.judge"]
    assert len({call.key for call in moods.made}) == len(moods.take()) == 3 * (ITEMS * 4 + ITEMS - 1)


def test_a_plain_function_is_a_workflow_too() -> None:
    """Loops of plain functions count their calls."""
    execution = run(flows.plain)
    assert column(execution, "output") == [0, 4, 16, 48]
    assert executions(execution.results, 2) == [*[("plain.double", number, "completed") for number in range(3)], ("plain", 0, "completed")]


@pytest.mark.parametrize("recording", ["summary", "none"])
def test_less_is_recorded_on_request_and_failures_in_full(recording: Any) -> None:
    """The parts of calls follow `output.node_executions` as other nodes do."""
    moods.troubles["judge", 3] = LookupError("no judge")
    execution = run(flows.flow, output=batchrun.Output(node_executions=recording))
    nodes = column(execution, "node_executions")
    assert [(node["node_id"], node["output"]) for node in nodes[1]] == ([] if recording == "none" else [(id, None) for id, _, _ in ALL])
    failed = [(node["node_id"], node["output"]) for node in nodes[3] if node["status"] == "completed"]
    assert failed == [("flow.fetch", "3"), ("flow.weigh", "3"), ("flow.weigh", "6"), ("flow.weigh", "9")]
    assert column(execution, "error")[3]["node_id"] == "flow.judge"


def test_a_retry_keeps_the_calls_that_completed() -> None:
    """Once the trouble is over, only the call that failed is made again, and with what it was given before."""
    moods.troubles["judge", 1] = moods.troubles["judge", 3] = LookupError("no judge")
    execution = run(flows.flow)
    assert execution.progress.failed_items == 2
    before = [node["input"] for node in column(execution, "node_executions")[3] if node["node_id"] == "flow.judge"]
    moods.troubles = {("judge", 3): LookupError("no judge")}
    moods.take()
    retried = batchrun.retry(execution.folder, quiet=True)
    assert retried is not None and retried.progress.failed_items == 1
    assert moods.take() == ["judge 1", "judge 3"]
    assert executions(retried.results, 1) == ALL
    moods.troubles.clear()
    retried = batchrun.retry(execution.folder, quiet=True)
    assert retried is not None and retried.has_succeeded
    assert moods.take() == ["judge 3"]
    judge = next(node for node in column(retried, "node_executions")[3] if node["node_id"] == "flow.judge")
    assert [judge["input"]] == before


EDITED = """\
import os

import batchrun

LOG = os.open("calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(name, size):
    os.write(LOG, f"{name} {size}\\n".encode())


@batchrun.node
async def fetch(size: int) -> int:
    note("fetch", size)
    return size + 1


@batchrun.node(retry={"max_attempts": 1})
async def weigh(size: int) -> int:
    note("weigh", size)
    return 10 // (size - 1)


@batchrun.workflow
async def flow(item: dict) -> int:
    return await weigh(await fetch(item["size"]))
"""


def test_a_corrected_node_is_called_again_and_the_calls_before_it_are_not(project: Project) -> None:
    """What a person does about a failure: read it, mend the function, and run the failed items again."""
    project.write("edited.py", EDITED)
    project.write("job.yaml", JOB.replace("tests.e2e.flows:flow", "edited:flow"))
    assert project.batchrun("run", "job.yaml").code == 3
    failed = project.batchrun("show", "latest", "--item", "0")
    assert "ZeroDivisionError" in failed.out
    project.write("edited.py", EDITED.replace("10 // (size - 1)", "10 // size"))
    refused = project.batchrun("retry", "latest")
    assert refused.code == 2
    assert "node flow: its function or what it calls changed" in refused.err
    retried = project.batchrun("retry", "latest", "--accept-changes")
    assert retried.code == 0, retried.err
    assert project.result["output"].to_pylist() == ["10", "10", "5", "3"] or project.result["output"].to_pylist() == [10, 10, 5, 3]
    calls = (project.folder / "calls").read_text().splitlines()
    assert sorted(calls) == sorted(
        ["weigh 1", *(f"{name} {size}" for name, first in (("fetch", 0), ("weigh", 1)) for size in range(first, first + 4))]
    )


def test_a_call_can_have_a_name_and_a_fallback_of_its_own() -> None:
    """What runs in the place of a call that failed is recorded beside it."""
    moods.troubles["judge", 2] = LookupError("no judge")
    execution = run(flows.guessing)
    assert column(execution, "output") == ["0 weighs 1, ", "1 weighs 1, ", "2 may weigh 1", "3 weighs 1, "]
    assert executions(execution.results, 2)[:2] == [("guessing.verdict", 0, "failed"), ("guessing.guess", 0, "completed")]


def test_items_wait_for_a_person_and_go_on_where_they_were(project: Project) -> None:
    """Nothing before the question is done again; what the person has put in the place of the output is what the function gets."""
    execution = run(flows.asking)
    assert (execution.status, moods.take()) == ("waiting", sorted([*(f"fetch {size}" for size in range(ITEMS)), "weigh2 0", "weigh2 1"]))
    waiting = execution.waiting_items()
    assert [(item.id, item.node_id) for item in waiting] == [(2, "asking.check"), (3, "asking.check")]
    marks = [item.shown.split()[1] for item in waiting]
    execution.approve([2])
    execution.reject([3], reason="too heavy")
    resumed = batchrun.resume(execution.folder, quiet=True)
    assert resumed is not None and resumed.status == "completed"
    assert column(resumed, "output")[2] == f"4 {marks[0]}, asked 2 {marks[0]}"
    assert column(resumed, "error")[3]["type"] == "Rejected"
    assert moods.take() == ["weigh2 2"]


def test_a_workflow_that_depends_on_something_else_is_caught() -> None:
    """An item whose call would be given other values than before ends with a sentence, not with a mixture of both."""
    moods.troubles["judge", -1] = LookupError("no judge")
    execution = run(flows.outside)
    flows.settings["part"] = 2
    moods.troubles.clear()
    moods.take()
    retried = batchrun.retry(execution.folder, "item_index > 0", quiet=True)
    assert retried is not None
    errors = column(retried, "error")
    assert [error["type"] for error in errors] == ["LookupError", *["ReplayMismatch"] * 3]
    assert "is called with other values than before" in errors[1]["message"] and not errors[1]["retryable"]
    assert moods.take() == []


def test_another_process_runs_it_by_its_name() -> None:
    """A workflow that is submitted runs and is shown like any other."""
    job = batchrun.Job(dataset=batchrun.Dataset(path="data.parquet", id="size"), workflow=flows.flow)
    with batchrun.Client() as client:
        execution = client.submit(job)
        assert execution.wait(timeout_seconds=PATIENCE_SECONDS) == "completed", execution.error
    assert executions(execution.results, 1) == ALL


def test_the_command_line_shows_the_calls(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """`try`, `show --item` and `show --nodes` have a line for each call."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    project.write("job.yaml", JOB)
    tried = json.loads(project.batchrun("try", "job.yaml", "--id", "1", "--json").out)
    assert [(node["node_id"], node["occurrence"]) for node in tried["node_executions"]] == [(id, number) for id, number, _ in ALL]
    page = project.batchrun("try", "job.yaml", "--id", "1").out
    assert page.count("node flow.weigh (python): completed, 1 attempt") == 3
    assert project.batchrun("run", "job.yaml").code == 0
    page = project.batchrun("show", "--item", "1").out
    assert page.count("node flow.weigh (python): completed, 1 attempt") == 3
    lines = [line.split()[:3] for line in project.batchrun("show", "--nodes").out.splitlines()]
    assert ["flow.weigh", "python", str(3 * ITEMS)] in lines and ["flow.judge", "python", str(ITEMS - 1)] in lines


def test_the_options_of_a_workflow_hold_where_it_is_the_whole_job() -> None:
    """What its decorator says is not forgotten, in whatever process it runs."""
    changed = flows.failing.with_options(retry={"max_attempts": 4, "backoff": {"initial_seconds": 0}})
    execution = run(changed)
    assert [nodes[0]["attempts"] for nodes in column(execution, "node_executions")] == [4] * ITEMS
    with batchrun.Client() as client:
        submitted = client.submit(batchrun.Job(dataset=batchrun.Dataset(path="data.parquet"), workflow=flows.failing))
        submitted.wait(timeout_seconds=PATIENCE_SECONDS)
    assert [nodes[0]["attempts"] for nodes in column(submitted, "node_executions")] == [2] * ITEMS
    assert {nodes[0]["node_id"] for nodes in column(submitted, "node_executions")} == {"always"}
    with pytest.raises(batchrun.JobError, match="always has a fallback"):
        run(changed.with_options(fallback=flows.plain))


@pytest.mark.parametrize(
    ("called", "sentence"),
    [
        (lambda: batchrun.node(lambda *numbers: numbers), "takes arguments by their names"),
        (lambda: batchrun.node(tries=3), "there is no option 'tries'"),
        (lambda: flows.fetch.with_options(retry={"attempts": 3}), "retry: "),
        (lambda: flows.fetch.with_options(retry={"max_attempts": 0}), "retry: max_attempts: must be ≥ 1, got 0"),
        (
            lambda: flows.fetch.with_options(timeout_seconds=-1, placement="lane"),
            "timeout_seconds: must be > 0, got -1; placement: must be",
        ),
    ],
)
def test_what_cannot_be_a_node_is_said_at_once(called: Any, sentence: str) -> None:
    """A mistake in an option is found where it is written."""
    with pytest.raises(batchrun.NodeError, match=sentence):
        called()


def test_options_that_do_not_fit_are_named() -> None:
    """A mistake that shows only when the call is made ends the item at once, in the words of a job's mistakes."""

    @batchrun.workflow
    async def impatient(item: dict[str, int]) -> Any:
        return await flows.judge.with_options(placement="process")(item["size"], 1, "")

    error = column(run(impatient), "error")[0]
    assert (error["type"], error["retryable"]) == ("InvalidValue", False)
    assert error["message"].startswith("judge cannot be called: a call in another process has no context")


def test_a_call_that_is_not_awaited_is_named() -> None:
    """The usual slip in async code ends the item with a sentence that says what to write."""

    @batchrun.workflow
    async def hasty(item: dict[str, int]) -> Any:
        return await flows.weigh(flows.fetch(item["size"]), 1)  # type: ignore[arg-type]

    @batchrun.workflow
    def late(item: dict[str, int]) -> Any:
        return flows.fetch(item["size"])

    assert "'size' of weigh is a call that was not awaited: write await before it" in column(run(hasty), "error")[0]["message"]
    assert "fetch cannot be called in a workflow that is no async function" in column(run(late), "error")[0]["message"]
    assert moods.take() == []
