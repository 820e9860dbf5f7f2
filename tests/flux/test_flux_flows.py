"""Flux workflows whose items wait for a person or lose their process."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conftest import PATIENCE_SECONDS, Project
from tests.e2e.held import until

pytest.importorskip("flux", reason="make test runs these in an environment with Python 3.12 or newer")

FLOWS = """\
import asyncio
from pathlib import Path

from flux import ExecutionContext, task, workflow
from flux.tasks import pause


def note(text):
    with open("log", "a") as log:
        log.write(text + "\\n")


@task
async def draft(name):
    note("draft")
    return f"Dear {name}"


@task
async def send(text):
    note("send")
    while Path("held").exists():
        await asyncio.sleep(0.01)
    return f"sent: {text}"


@workflow
async def asking(ctx: ExecutionContext[dict]):
    text = await draft(ctx.input["text"])
    text = await pause("review", output=text)
    return await send(await pause("look again", output=text))


@workflow
async def straight(ctx: ExecutionContext[dict]):
    return await send(await draft(ctx.input["text"]))
"""
JOB = """\
name: letters
dataset: {path: data.csv, id: id, limit: LIMIT}
workflow:
  nodes:
    - {id: letter, type: flux, workflow: "flows:FLOW", inputs: {text: "{{ item.text }}"}, in: PLACE}
output: {path: runs}
"""


@pytest.fixture
def work(project: Project) -> Project:
    project.write("flows.py", FLOWS)
    return project


def log(work: Project) -> list[str]:
    path = work.folder / "log"
    return path.read_text().splitlines() if path.exists() else []


def test_a_person_decides_how_a_workflow_goes_on(work: Project) -> None:
    """What is approved is what `pause` gives, one question after the other; a rejection fails the item."""
    work.write("job.yaml", JOB.replace("FLOW", "asking").replace("LIMIT", "2").replace("PLACE", "thread"))
    assert work.batchrun("run", "job.yaml").code == 4
    assert work.batchrun("approve", "--item", "a", "--set", "output=Dear Ada").code == 0
    assert work.batchrun("reject", "--item", "b", "--reason", "no").code == 0
    assert work.batchrun("resume").code == 4
    assert '"Dear Ada"' in work.batchrun("show", "--waiting", "--json").out
    assert work.batchrun("approve", "--all").code == 0
    assert work.batchrun("resume").code == 3
    assert sorted(log(work)) == ["draft", "draft", "send"]
    rows = work.result.to_pylist()
    assert json.loads(rows[0]["output"]) == "sent: Dear Ada"
    assert (rows[1]["status"], rows[1]["error"]["type"], rows[1]["error"]["message"]) == ("failed", "Rejected", "rejected: no")


def test_a_killed_workflow_goes_on_at_the_task_it_had_come_to(work: Project) -> None:
    """From the execution's journal: Flux has written nothing anywhere."""
    work.write("job.yaml", JOB.replace("FLOW", "straight").replace("LIMIT", "1").replace("PLACE", "auto"))
    work.write("held", "")
    process = work.start("run", "job.yaml")
    until(lambda: log(work) == ["draft", "send"] and is_kept(work))
    process.kill()
    process.communicate(timeout=PATIENCE_SECONDS)
    (work.folder / "held").unlink()
    assert work.batchrun("resume").code == 0
    assert log(work) == ["draft", "send", "send"]
    assert json.loads(work.result["output"][0].as_py()) == "sent: Dear one"
    assert not (work.folder / ".flux").exists()


def is_kept(work: Project) -> bool:
    """Whether the journal has what the first task gave."""
    return any(b"letter/task" in path.read_bytes() for path in (work.executions[0] / "journal").iterdir())
