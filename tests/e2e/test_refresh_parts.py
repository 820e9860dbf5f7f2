"""Refreshes of workflows whose nodes have parts, fail, wait and are skipped."""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.e2e.conftest import Project

STEPS = """\
import batchrun


def note(text):
    with open("log", "a") as log:
        log.write(text + "\\n")


@batchrun.node
def inner(text: str) -> str:
    note(f"inner {text}")
    return text + "!"


@batchrun.workflow
async def flow(text: str) -> str:
    return await inner(text) + await inner(text + "?")


def length(text: str) -> int:
    note(f"length {text}")
    return len(text)


def shaky(text: str) -> str:
    note(f"shaky {text}")
    if text == "b":
        raise ValueError("no")
    return text


def last(size: int, text: str | None) -> str:
    note(f"last {size} {text}")
    return f"{size} {text}"
"""
JOB = """\
name: parts
dataset: {path: data.csv, id: id}
workflow:
  nodes:
    - {id: flow, type: python, call: "steps:flow", inputs: {text: "{{ item.id }}"}}
    - {id: length, type: python, call: "steps:length", inputs: {text: "{{ nodes.flow.output }}"}, when: "{{ item.size > 1 }}"}
    - {id: shaky, type: python, call: "steps:shaky", inputs: {text: "{{ item.id }}"}, on_failure: continue}
    - {id: last, type: python, call: "steps:last", inputs: {size: "{{ item.size }}", text: "{{ nodes.shaky.output }}"}, needs: [length]}
  output: {last: "{{ nodes.last.output }}", length: "{{ nodes.length.output }}"}
run: {parallelism: 2, retry: {max_attempts: 1}}
output: {path: runs}
"""


@pytest.fixture
def work(project: Project) -> Project:
    """Two items: `a` skips the node `length`, and for `b` the node `shaky` fails and the item goes on."""
    for name, content in (("steps.py", STEPS), ("job.yaml", JOB), ("data.csv", "id,size\na,1\nb,2\n")):
        project.write(name, content)
    assert project.batchrun("refresh", "job.yaml", "-q").code == 0
    calls(project)
    return project


def calls(work: Project) -> list[str]:
    log = work.folder / "log"
    lines = sorted(log.read_text().splitlines()) if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


def nodes(work: Project, at: int) -> list[list[dict[str, Any]]]:
    found: list[list[dict[str, Any]]] = pq.read_table(work.executions[at] / "results.parquet")["node_executions"].to_pylist()
    return found


def test_nodes_with_parts_skipped_nodes_and_failures(work: Project) -> None:
    """What ended well before the edited node is taken over with its parts and as it was; what failed is tried again."""
    work.write("steps.py", STEPS.replace('return f"{size} ', 'return f"{size}: '))
    ended = work.batchrun("refresh", "job.yaml")
    assert ended.code == 0 and "node last edited → 2 items from last on" in ended.err, ended.err
    assert calls(work) == ["last 1 a", "last 2 None", "shaky b"]
    before, now = nodes(work, 0), nodes(work, 1)
    for earlier, later in zip(before, now, strict=True):
        kept = [node for node in earlier if node["node_id"] not in ("last", "shaky")]
        assert [node for node in later if node["node_id"] not in ("last", "shaky")] == kept
        assert [node["node_id"] for node in kept].count("flow.inner") == 2
    outputs = pq.read_table(work.executions[1] / "results.parquet")["output"].to_pylist()
    assert outputs == ['{"last":"1: a","length":null}', '{"last":"2: None","length":5}']


def test_an_edited_python_workflow_runs_in_full(work: Project) -> None:
    """It is one node: what its calls gave is not told apart from what it would be given now."""
    work.write("steps.py", STEPS.replace('+ "!"', '+ "."'))
    ended = work.batchrun("refresh", "job.yaml")
    assert ended.code == 0 and "node flow edited → 2 items from flow on" in ended.err, ended.err
    assert [call for call in calls(work) if call.startswith("inner")] == ["inner a", "inner a?", "inner b", "inner b?"]


def test_failures_of_a_refresh_are_run_again_by_retry(work: Project) -> None:
    """What a refresh makes is an execution like any other."""
    work.write("job.yaml", JOB.replace("on_failure: continue", "on_failure: stop"))
    ended = work.batchrun("refresh", "job.yaml")
    assert ended.code == 3 and "node shaky edited" in ended.err, ended.err
    calls(work)
    work.write("steps.py", STEPS.replace('text == "b"', 'text == "never"'))
    retried = work.batchrun("retry", "latest", "--accept-changes")
    assert retried.code == 0, retried.err
    assert calls(work) == ["last 2 b", "shaky b"]
    table = pq.read_table(work.executions[1] / "results.parquet")
    assert table["status"].to_pylist() == ["completed", "completed"] and table["attempts"].to_pylist() == [1, 2]
