"""Files of items: read by nodes of their own, and given to functions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import batchrun
from batchrun.testing.loopback import Answer, LoopbackServer
from tests.e2e.conftest import Project

STEPS = """\
import threading

import batchrun


def measure(document: batchrun.File | None, unit: str = "bytes") -> dict:
    if document is None:
        return {"name": None}
    assert document.open().read() == document.content
    return {"name": document.name, "type": document.media_type, "size": document.size_bytes, "unit": unit}


async def measure_waiting(document: batchrun.File | None) -> dict:
    assert threading.current_thread() is threading.main_thread()
    return measure(document)


def measure_many(document: list) -> list:
    return [measure(each) for each in document]
"""
DATA = 'id,path\na,letters/a.txt\nb,\nc,../secret.txt\nd,"data:text/html,<p>"\ne,letters/none.txt\n'


@pytest.fixture
def letters(project: Project) -> Project:
    (project.folder / "letters").mkdir()
    project.write("letters/a.txt", "Grüße")
    project.write("secret.txt", "secret")
    project.write("steps.py", STEPS)
    project.write("data.csv", DATA)
    return project


def job(project: Project, *nodes: str) -> Path:
    lines = "\n".join(f"    - {node}" for node in nodes)
    return project.write(
        "job.yaml",
        f"dataset: {{path: data.csv, id: id}}\nworkflow:\n  nodes:\n{lines}\nrun: {{retry: {{max_attempts: 1}}}}\noutput: {{path: runs}}\n",
    )


def rows(project: Project) -> dict[str, tuple[str, object]]:
    return {
        row["source_item_id"]: (row["status"], json.loads(row["output"]) if row["output"] is not None else row["error"]["type"])
        for row in project.result.to_pylist()
    }


@pytest.mark.parametrize(
    "node",
    [
        'call: "steps:measure"',
        'call: "steps:measure_waiting"',
        'call: "steps:measure_many", batch: {max_items: 5}',
    ],
)
def test_a_function_gets_the_file_that_an_item_names(letters: Project, node: str) -> None:
    """Plain, async and batched functions alike; relative paths start from the job file, and a bad path fails its item alone."""
    inputs = 'inputs: {document: {file: "{{ item.path }}", allow_paths: [letters]}}'
    job(letters, f"{{id: measure, type: python, {node}, {inputs}}}")
    ended = letters.batchrun("run", "job.yaml")
    assert ended.code == 3, ended.err
    measured = {"unit": "bytes"}
    assert rows(letters) == {
        "a": ("completed", {"name": "a.txt", "type": "text/plain", "size": 7, **measured}),
        "b": ("completed", {"name": None}),
        "c": ("failed", "AddressRefused"),
        "d": ("completed", {"name": None, "type": "text/html", "size": 3, **measured}),
        "e": ("failed", "FileMissing"),
    }
    first = letters.result.to_pylist()[0]["node_executions"][0]
    assert json.loads(first["input"]) == {"document": {"file": "letters/a.txt"}}


def test_a_file_node_gives_a_typed_column_and_survives_a_crash(letters: Project) -> None:
    """Bytes are bytes in the result, and again when another node takes them from the journal."""
    job(letters, '{id: scan, type: file, source: "{{ item.path }}", allow_paths: [letters], on_failure: continue}')
    assert letters.batchrun("run", "job.yaml").code == 0
    table = letters.result
    assert table["output"].to_pylist()[:2] == [
        {"name": "a.txt", "media_type": "text/plain", "size_bytes": 7, "content": "Grüße".encode()},
        None,
    ]
    assert batchrun.Execution(letters.executions[0]).status == "completed"


def test_files_from_the_web_reach_functions_in_threads(letters: Project) -> None:
    """Nothing is read on the event loop, and nothing of the network happens outside of it."""
    with LoopbackServer({"/a.txt": Answer(body=b"hello", headers={"Content-Type": "text/x"}), "/none": Answer(status=404)}) as server:
        letters.write("data.csv", "id,name\n1,a.txt\n2,none\n")
        inputs = f'inputs: {{unit: b, document: {{file: "{server.url}/{{{{ item.name }}}}"}}}}'
        job(letters, f'{{id: measure, type: python, call: "steps:measure", {inputs}}}')
        ended = letters.batchrun("run", "job.yaml")
    assert ended.code == 3, ended.err
    assert rows(letters) == {
        1: ("completed", {"name": "a.txt", "type": "text/x", "size": 5, "unit": "b"}),
        2: ("failed", "HttpStatusError"),
    }


def test_mistakes_about_file_inputs_are_told_at_their_place(letters: Project) -> None:
    """Before the first item, with line and column."""
    job(
        letters,
        '{id: a, type: python, call: "steps:measure", inputs: {document: {file: "{{ item.path }}"}}}',
        '{id: b, type: python, call: "steps:measure", inputs: {document: {file: "{{ item.pat }}", allow_paths: [nowhere]}}}',
        '{id: c, type: python, call: "steps:measure", inputs: {document: {file: 3, max_bytes: 0}}}',
        '{id: d, type: python, call: "steps:measure", cache: true, inputs: {document: {file: x, allow_paths: letters}}}',
        '{id: e, type: python, call: "steps:measure", cache: true, inputs: {document: {file: letters/a.txt}}}',
    )
    ended = letters.batchrun("validate", "job.yaml")
    assert ended.code == 2
    for message in (
        "nodes[0].inputs.document.file: comes from item data: name the folders",
        "nodes[1].inputs.document.allow_paths[0]: 'nowhere' is not a folder",
        'nodes[1].inputs.document.file: unknown column "pat"; did you mean "path"?',
        "nodes[2].inputs.document.file: must be text, got 3",
        "nodes[3].inputs.document.allow_paths: must be a list of texts, got 'letters'",
        "nodes[4].cache: a python node cannot say whether two calls are the same",
    ):
        assert message in ended.err, ended.err


def test_a_file_may_be_given_by_the_dataset(letters: Project) -> None:
    """A file is an input like any other: addressed by the node, and with permissions of its own."""
    job(letters, '{id: measure, label: The letter, type: python, call: "steps:measure", inputs: {document: null, unit: x}}')
    given = {"The letter::document": {"file": "{{ item.path }}", "allow_paths": ["letters"]}}
    execution = batchrun.execute(letters.folder / "job.yaml", {"dataset.limit": 1}, inputs=given, quiet=True)
    assert json.loads(execution.results["output"].to_pylist()[0])["size"] == 7
