"""The Python API as notebooks and scripts use it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypedDict

import anyio
import polars as pl
import pyarrow as pa
import pytest

import batchrun
from batchrun import Dataset, FailurePolicy, Job, Output, Retry, Run
from tests.e2e.conftest import Project


class Length(TypedDict):
    """What a text was found to be."""

    characters: int
    text: str


def length(item: dict[str, str]) -> Length:
    if item["text"] == "bad":
        raise ValueError("nothing can be made of this")
    return {"characters": len(item["text"]), "text": item["text"]}


async def length_later(item: dict[str, str]) -> Length:
    await anyio.lowlevel.checkpoint()
    return length(item)


@pytest.fixture
def home(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a user."""
    monkeypatch.chdir(project.folder)
    return project.folder


def test_execute_runs_a_job_file_with_overrides(project: Project, home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A path is enough; progress goes to stderr; what it gave and how it went is on the execution."""
    project.write("functions.py", "def tidy(text):\n    return text.upper()\n")
    overrides = {"workflow.nodes.tidy.call": "functions:tidy", "dataset.limit": 2, "run.parallelism": 8}
    handler = signal.getsignal(signal.SIGINT)
    execution = batchrun.execute("job.yaml", overrides=overrides)
    assert signal.getsignal(signal.SIGINT) is handler
    assert (execution.status, execution.error, execution.stop_reason) == ("completed", None, None)
    assert (execution.has_succeeded, execution.is_paused, execution.has_stuck_threads) == (True, False, False)
    assert (execution.progress.total_items, execution.progress.processed_items, execution.progress.failed_items) == (2, 2, 0)
    assert execution.progress.open_items == 0
    assert execution.duration_seconds > 0
    assert execution.folder == home / "runs" / execution.id
    assert json.loads(json.dumps(execution.record)) == project.record
    assert execution.results["source_item_id"].to_pylist() == ["a", "b"]
    assert execution.results.schema.metadata[b"completed_items"] == b"2"
    assert execution.results_frame().select("size").collect()["size"].to_list() == [1, 2]
    assert execution.failures.num_rows == 0
    assert repr(execution) == f"<Execution {execution.id} completed: 2 of 2 items, 0 failed>"
    out, err = capfd.readouterr()
    assert out == ""
    assert "small: 2 of 2 items" in err


def test_a_job_object_says_all_a_file_can(home: Path) -> None:
    """A job can be made in Python: dataset options, policies and output, with a function that is at hand."""
    job = Job(
        name="lengths",
        dataset=Dataset(path="data.csv", id="id", filter="size >= 2"),
        workflow=length,
        run=Run(parallelism=2, retry=Retry(max_attempts=1), failure_policy=FailurePolicy(max_failures=5)),
        output=Output(path="elsewhere", keep=("size",), export=("ndjson",), node_executions="none"),
    )
    execution = batchrun.execute(job, quiet=True)
    assert execution.results.select(["source_item_id", "output", "size"]).to_pylist() == [
        {"source_item_id": "b", "output": {"characters": 15, "text": "two, and a half"}, "size": 2},
        {"source_item_id": "c", "output": {"characters": 5, "text": "three"}, "size": 3},
    ]
    assert execution.folder.parent == home / "elsewhere"
    assert (execution.folder / "results.ndjson").exists()


def test_failures_say_why_and_keep_their_source_rows(project: Project, home: Path) -> None:
    """A failed item is a row with a reason, and its source row is one call away."""
    project.write("data.csv", "id,text\na,one\nb,bad\n")
    execution = batchrun.map(length, "data.csv", run=Run(parallelism=3, retry=Retry(max_attempts=1)), quiet=True)
    assert (execution.status, execution.has_succeeded) == ("completed", False)
    (failure,) = execution.failures.to_pylist()
    assert (failure["item_index"], failure["error"]["type"], failure["error"]["retryable"]) == (1, "ValueError", True)
    assert "length" in failure["error"]["traceback"]
    assert execution.totals is not None
    assert [(group.error_type, group.count, group.source_item_id) for group in execution.totals.failures] == [("ValueError", 1, "1")]
    assert pl.read_parquet(execution.folder / "failures.parquet")["text"].to_list() == ["bad"]


@pytest.mark.parametrize("function", [length, length_later], ids=["sync", "async"])
@pytest.mark.parametrize("kind", ["polars", "lazy", "pyarrow", "path"])
def test_map_takes_whatever_holds_rows(home: Path, function: object, kind: str) -> None:
    """Frames, tables and files go in; one typed row per row comes out."""
    frame = pl.DataFrame({"text": ["one", "three"]})
    frame.write_parquet("texts.parquet")
    dataset = {"polars": frame, "lazy": frame.lazy(), "pyarrow": frame.to_arrow(), "path": Path("texts.parquet")}[kind]
    execution = batchrun.map(function, dataset, parallelism=2, quiet=True)
    assert execution.has_succeeded
    assert execution.results["output"].to_pylist() == [{"characters": 3, "text": "one"}, {"characters": 5, "text": "three"}]
    assert execution.results.schema.field("output").type.field("characters").type == pa.int64()


async def test_a_notebook_can_call_it_from_its_running_loop(home: Path) -> None:
    """In a notebook an event loop is running already: the call blocks like any other and works."""
    execution = batchrun.map(length_later, pl.DataFrame({"text": ["one"]}), quiet=True)
    assert execution.has_succeeded


def test_two_executions_at_the_same_time(home: Path) -> None:
    """Executions in threads of one process do not get into each other's way."""
    both = threading.Barrier(2)

    def meet(item: dict[str, int]) -> int:
        both.wait(60)
        return item["n"]

    def run(first: int) -> list[int]:
        frame = pl.DataFrame({"n": range(first, first + 5)})
        execution = batchrun.map(meet, frame, parallelism=1, quiet=True)
        assert execution.has_succeeded, execution.error
        return execution.results["output"].to_pylist()

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(run, [0, 100])) == [[0, 1, 2, 3, 4], [100, 101, 102, 103, 104]]


def test_a_refused_job_raises_with_every_problem(project: Project, home: Path) -> None:
    """A program can tell what is wrong without reading messages."""
    with pytest.raises(batchrun.JobError) as caught:
        batchrun.execute("job.yaml", ["dataset.id=idd", "output.keep=[sise]", "run.parallelism=8"], quiet=True)
    found = {problem.path: (problem.location, problem.message) for problem in caught.value.problems}
    assert found == {
        ("dataset", "id"): ("--set dataset.id=idd", 'unknown column "idd"; did you mean "id"?'),
        ("output", "keep", 0): ("--set output.keep=[sise]", 'unknown column "sise"; did you mean "size"?'),
    }
    assert project.executions == []


@pytest.mark.parametrize("dataset", [{"text": ["a"]}, object(), 3], ids=["dict", "object", "number"])
def test_what_holds_no_rows_is_refused(project: Project, home: Path, dataset: object) -> None:
    """A wrong argument is named, and leaves nothing behind."""
    with pytest.raises(batchrun.JobError, match="dataset"):
        batchrun.map(length, dataset, quiet=True)
    assert project.executions == []


def test_a_frame_whose_rows_are_refused_leaves_nothing_behind(project: Project, home: Path) -> None:
    """The copy of a frame is removed together with the execution that never began."""
    with pytest.raises(batchrun.JobError, match="the function needs one, two"):
        batchrun.map(lambda one, two: one, pl.DataFrame({"text": ["a"]}), quiet=True)
    assert project.executions == []


def test_a_script_with_a_hung_call_ends(project: Project) -> None:
    """A thread that hangs for ever must not keep the interpreter of a script alive."""
    project.write(
        "script.py",
        "import threading, batchrun\n"
        "from batchrun import Run\n"
        "ended = batchrun.map(lambda item: threading.Event().wait(), 'data.csv', run=Run(item_timeout_seconds=0.5), quiet=True)\n"
        "print(ended.progress.failed_items, ended.has_stuck_threads)\n",
    )
    ended = subprocess.run([sys.executable, "script.py"], cwd=project.folder, capture_output=True, text=True, check=False, timeout=250)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "3 True\n", "")
