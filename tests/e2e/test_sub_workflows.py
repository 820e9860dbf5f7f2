"""The `workflow` node: another workflow, once or for each element of a list, as users run it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.conftest import Project

JOB = """\
name: letters
dataset: {path: data.jsonl, id: id}
workflow:
  nodes:
    - id: words
      type: workflow
      inputs: {mark: "{{ item.mark }}"}
      map: "{{ item.words }}"
      parallelism: 2
      workflow:
        nodes:
          - {id: tidy, type: python, call: "steps:tidy", inputs: {text: "{{ input }}"}}
          - {id: card, type: template, template: "{{ nodes.tidy.output }}{{ item.mark }}"}
    - id: letter
      type: workflow
      inputs: {words: "{{ nodes.words.output }}"}
      workflow:
        nodes:
          - {id: greeting, type: template, template: "Hello"}
          - {id: whole, type: template, template: "{{ nodes.greeting.output }} {{ item.words | join(' ') }}"}
run: {retry: {max_attempts: 1}}
output: {path: runs}
"""
STEPS = """\
from pathlib import Path


def tidy(text: str) -> str:
    with open("log", "a") as log:
        log.write(text + " ")
    if text == "bad" and not Path("mended").exists():
        raise ValueError("nothing can be made of this")
    return text
"""
ROWS: list[dict[str, Any]] = [
    {"id": "a", "mark": "!", "words": ["one", "two", "three"]},
    {"id": "b", "mark": "?", "words": []},
    {"id": "c", "mark": ".", "words": ["one", "bad"]},
]


@pytest.fixture
def letters(project: Project) -> Project:
    project.write("job.yaml", JOB)
    project.write("data.jsonl", "\n".join(map(json.dumps, ROWS)))
    return project


def outputs(project: Project) -> list[Any]:
    return [None if output is None else json.loads(output) for output in project.result["output"].to_pylist()]


def executions(project: Project) -> list[list[tuple[str, int, str]]]:
    rows = project.result["node_executions"].to_pylist()
    return [[(node["node_id"], node["occurrence"], node["status"]) for node in nodes] for nodes in rows]


def test_a_workflow_runs_once_or_for_each_element(letters: Project) -> None:
    """Outputs come in the order of the list, every inner execution is recorded, and an element that fails fails the item."""
    assert letters.batchrun("run", "job.yaml").code == 3
    assert outputs(letters) == ["Hello ONE! TWO! THREE!", "Hello ", None]
    first, second, third = executions(letters)
    assert sorted(first) == sorted(
        [
            *((f"words.{id}", number, "completed") for id in ("tidy", "card") for number in range(3)),
            ("words", 0, "completed"),
            ("letter.greeting", 0, "completed"),
            ("letter.whole", 0, "completed"),
            ("letter", 0, "completed"),
        ]
    )
    assert [id for id, _, _ in second] == ["words", "letter.greeting", "letter.whole", "letter"]
    assert [each[2] for each in third if each[0] in ("words.tidy", "words")].count("failed") == 2
    assert letters.result["error"].to_pylist()[2]["node_id"] == "words.tidy"


def test_a_retry_runs_only_the_elements_that_failed(letters: Project) -> None:
    """What other elements gave is kept."""
    letters.write("steps.py", STEPS)
    letters.write("job.yaml", JOB.replace("parallelism: 2", "parallelism: 1"))
    letters.write("data.jsonl", json.dumps({"id": "c", "mark": ".", "words": ["one", "two", "bad", "three"]}))
    assert letters.batchrun("run", "job.yaml").code == 3
    (letters.folder / "mended").touch()
    assert letters.batchrun("retry").code == 0
    assert (letters.folder / "log").read_text() == "one two bad bad three "
    assert outputs(letters) == ["Hello one. two. bad. three."]


def test_the_pages_show_inner_nodes(letters: Project) -> None:
    """`try`, `show --item` and `show --nodes` have them under the id of their node."""
    page = letters.batchrun("try", "job.yaml", "--id", "a").out
    assert page.count("node words.card (template): completed") == 3
    letters.batchrun("run", "job.yaml")
    assert letters.batchrun("show", "--item", "a").out.count("node words.card (template): completed") == 3
    lines = [line.split()[:3] for line in letters.batchrun("show", "--nodes").out.splitlines()]
    assert ["words.tidy", "python", "5"] in lines and ["letter.whole", "template", "2"] in lines


def test_mistakes_within_are_reported_with_their_lines(letters: Project) -> None:
    """All of them before the first item, as those of other nodes are."""
    wrong = JOB.replace('{{ item.mark }}"}\n    -', '{{ item.marc }}"}\n    -').replace("nodes.greeting", "nodes.greting")
    letters.write("job.yaml", wrong)
    ended = letters.batchrun("validate", "job.yaml")
    assert ended.code == 2
    assert 'unknown column "marc"' in ended.err and 'unknown node "greting"; did you mean "greeting"?' in ended.err
    assert "job.yaml:13:" in ended.err and "job.yaml:20:" in ended.err


def test_a_list_is_needed(letters: Project) -> None:
    """Anything else is a failure of the node, in words."""
    letters.write("job.yaml", JOB.replace('map: "{{ item.words }}"', 'map: "{{ item.mark }}"'))
    letters.batchrun("run", "job.yaml")
    assert {error["message"] for error in letters.result["error"].to_pylist()} == {"map must give a list, got str"}
