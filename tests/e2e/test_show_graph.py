"""The graph of an execution, with what became of its items at each node."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from tests.e2e.conftest import Project

JOB = """\
dataset: {path: data.csv, id: id}
workflow:
  nodes:
    - {id: tidy, type: python, call: "steps:tidy", inputs: {text: "{{ item.text }}"}}
    - {id: long, label: for long texts, type: template, template: "{{ nodes.tidy.output }}", when: "{{ item.size > 2 }}"}
run: {retry: {max_attempts: 1}}
output: {path: runs}
"""
MERMAID = """\
flowchart TD
    n_tidy["tidy<br/>python<br/>3 completed, 1 failed"]
    n_long["long<br/>template · for long texts<br/>when item.size #62; 2<br/>1 completed, 2 skipped"]
    n_tidy --> n_long
"""


@pytest.fixture
def ran(project: Project) -> Project:
    project.write("job.yaml", JOB)
    project.write("data.csv", "id,text,size\na,one,1\nb,two,2\nc,three,3\nd,bad,4\n")
    assert project.batchrun("run", "job.yaml").code == 3
    return project


def test_the_graph_shows_how_many_items_each_node_has_seen(ran: Project) -> None:
    """Where items got lost is seen at a glance; the drawing is that of the stored job, whatever became of the file since."""
    (ran.folder / "job.yaml").unlink()
    (ran.folder / "steps.py").unlink()
    ended = ran.batchrun("show", "--graph", "mermaid")
    assert (ended.code, ended.out) == (0, MERMAID)


def test_the_picture_marks_nodes_that_failed(ran: Project) -> None:
    """Red is where to look."""
    picture = ET.fromstring(ran.batchrun("show", "latest", "--graph", "svg").out)  # noqa: S314 - it is our own
    texts = {element.text: element.get("class") for element in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert texts["3 completed, 1 failed"] == "note bad"
    assert texts["1 completed, 2 skipped"] == "note"


def test_an_execution_that_was_rejected_has_nothing_to_draw_or_draws_its_plain_workflow(project: Project) -> None:
    """Counts that are not known are left out."""
    project.write("data.csv", "id,text,size\n")
    project.batchrun("run", "job.yaml")
    ended = project.batchrun("show", "--graph", "mermaid")
    assert (ended.code, ended.out) == (0, 'flowchart TD\n    n_tidy["tidy<br/>python"]\n')
