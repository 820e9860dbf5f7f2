"""Items that took another way are run again."""

from __future__ import annotations

import json

import polars as pl
import pytest

from batchrun.config import load_job
from batchrun.workflows.drawing import draw
from tests.e2e.conftest import Project

STEPS = """\
from pathlib import Path


def note(text):
    with open("log", "a") as log:
        log.write(text + "\\n")


def large(n: int) -> str:
    note(f"large {n}")
    if Path("down").exists() and n < 2:
        raise LookupError("no answer")
    return f"large {n}"


def small(n: int) -> str:
    note(f"small {n}")
    return f"small {n}"


def send(text: str) -> str:
    note(f"send {text}")
    if Path("down").exists() and not text.endswith("3"):
        raise LookupError("not sent")
    return f"sent {text}"
"""
JOB = """\
dataset: {path: data.csv}
workflow:
  nodes:
    - {id: large, type: python, call: "steps:large", inputs: {n: "{{ item.n }}"}, on_failure: {fallback: small}}
    - {id: small, type: python, call: "steps:small", inputs: {n: "{{ item.n }}"}}
    - {id: pick, type: switch, on: "{{ item.n % 2 }}", cases: {"0": even, "1": odd}}
    - {id: even, type: template, template: "even {{ nodes.large.output }}"}
    - {id: odd, type: template, template: "odd {{ nodes.large.output }}"}
    - {id: send, type: python, call: "steps:send", inputs: {text: "{{ nodes.even.output }}{{ nodes.odd.output }}"}}
run: {retry: {max_attempts: 1}}
output: {path: runs}
"""


@pytest.fixture
def work(project: Project) -> Project:
    """Four items, three of which fail while the file `down` is there, two of them after a fallback."""
    for name, content in (("steps.py", STEPS), ("job.yaml", JOB), ("data.csv", "n\n0\n1\n2\n3\n"), ("down", "")):
        project.write(name, content)
    assert project.batchrun("run", "job.yaml", "--quiet").code == 3
    return project


def rows(work: Project) -> pl.DataFrame:
    (path,) = work.folder.glob("runs/*/results.parquet")
    return pl.read_parquet(path)


def log(work: Project) -> list[str]:
    return sorted((work.folder / "log").read_text().splitlines())


def ways(work: Project, row: int) -> dict[str, str]:
    return {node["node_id"]: node["status"] for node in rows(work)["node_executions"][row]}


def test_a_retry_begins_with_the_node_that_failed(work: Project) -> None:
    """A node whose fallback helped out is asked again, and what completed is not; outputs that nobody replaced stay."""
    assert rows(work)["status"].to_list() == ["failed", "failed", "failed", "completed"]
    assert ways(work, 1) == {
        **dict.fromkeys(("large", "send"), "failed"),
        **dict.fromkeys(("small", "pick", "odd"), "completed"),
        "even": "skipped",
    }
    (work.folder / "down").unlink()
    (work.folder / "log").unlink()
    (folder,) = work.folder.glob("runs/*")
    assert work.batchrun("retry", str(folder), "--quiet").code == 0
    assert log(work) == ["large 0", "large 1", "send even large 0", "send even large 2", "send odd large 1"]
    texts = [f"{'odd' if n % 2 else 'even'} large {n}" for n in range(4)]
    assert rows(work)["output"].to_list() == [f"sent {text}" for text in texts]
    assert ways(work, 1) == {**dict.fromkeys(("large", "pick", "odd", "send"), "completed"), "small": "skipped", "even": "skipped"}


def test_a_drawing_needs_no_dataset_once_the_job_is_known(work: Project) -> None:
    """The stored job of an execution is enough to draw it."""
    (folder,) = work.folder.glob("runs/*")
    job = json.loads((folder / "execution.json").read_text())["job"]
    (work.folder / "data.csv").unlink()
    (work.folder / "steps.py").unlink()
    drawn = draw(load_job(job).workflow, "mermaid")
    assert 'n_large -. "on failure" .-> n_small' in drawn
