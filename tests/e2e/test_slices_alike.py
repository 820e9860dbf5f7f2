"""The same job in this process and in worker processes: its table is the same after a run, a retry, decisions of a person and a resume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest

import batchrun
from batchrun import BatchrunError, Execution
from tests.e2e.conftest import Project

JOB = """\
name: alike
dataset: {{path: data.parquet, id: id}}
workflow:
  nodes:
{nodes}
run: {{parallelism: 4, retry: {{max_attempts: 2, backoff: {{initial_seconds: 0.001}}}}}}
output: {{path: runs}}
"""
ITEMS = 24
STEPS = """\
import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
import batchrun

def moody(n: int) -> str:
    if Path("down").exists() and n % 4 == 1:
        raise LookupError(f"{n} is down")
    return f"fine {n}"

def plain(n: int) -> dict:
    return {"text": f"plain {n}", "n": n}

def odd(n: int) -> int:
    return 10 // (n % 3)

def elements(n: int) -> list[int]:
    return list(range(n % 4))

async def waits(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n

@dataclass
class Made:
    n: int
    at: datetime
    price: Decimal
    raw: bytes
    ratio: float

def made(n: int) -> Made:
    return Made(n, datetime(2026, 1, 1 + n, tzinfo=UTC), Decimal(n) / 4, bytes([n]), float("inf") if n % 2 else -0.0)

def anything(n: int):
    return [None, b"x", {1: 2}, object(), {3}, (1, 2), 2**70][n % 7]

async def careful(n: int, context: batchrun.Context) -> int:
    await context.checkpoint({"n": n})
    if Path("down").exists() and n % 5 == 2:
        raise ConnectionError(n)
    return n

@batchrun.node
async def third(n: int) -> float:
    if Path("down").exists() and n % 7 == 3:
        raise RuntimeError(n)
    return n / 3

@batchrun.workflow
async def flow(item: int) -> list:
    found = await batchrun.gather(third(item), third(item + 1))
    return [*found, await batchrun.pause("check", output=item) if item % 6 == 0 else None]
"""
CALL = '    - {{id: {0}, type: python, call: "steps:{0}", inputs: {{n: "{{{{ item.n }}}}"}}{1}}}\n'


def _nodes(**others: str) -> str:
    """Python nodes that are given the number of the item, by the function they call, each with other fields."""
    return "".join(CALL.format(name, f", {more}" if more else "") for name, more in others.items())


APPROVAL = '    - {id: ask, type: approval, output: "{{ nodes.moody.output }}", when: "{{ item.n % 3 == 0 }}"}\n'
FLOW = '    - {id: flow, type: python, call: "steps:flow", inputs: {item: "{{ item.n }}"}}\n'
EACH = """\
    - id: each
      type: workflow
      map: "{{ nodes.elements.output }}"
      workflow:
        nodes:
          - {id: odd, type: python, call: "steps:odd", inputs: {n: "{{ input }}"}, on_failure: {default: 0}, retry: {max_attempts: 1}}
          - {id: waits, type: python, call: "steps:waits", inputs: {n: "{{ nodes.odd.output }}"}}
"""
JOBS: dict[str, tuple[str, dict[str, Any]]] = {
    "fallbacks and defaults": (_nodes(moody="on_failure: {fallback: plain}", plain="", odd="on_failure: {default: -1}"), {}),
    "failures": (_nodes(waits="", moody="needs: [waits]", plain="needs: [moody]"), {}),
    "plain functions, no journal": (_nodes(plain="", moody="needs: [plain]"), {"run.durable": False}),
    "typed outputs, flat": (_nodes(made=""), {"output.flatten": True}),
    "outputs of the wrong type": (_nodes(plain=""), {"workflow.output_schema": {"text": "int64", "n": "int64"}}),
    "outputs of all kinds": (_nodes(anything=""), {"output.keep": ["n", "kind"]}),
    "checkpoints": (_nodes(careful=""), {}),
    "a Python workflow": (FLOW, {}),
    "decisions": (_nodes(moody="") + APPROVAL, {}),
    "lists": (_nodes(elements="") + EACH, {}),
    "failures that end it": (_nodes(odd=""), {"run.failure_policy": {"max_failure_ratio": 0.1, "min_items": 100}}),
}
UNLIKE = ("started_at", "completed_at", "duration_ms", "call_key", "traceback")
"""What is different each time, also in the same process."""


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items() if name not in UNLIKE}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _told(execution: Execution) -> tuple[Any, ...]:
    """What an execution has come to: its status, and its rows with the records of their nodes, in order."""
    totals = [(node.node_id, node.calls, node.completed, node.failed, node.skipped) for node in execution.totals.nodes]
    return execution.status, execution.error, totals, execution.results.schema, *_plain(execution.results.to_pylist())


def _life(project: Project, overrides: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """What becomes of a job while it is run, mended, run again, decided about and resumed."""
    down = project.write("down", "")
    execution = batchrun.execute(project.folder / "job.yaml", overrides, quiet=True)
    yield _told(execution)
    down.unlink()
    try:
        retried = batchrun.retry(execution.folder, quiet=True)
    except BatchrunError as error:
        yield (str(error).replace(execution.id, "…"),)
        return
    yield _told(retried or execution)
    waiting = execution.waiting_items()
    yield (sorted((item.id, item.node_id, str(item.shown)) for item in waiting),)
    if waiting:
        execution.reject([min(item.id for item in waiting)])
        execution.approve(output="yes")
        resumed = batchrun.resume(execution.folder, quiet=True)
        assert resumed is not None
        yield _told(resumed)


@pytest.mark.parametrize("job", JOBS)
def test_a_job_fares_alike_in_worker_processes(project: Project, job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where items run changes nothing about what becomes of them, now or later."""
    nodes, overrides = JOBS[job]
    monkeypatch.chdir(project.folder)
    project.write("steps.py", STEPS)
    project.write("job.yaml", JOB.format(nodes=nodes))
    rows = {"id": [f"{n:02}" for n in range(ITEMS)], "n": list(range(ITEMS)), "kind": [["a", "b"][n % 2] for n in range(ITEMS)]}
    pl.DataFrame(rows).write_parquet(project.folder / "data.parquet", row_group_size=10)
    here = list(_life(project, overrides))
    there = list(_life(project, {**overrides, "run.backend": "processes", "run.processes": 2}))
    assert len(here) == len(there)
    for one, other in zip(here, there, strict=True):
        for part, its_like in zip(one, other, strict=True):
            assert part == its_like
