"""Nadoo Flows whose items wait for a person or lose their process."""

from __future__ import annotations

import json

import pytest

from batchrun.client import Execution
from tests.e2e.conftest import PATIENCE_SECONDS, Project
from tests.e2e.held import until

FLOWS = """\
import asyncio
from pathlib import Path

from nadoo_flow import BaseNode, CommonNodeTypes, NodeResult, WorkflowExecutor


def note(text):
    with open("log", "a") as log:
        log.write(text + "\\n")


class Draft(BaseNode):
    async def execute(self, node_context, workflow_context):
        note("draft")
        workflow_context.set_global_variable("tone", "kind")
        return NodeResult(success=True, output={"text": f"Dear {node_context.input_data['text']}"})


class Review(BaseNode):
    async def execute(self, node_context, workflow_context):
        note("review")
        routes = {"send": "send", "drop": "drop"}
        draft = node_context.input_data["previous_output"]
        return NodeResult(success=True, output={**draft, "route": "drop"}, should_interrupt=True, conditional_next=routes)


class Send(BaseNode):
    async def execute(self, node_context, workflow_context):
        note(self.node_id)
        while Path("held").exists():
            await asyncio.sleep(0.01)
        text = node_context.input_data["previous_output"]["text"]
        return NodeResult(success=True, output={self.node_id: text, "tone": workflow_context.get_global_variable("tone")})


def flow(*, asks):
    made = WorkflowExecutor()
    draft = Draft("draft", CommonNodeTypes.START, "draft", {})
    draft.add_next_node("review" if asks else "send")
    for node in (draft, Review("review", "custom", "review", {}), Send("send", "custom", "send", {}), Send("drop", "custom", "drop", {})):
        made.add_node(node)
    return made


ASKING = flow(asks=True)
PLAIN = flow(asks=False)
"""
JOB = """\
name: letters
dataset: {path: data.csv, id: id, limit: LIMIT}
workflow:
  nodes:
    - {id: letter, type: nadoo, flow: "flows:FLOW", inputs: {text: "{{ item.text }}"}}
output: {path: runs}
"""


@pytest.fixture
def work(project: Project) -> Project:
    project.write("flows.py", FLOWS)
    return project


def log(work: Project) -> list[str]:
    path = work.folder / "log"
    return path.read_text().splitlines() if path.exists() else []


def test_a_person_decides_which_way_a_flow_goes_on(work: Project) -> None:
    """Approved as it is, sent another way, or rejected; what had run before the question is not run again."""
    work.write("job.yaml", JOB.replace("FLOW", "ASKING").replace("LIMIT", "3"))
    assert work.batchrun("run", "job.yaml").code == 4
    (folder,) = work.executions
    waiting = Execution(folder).waiting_items()
    assert (waiting[0].node_id, waiting[0].shown) == ("letter.review_approval", {"text": "Dear one", "route": "drop"})
    assert work.batchrun("approve", "--item", "a").code == 0
    assert work.batchrun("approve", "--item", "b", "--set", 'output={"text": "Dear two", "route": "send"}').code == 0
    assert work.batchrun("reject", "--item", "c", "--reason", "no").code == 0
    before = log(work)
    assert work.batchrun("resume").code == 3
    assert sorted(log(work)[len(before) :]) == ["drop", "send"]
    rows = work.result.to_pylist()
    assert [json.loads(row["output"]) for row in rows[:2]] == [{"drop": "Dear one", "tone": "kind"}, {"send": "Dear two", "tone": "kind"}]
    assert (rows[2]["status"], rows[2]["error"]["type"], rows[2]["error"]["message"]) == ("failed", "Rejected", "rejected: no")
    assert {node["node_id"] for node in rows[1]["node_executions"]} >= {"letter", "letter.draft", "letter.review", "letter.send"}


def test_a_killed_flow_goes_on_at_the_node_it_had_come_to(work: Project) -> None:
    """The library would begin at its start; variables that earlier nodes left are there again."""
    work.write("job.yaml", JOB.replace("FLOW", "PLAIN").replace("LIMIT", "1"))
    work.write("held", "")
    process = work.start("run", "job.yaml")
    until(lambda: log(work) == ["draft", "send"] and is_kept(work))
    process.kill()
    process.communicate(timeout=PATIENCE_SECONDS)
    (work.folder / "held").unlink()
    assert work.batchrun("resume").code == 0
    assert log(work) == ["draft", "send", "send"]
    assert json.loads(work.result["output"][0].as_py()) == {"send": "Dear one", "tone": "kind"}


def is_kept(work: Project) -> bool:
    """Whether the journal has what the first node gave."""
    return any(b"letter/draft" in path.read_bytes() for path in (work.executions[0] / "journal").iterdir())
