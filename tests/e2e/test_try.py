"""Looking at one item before a run."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conftest import Project

JOB = """\
dataset: {path: data.csv, id: id, input_field: text}
workflow:
  nodes:
    - {id: tidy, type: python, call: "steps:tidy", inputs: {text: "{{ input }}"}}
    - {id: length, type: python, call: "steps:length", inputs: {text: "{{ nodes.tidy.output }}"}}
    - {id: last, type: template, template: "{{ nodes.tidy.output }} has {{ nodes.length.output }}"}
run: {retry: {max_attempts: 1}}
"""
STEPS = """\
def tidy(text: str) -> str:
    if text == "bad":
        raise ValueError("nothing can be made of this")
    return text.strip().upper()


async def length(text: str) -> int:
    with open("called", "a") as log:
        log.write("length\\n")
    return len(text)
"""


@pytest.fixture
def job(project: Project) -> Project:
    project.write("job.yaml", JOB)
    project.write("steps.py", STEPS)
    return project


def test_each_node_shows_what_it_was_given_and_gave(job: Project) -> None:
    """Whoever writes a workflow sees one item go through it, and nothing is left behind but what the functions did."""
    before = {path.name for path in job.folder.iterdir()}
    tried = job.batchrun("try", "job.yaml", "--id", "c")
    assert tried.code == 0, tried.err
    for line in ("item       c", 'input    {"text": "three"}', "output   THREE", "output   5", "output   THREE has 5"):
        assert line in tried.out
    assert {path.name for path in job.folder.iterdir()} - {"__pycache__"} == before | {"called"}


def test_the_first_item_is_the_default_and_json_has_the_row(job: Project) -> None:
    """Programs get the row that the item would have in a result."""
    row = json.loads(job.batchrun("try", "job.yaml", "--json").out)
    assert (row["source_item_id"], row["status"], row["output"]) == ("a", "completed", "ONE has 3")
    assert [node["output"] for node in row["node_executions"]] == ["ONE", 3, "ONE has 3"]


def test_an_item_can_be_given_without_a_dataset(job: Project) -> None:
    """A workflow can be tried before there are data, with columns of any kind."""
    (job.folder / "data.csv").unlink()
    tried = job.batchrun("try", "job.yaml", "--item", '{"text": " x ", "more": [1]}', "--json")
    assert json.loads(tried.out)["output"] == "X has 1"
    missing = job.batchrun("try", "job.yaml", "--item", '{"size": 1}')
    assert missing.code == 2
    assert "text" in missing.err


def test_one_node_runs_with_what_it_needs(job: Project) -> None:
    """Nodes after the one that is looked at, and beside it, are not called."""
    tried = job.batchrun("try", "job.yaml", "--node", "tidy", "--json")
    assert json.loads(tried.out)["output"] == "ONE"
    assert not (job.folder / "called").exists()
    assert 'unknown node "tidi"; did you mean "tidy"?' in job.batchrun("try", "job.yaml", "--node", "tidi").err


def test_a_failure_is_shown_with_its_traceback(job: Project) -> None:
    """The exit code says that the item failed, the page says where."""
    tried = job.batchrun("try", "job.yaml", "--item", '{"text": "bad"}')
    assert tried.code == 3
    assert "ValueError: nothing can be made of this" in tried.out
    assert "steps.py" in tried.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--id", "nobody"], "no item has the id 'nobody'; the first one is 'a'"),
        (["--item", "{"], "is not JSON"),
        (["--item", "{}", "--id", "a"], "give either --item or --id"),
    ],
)
def test_what_cannot_be_tried_is_said(job: Project, arguments: list[str], sentence: str) -> None:
    """A mistake in what is typed ends with a sentence, not with a traceback."""
    tried = job.batchrun("try", "job.yaml", *arguments)
    assert tried.code == 2
    assert sentence in tried.err and "Traceback" not in tried.err


@pytest.mark.parametrize(("text", "output"), [(" hi ", "HI has 2"), ('"{in quotes"', "{IN QUOTES has 10")])
def test_one_value_is_an_item(job: Project, text: str, output: str) -> None:
    """A text to try is typed as it is; its column is the one that the job reads."""
    ended = job.batchrun("try", "job.yaml", "--item", text, "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["output"] == output


def test_half_an_object_is_a_mistake_and_no_text(job: Project) -> None:
    """A missing bracket must not turn the item into something else."""
    for text, message in (('{"text": 1', "is not JSON"), ("null", "must be a value, got null")):
        ended = job.batchrun("try", "job.yaml", "--item", text)
        assert ended.code == 2
        assert message in ended.err
