"""Python workflows and sub-workflows whose process is killed: what had finished is not done again."""

from __future__ import annotations

import json
from collections import defaultdict

from tests.e2e.conftest import Project
from tests.e2e.killing import Chaos, chaos

ITEMS = 200
STEPS = """\
import asyncio

import batchrun
from notes import note

ONCE = {"max_attempts": 1}


def mark_down(size, mark):
    with open("marks", "a") as marks:
        marks.write(f"{size} {mark}\\n")


@batchrun.node(retry=ONCE)
async def fetch(size: int, mark: str) -> int:
    note("fetch", size, "start")
    await asyncio.sleep(0.002 + size % 7 * 0.004)
    mark_down(size, mark)
    note("fetch", size, "end")
    return size


@batchrun.node(retry=ONCE)
async def weigh(size: int, part: int) -> int:
    note(f"weigh{part}", size, "start")
    await asyncio.sleep(0.002 + part * 0.1)
    note(f"weigh{part}", size, "end")
    return size * part


@batchrun.node(retry=ONCE)
async def judge(size: int, total: int, mark: str) -> str:
    note("judge", size, "start")
    await asyncio.sleep(0.4 if size % 3 else 0)
    mark_down(size, mark)
    note("judge", size, "end")
    return f"{size} weighs {total}"


@batchrun.workflow(retry=ONCE)
async def flow(item: dict) -> dict:
    mark, size = str(batchrun.uuid()), item["size"]
    found = await fetch(size, mark)
    weights = await batchrun.gather(*(weigh(found, part) for part in range(3)))
    return {"said": await judge(size, sum(weights), mark), "mark": mark}


async def fetched(size: int) -> int:
    return await fetch.function(size, "-")


async def judged(size: int, total: int) -> str:
    return await judge.function(size, total, "-")
"""
FLOW_JOB = """\
name: chaos
dataset: {path: data.parquet, id: id}
workflow: {nodes: [{id: flow, type: python, call: "steps:flow", retry: {max_attempts: 1}}]}
run: {parallelism: 24, retry: {max_attempts: 1}}
output: {path: runs, keep: [size]}
"""
MAPPED_JOB = """\
name: chaos
dataset: {path: data.parquet, id: id}
workflow:
  nodes:
    - {id: fetch, type: python, call: "steps:fetched", inputs: {size: "{{ item.size }}"}}
    - id: parts
      type: workflow
      inputs: {size: "{{ nodes.fetch.output }}"}
      map: "{{ [0, 1, 2] }}"
      parallelism: 2
      workflow:
        nodes:
          - {id: weigh, type: python, call: "steps:weigh", inputs: {size: "{{ item.size }}", part: "{{ input }}"}}
    - {id: judge, type: python, call: "steps:judged", inputs: {size: "{{ item.size }}", total: "{{ nodes.parts.output | sum }}"}}
run: {parallelism: 24, retry: {max_attempts: 1}}
output: {path: runs, keep: [size]}
"""
CALLS = ["fetch", "judge", "weigh0", "weigh1", "weigh2"]


def killed_twice(project: Project, job: str) -> Chaos:
    """An execution that was killed in the middle, twice, and resumed to its end."""
    work = chaos(project, ITEMS, job)
    project.write("steps.py", STEPS)
    for arguments in (("run", "job.yaml"), ("resume", "latest")):
        process = project.start(*arguments)
        assert work.kill(process, lambda process=process: work.calls_of(process) > ITEMS, 0.5)
    ended = work.resume()
    assert ended.code == 0, ended.err
    return work


def check(work: Chaos) -> None:
    """Each call was made, few were made twice, and some items went on in another process than they began in."""
    pids = defaultdict(set)
    for call in work.calls():
        pids[call.item].add(call.pid)
    assert sorted({call.node for call in work.calls()}) == CALLS
    assert {call.item for call in work.calls()} == set(range(ITEMS))
    repeated = work.repeated()
    assert repeated.total() <= 2 * 24 * 3, repeated
    assert sum(len(each) > 1 for each in pids.values()) > repeated.total() / 3
    rows = work.project.result.to_pylist()
    assert [(row["size"], row["status"]) for row in rows] == [(size, "completed") for size in range(ITEMS)]


def test_a_killed_python_workflow_goes_on_at_the_call_it_had_come_to(project: Project) -> None:
    """Finished calls are not made again but for those of the last moment, and what was drawn by lot stays what it was."""
    work = killed_twice(project, FLOW_JOB)
    check(work)
    marks = defaultdict(list)
    for line in (project.folder / "marks").read_text().splitlines():
        size, mark = line.split()
        marks[int(size)].append(mark)
    rows = project.result.to_pylist()
    calls = [(call.node, call.item) for call in work.calls()]
    for row in rows:
        output = json.loads(row["output"])
        assert output["said"] == f"{row['size']} weighs {3 * row['size']}"
        assert marks[row["size"]][-1] == output["mark"]
        if calls.count(("fetch", row["size"])) == 1:
            assert set(marks[row["size"]]) == {output["mark"]}
        nodes = sorted((node["node_id"], node["occurrence"]) for node in row["node_executions"])
        assert nodes == [("flow", 0), ("flow.fetch", 0), ("flow.judge", 0), *(("flow.weigh", number) for number in range(3))]


def test_a_killed_map_goes_on_with_the_elements_that_are_left(project: Project) -> None:
    """Elements that were done are not done again, their outputs stay in order, and their node executions in the table."""
    work = killed_twice(project, MAPPED_JOB)
    check(work)
    for row in project.result.to_pylist():
        assert row["output"] == f"{row['size']} weighs {3 * row['size']}"
        nodes = sorted((node["node_id"], node["occurrence"]) for node in row["node_executions"])
        assert nodes == [("fetch", 0), ("judge", 0), ("parts", 0), *(("parts.weigh", number) for number in range(3))]
