"""Calls for many items, as a user of a job file meets them: fewer calls, one row per item, and a crash that costs no more."""

from __future__ import annotations

import json
import time
from collections import Counter

import pytest

from batchrun.results import Recovered
from tests.e2e.conftest import Project

ITEMS = 500
STEPS = """\
import os
import time
from pathlib import Path

LOG = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(what, numbers):
    os.write(LOG, f"{os.getpid()} {what} {' '.join(map(str, numbers))}\\n".encode())


def score(size: list[int]) -> list[float]:
    note("start", size)
    while Path("hold").exists() and max(size) >= 200:
        time.sleep(0.01)
    if 77 in size:
        raise ValueError("77 cannot be scored")
    note("end", size)
    return [number / 2 for number in size]


async def name(score: float) -> str:
    return f"score {score}"
"""
JOB = """\
name: batched
dataset: {path: data.parquet, id: id}
workflow:
  nodes:
    - {id: score, type: python, call: "steps:score", inputs: {size: "{{ item.size }}"}, batch: {max_items: 20, max_wait_ms: 3600000}}
    - {id: name, type: python, call: "steps:name", inputs: {score: "{{ nodes.score.output }}"}}
run: {parallelism: 4, retry: {max_attempts: 1}}
"""


@pytest.fixture
def batched(project: Project) -> Project:
    project.write("job.yaml", JOB)
    project.write("steps.py", STEPS)
    project.table("data.parquet", {"id": [f"item {at}" for at in range(ITEMS)], "size": range(ITEMS)})
    return project


def calls(project: Project, what: str = "start") -> list[tuple[int, list[int]]]:
    """The calls as the function logged them: process, and items."""
    found = []
    for line in (project.folder / "log").read_text().splitlines():
        pid, said, *numbers = line.split()
        if said == what:
            found.append((int(pid), list(map(int, numbers))))
    return found


def all_hang(project: Project) -> bool:
    """Whether all items that may be open are in calls that hang, and what the others gave is in the journal."""
    if not (project.folder / "log").exists():
        return False
    held = [n for _, numbers in calls(project) if max(numbers) >= 200 for n in numbers]
    given = sum(len(numbers) for _, numbers in calls(project, "end"))
    return len(held) == 40 and Recovered(project.executions[0]).count("completed") == given


def check_result(project: Project) -> None:
    """One row per item, with what its own values give."""
    for at, row in enumerate(project.result.to_pylist()):
        (first, *_) = row["node_executions"]
        assert (row["source_item_id"], first["input"]) == (f"item {at}", f'{{"size":{at}}}')
        if at == 77:
            assert (row["status"], row["error"]["message"], row["error"]["node_id"]) == ("failed", "77 cannot be scored", "score")
        else:
            assert (row["status"], row["output"], first["output"]) == ("completed", f"score {at / 2}", str(at / 2))
    assert project.counters["total_items"] == ITEMS


def test_a_batched_node_makes_few_calls_and_says_so(batched: Project) -> None:
    """The job file alone turns 500 calls into 25, without waiting for the hour that a batch may wait; one bad row fails alone."""
    ended = batched.batchrun("run", "job.yaml")
    assert ended.code == 3, ended.err
    check_result(batched)
    made = [numbers for _, numbers in calls(batched)]
    sizes = {"calls": len(made), "items": sum(map(len, made))}
    assert batched.record["batches"] == {"score": sizes}
    said = f"score: {sizes['items']} items in {sizes['calls']} calls, {sizes['items'] / sizes['calls']:.1f} at a time"
    assert said in ended.err, ended.err
    assert sum(77 in numbers for numbers in made) <= 6  # 20, 10, 5, 3 or 2, 2 or 1, 1
    assert len([numbers for numbers in made if len(numbers) == 20]) >= 20


def test_a_killed_run_repeats_at_most_the_batches_in_flight(batched: Project) -> None:
    """What other batches gave is in the journal, item by item, and is not paid again."""
    (batched.folder / "hold").touch()
    process = batched.start("run", "job.yaml")
    try:
        while process.poll() is None and not all_hang(batched):
            time.sleep(0.02)
    finally:
        process.kill()
        process.communicate()
    (batched.folder / "hold").unlink()
    resumed = batched.batchrun("resume")
    assert resumed.code == 3, resumed.err
    check_result(batched)
    ended_before = {n for pid, numbers in calls(batched, "end") if pid == process.pid for n in numbers}
    again = Counter(n for pid, numbers in calls(batched) if pid != process.pid for n in numbers)
    assert len(ended_before) >= 100
    assert ended_before & again.keys() == set()
    assert ended_before | again.keys() | {77} == set(range(ITEMS))


def test_one_item_that_is_tried_waits_for_no_others(batched: Project) -> None:
    """`batchrun try` has no others: the batch is that item."""
    tried = batched.batchrun("try", "job.yaml", "--id", "item 5", "--json")
    assert tried.code == 0, tried.err
    assert json.loads(tried.out)["output"] == "score 2.5"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("workflow.nodes.score.batch.max_items=0", "workflow.nodes[0].batch.max_items: must be ≥ 1, got 0"),
        ("workflow.nodes.score.batch.max_wait_ms=-1", "workflow.nodes[0].batch.max_wait_ms: must be ≥ 0, got -1"),
        (
            "workflow.nodes.score.batch.size=3",
            "workflow.nodes[0].batch.size: unknown key size; known keys: isolate, max_items, max_wait_ms",
        ),
    ],
)
def test_mistakes_are_told_before_the_first_item(batched: Project, setting: str, message: str) -> None:
    """As everywhere in a job file."""
    refused = batched.batchrun("run", "job.yaml", "--set", setting)
    assert (refused.code, batched.executions) == (2, [])
    assert message in refused.err
