"""Slices of the items in worker processes: the same table as in one process, and every error of a job said before the first item."""

from __future__ import annotations

from typing import Any

import pytest

import batchrun
from batchrun import ItemEnded, JobError, NodeEnded
from batchrun.nodes.python import PythonNode
from tests.e2e.conftest import JOB, Project

FEATURES = """\
name: features
dataset: {path: data.parquet, id: id, filter: "size <> 13", with_columns: {double: "size * 2"}}
vars: {suffix: "!"}
secrets: [API_KEY]
workflow:
  nodes:
    - {id: clean, type: python, call: "steps:clean", inputs: {text: "{{ item.text }}"}}
    - {id: flaky, type: python, call: "steps:flaky", inputs: {id: "{{ item.id }}"}, retry: {backoff: {initial_seconds: 0.001}}}
    - {id: bad, type: python, call: "steps:bad", inputs: {size: "{{ item.size }}"}, on_failure: continue}
    - {id: worse, type: python, call: "steps:worse", inputs: {size: "{{ item.size }}"}, on_failure: {default: -1}}
    - {id: pick, type: switch, on: "{{ item.kind }}", cases: {slow: later, both: nested}, default: note}
    - {id: later, type: python, call: "steps:later", inputs: {size: "{{ item.double }}"}, timeout_seconds: 0.05}
    - id: nested
      type: workflow
      inputs: {text: "{{ nodes.clean.output }}"}
      workflow:
        nodes:
          - {id: length, type: python, call: "steps:length", inputs: {text: "{{ item.text }}"}}
    - {id: note, type: template, template: "{{ nodes.clean.output }}{{ vars.suffix }}"}
    - {id: many, type: python, call: "steps:many", inputs: {size: "{{ item.size }}"}, batch: {max_items: 8, max_wait_ms: 5}}
    - {id: flow, type: python, call: "steps:flow", inputs: {item: "{{ item.size }}"}, when: "{{ item.size > 3 }}"}
    - {id: keyed, type: python, call: "steps:keyed", inputs: {size: "{{ item.size }}", key: "{{ secrets.API_KEY }}"}, max_output_bytes: 60}
  output:
    text: "{{ nodes.clean.output }}"
    flaky: "{{ nodes.flaky.output }}"
    many: "{{ nodes.many.output }}"
    flow: "{{ nodes.flow.output }}"
    keyed: "{{ nodes.keyed.output }}"
run: {parallelism: 6, retry: {max_attempts: 2, backoff: {initial_seconds: 0.001}}, backend: local}
output: {path: runs, keep: [size, kind]}
"""
STEPS = """\
import asyncio
from pathlib import Path
import batchrun

def clean(text: str) -> str:
    return text.strip().upper()

def flaky(id: str) -> str:
    mark = Path(f"tried-{id}")
    if int(id) % 5 == 0 and not mark.exists():
        mark.touch()
        raise ConnectionError("not the first time")
    return id

def bad(size: int) -> int:
    return 12 // (size % 4)

def worse(size: int) -> int:
    if size % 9 == 0:
        raise LookupError(size)
    return size

async def later(size: int) -> int:
    if size % 3 == 0:
        await asyncio.Event().wait()
    return size  # without having waited: no machine is too slow for the others

def length(text: str) -> int:
    return len(text)

def many(size: list[int]) -> list[int]:
    return [each + 1 for each in size]

@batchrun.node
def half(size: int) -> float:
    return size / 2

@batchrun.workflow
def flow(item: int) -> float:
    return half(item) + half(item)

def keyed(size: int, key: str) -> str:
    return f"{key} {size}" * (20 if size % 11 == 0 else 1)
"""
TIMES = ("started_at", "completed_at", "duration_ms")
CANARY = "cnry-7f2a-0b9e"


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_times(each) for name, each in value.items() if name not in (*TIMES, "call_key", "traceback")}
    return [_without_times(each) for each in value] if isinstance(value, list) else value


def _rows(execution: batchrun.Execution) -> list[Any]:
    rows = _without_times(execution.results.to_pylist())
    return [
        {**row, "node_executions": sorted(row["node_executions"], key=lambda node: (node["node_id"], node["occurrence"]))} for row in rows
    ]


@pytest.fixture
def features(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("API_KEY", CANARY)
    count = 120
    kinds = ["slow", "both", "none", "other"]
    columns = {
        "id": [str(number) for number in range(count)],
        "text": [f" text {number}" for number in range(count)],
        "size": list(range(count)),
        "kind": [kinds[number % 4] for number in range(count)],
    }
    project.table("data.parquet", columns, row_group_size=50)
    project.write("steps.py", STEPS)
    project.write("job.yaml", FEATURES)
    return project


@pytest.mark.parametrize("recording", ["full", "summary", "none"])
def test_the_table_is_that_of_one_process(features: Project, recording: str) -> None:
    """Where items run changes nothing about what becomes of them."""
    tables = []
    for backend in ("local", "processes"):
        for mark in features.folder.glob("tried-*"):
            mark.unlink()
        overrides = {"run.backend": backend, "output.node_executions": recording}
        execution = batchrun.execute(features.folder / "job.yaml", overrides, quiet=True)
        assert execution.status == "completed"
        nodes = [(each.node_id, each.calls, each.completed, each.failed, each.skipped) for each in execution.totals.nodes]
        tables.append((_rows(execution), execution.results.schema, nodes))
    (rows, schema, nodes), (rows_of_workers, schema_of_workers, nodes_of_workers) = tables
    for row, other in zip(rows, rows_of_workers, strict=True):
        assert row == other
    assert schema == schema_of_workers
    assert nodes == nodes_of_workers
    assert not [path for path in (features.folder / "runs").rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]


def test_what_workers_cannot_share_is_refused(project: Project) -> None:
    """Limits, budgets and calls that items share would hold for each process by itself."""
    project.write(
        "job.yaml",
        """\
dataset: {path: data.csv, id: id}
resources: {api: {base_url: "http://127.0.0.1:1"}}
workflow:
  nodes:
    - {id: one, type: python, call: "steps:tidy", inputs: {text: "{{ item.text }}"}, dedupe: true}
    - id: two
      type: workflow
      inputs: {text: "{{ nodes.one.output }}"}
      workflow: {nodes: [{id: three, type: python, call: "steps:tidy", in: process, inputs: {text: "{{ item.text }}"}}]}
run: {backend: processes, budget: {max_calls: 5}}
""",
    )
    refused = project.batchrun("validate", "job.yaml")
    assert refused.code == 2
    for place in ("resources.api", "run.budget", "workflow.nodes[0].dedupe", "workflow.nodes[1].workflow.nodes[0].in"):
        (line,) = [line for line in refused.err.splitlines() if place in line]
        assert "take run.backend: processes out" in line and line.lstrip().startswith("job.yaml:"), line


def test_functions_that_only_this_process_has_are_refused(project: Project) -> None:
    """A worker process imports functions by their names, and a lambda has none."""
    node = PythonNode(id="local", call=lambda text: text, inputs={"text": "{{ item.text }}"})
    job = batchrun.Job(
        dataset=str(project.folder / "data.csv"), workflow=batchrun.Workflow(nodes=(node,)), run=batchrun.Run(backend="processes")
    )
    with pytest.raises(JobError, match="is a lambda; worker processes import functions by name: move it to a module"):
        batchrun.execute(job, quiet=True)


def test_events_are_told_of_items_that_ran_elsewhere(project: Project) -> None:
    """Whoever listens hears of each item and node once, wherever they ran."""
    heard: list[tuple[str, int]] = []
    events = {ItemEnded: "item", NodeEnded: "node"}

    def listen(event: Any) -> None:
        if type(event) in events:
            heard.append((events[type(event)], event.item_index))

    execution = batchrun.execute(project.folder / "job.yaml", {"run.backend": "processes"}, quiet=True, on_event=listen)
    assert execution.has_succeeded
    assert sorted(heard) == [(kind, index) for kind in ("item", "node") for index in range(3)]


def test_items_wait_for_a_person_and_go_on(project: Project) -> None:
    """What a person is asked for is asked by a worker as well, and the decision reaches the one that goes on."""
    job = JOB.replace("run: {", "run: {backend: processes, ").replace(
        "  nodes:\n", '  nodes:\n    - {id: agree, type: approval, output: "{{ nodes.tidy.output }}"}\n'
    )
    project.write("job.yaml", job)
    assert project.batchrun("run", "job.yaml").code == 4
    folder = str(project.executions[0])
    assert project.counters["waiting_items"] == 3
    assert project.batchrun("approve", folder, "--all").code == 0
    assert project.batchrun("resume", folder).code == 0
    assert project.result["output"].to_pylist() == ['"ONE"', '"TWO, AND A HALF"', '"THREE"']


def test_a_cached_output_is_of_use_to_all_workers(project: Project) -> None:
    """What one worker has computed, no other execution computes again, wherever it runs."""
    project.write("job.yaml", JOB.replace("type: python", "type: python\n      cache: true"))
    for backend, hits in (("processes", 0), ("local", 3), ("processes", 3)):
        execution = batchrun.execute(project.folder / "job.yaml", {"run.backend": backend}, quiet=True)
        assert sum(node.cached for node in execution.totals.nodes) == hits


def test_no_more_items_are_at_work_than_in_one_process(project: Project) -> None:
    """What is shared out among workers adds up to the parallelism of the job, also where it cannot be divided."""
    steps = """\
import asyncio, os
LOG = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
async def tidy(text: str) -> str:
    os.write(LOG, b"+")
    for _ in range(2_000):  # until both workers are at work
        if open("log").read().count("+") >= 3:
            break
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)
    os.write(LOG, b"-")
    return text
"""
    project.write("steps.py", steps)
    project.write("data.csv", "id,text,size\n" + "".join(f"{number},text,1\n" for number in range(60)))
    run = project.batchrun("run", "job.yaml", *(f"--set=run.{each}" for each in ("backend=processes", "processes=2", "parallelism=3")))
    assert run.code == 0, run.err
    at_work = [0]
    for sign in (project.folder / "log").read_text():
        at_work.append(at_work[-1] + (1 if sign == "+" else -1))
    assert max(at_work) == 3 and len(at_work) == 121


def test_worker_processes_of_another_backend_are_refused(project: Project) -> None:
    """Nobody waits for a speed-up that cannot come."""
    refused = project.batchrun("validate", "job.yaml", "--set", "run.processes=4")
    assert refused.code == 2
    assert (
        "run.processes: there are no worker processes with backend local: give run.backend: processes, or take processes out" in refused.err
    )


def test_a_worker_loads_only_what_the_job_needs(project: Project) -> None:
    """Each worker loads it anew, before its first item: functions that call no service need nothing that calls services."""
    project.write("steps.py", "import sys\ndef tidy(text: str) -> list[str]:\n    return sorted(sys.modules)\n")
    execution = batchrun.execute(project.folder / "job.yaml", {"run.backend": "processes"}, quiet=True)
    loaded = {name for names in execution.results["output"].to_pylist() for name in names}
    others = {f"batchrun.nodes.{name}" for name in ("chat", "file", "flux", "http", "nadoo", "remote", "switch", "template", "workflow")}
    unneeded = {"aiohttp", "click", "cryptography", "duckdb", "httpx", "obstore", "opentelemetry", "pydantic", "tqdm", "yaml", *others}
    assert "batchrun.execution.slices.worker" in loaded
    assert loaded & {*unneeded, "batchrun.config", "batchrun.cli", "batchrun.client", "batchrun.results.writer"} == set()
