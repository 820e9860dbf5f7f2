"""Overrides: any value, by its path, with its own place in messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from batchrun.config import load_job
from batchrun.core.errors import JobError
from batchrun.core.job import Dataset, Job, LoadedJob, Resource, Run, Sample
from batchrun.core.policies import Retry
from batchrun.nodes.template import TemplateNode

FILE = """\
dataset: data.csv
parallelism: 8
vars: {model: small, tone: kind}
run: {item_timeout_seconds: 5, grace_seconds: 3}
workflow:
  nodes:
    - {id: clean, type: python, call: "m:f", inputs: {text: a}}
    - {id: note, type: template, template: x}
"""


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(FILE, encoding="utf-8")


def load(*overrides: str) -> LoadedJob:
    return load_job("job.yaml", overrides)


def refusal(overrides: Mapping[str, Any] | Sequence[str]) -> list[str]:
    with pytest.raises(JobError) as raised:
        load_job("job.yaml", overrides)
    return str(raised.value).splitlines()


def test_values_are_set_wherever_their_path_leads() -> None:
    """Shorthands can be looked into, nodes go by id or index, missing mappings are made, the last one wins."""
    loaded = load(
        "dataset.filter=priority <= 2",
        "dataset.sample.n=10",
        "parallelism=1",
        "run.parallelism=64",
        "workflow.nodes.note.timeout_seconds=5",
        "workflow.nodes[1].needs=[clean]",
        "workflow.nodes.0.retry.max_attempts=2",
        "workflow.nodes.clean.inputs.text='{{ input }}'",
        "resources.api.base_url=http://127.0.0.1",
        "vars.model=a=b",
        "output={keep: [id]}",
    )
    assert loaded.dataset == Dataset(path="data.csv", filter="priority <= 2", sample=Sample(n=10))
    assert loaded.run.parallelism == 64
    assert loaded.workflow.nodes[0].retry == Retry(max_attempts=2)
    assert loaded.workflow.nodes[0].inputs == {"text": "{{ input }}"}
    assert loaded.workflow.nodes[1] == TemplateNode(id="note", template="x", timeout_seconds=5, needs=("clean",))
    assert loaded.job.resources == {"api": Resource(base_url="http://127.0.0.1")}
    assert loaded.job.vars == {"model": "a=b", "tone": "kind"}
    assert loaded.job.output.keep == ("id",)


def test_whole_sections_can_be_replaced_by_their_short_form() -> None:
    """`--set dataset=other.csv` means what `dataset: other.csv` means in a file."""
    loaded = load("dataset=other.csv", "workflow=m:g")
    assert loaded.dataset == Dataset(path="other.csv")
    assert [node.id for node in loaded.workflow.nodes] == ["g"]


def test_null_is_null_where_it_is_allowed_and_removes_the_value_elsewhere() -> None:
    """A deadline can be taken away, a number goes back to its default, and an entry disappears."""
    loaded = load("run.item_timeout_seconds=null", "run.grace_seconds=", "run.parallelism=null", "workflow.nodes.clean.inputs=null")
    assert loaded.run == Run(item_timeout_seconds=None)
    assert loaded.workflow.nodes[0].inputs == {}
    assert refusal(["workflow.nodes.note=null"]) == ["--set workflow.nodes.note=null workflow.nodes[1]: must be a mapping, got null"]
    assert refusal(["dataset.path=null"]) == [
        "job.yaml:1:10 dataset.path: is missing; give the path of a file or folder, or the name of a dataset"
    ]
    assert refusal(["run.parallelism=null", "run.parallelism=x"]) == [
        "--set run.parallelism=x run.parallelism: must be a whole number, got 'x'"
    ]


def test_python_overrides_take_python_values_and_leave_the_job_alone() -> None:
    """A notebook runs one job several times with other values."""
    job = Job(dataset="data.csv", workflow="m:f", vars={"a": {"b": 1}})
    loaded = load_job(job, {"run": Run(grace_seconds=1), "parallelism": 2, "dataset.path": Path("x.csv"), "vars.a.b": (2,)})
    assert (loaded.run, loaded.dataset.path, loaded.job.vars) == (Run(grace_seconds=1, parallelism=2), "x.csv", {"a": {"b": [2]}})
    assert job.vars == {"a": {"b": 1}}
    assert refusal({"run.parallelism": 0}) == ['overrides["run.parallelism"] run.parallelism: must be ≥ 1, got 0']


def test_every_wrong_override_is_named_with_the_others() -> None:
    """Wrong overrides and wrong values are told together, each with the option the user typed."""
    assert refusal(
        [
            "run.parallelism",
            "run..x=1",
            "run.grace_seconds.x=1",
            "workflow.nodes.claen.label=x",
            "workflow.nodes[7].label=x",
            "vars[0]=x",
            "vars.x=[",
            "vars.y={a: 1, a: 2}",
            "run.paralelism=3",
            "resources.api.max_concurrency=0",
            "workflow.nodes.note.retry={max_attempts: 0}",
        ]
    ) == [
        "--set run.parallelism give it as path=value, for example run.parallelism=64",
        "--set run..x=1 'run..x' is not a path such as run.parallelism or workflow.nodes.classify.timeout_seconds",
        "--set run.grace_seconds.x=1 run.grace_seconds is 3, not a mapping or a list of nodes",
        "--set workflow.nodes.claen.label=x workflow.nodes has no 'claen'; did you mean \"clean\"?",
        "--set workflow.nodes[7].label=x workflow.nodes has no element 7; it has 2",
        "--set vars[0]=x vars is a mapping, not a list",
        "--set vars.x=[ not valid YAML: while parsing a flow node: did not find expected node content",
        "--set vars.y={a: 1, a: 2} a: duplicate key a; it is already at vars.y:1:2",
        '--set run.paralelism=3 run.paralelism: unknown key paralelism; did you mean "parallelism"?',
        "--set resources.api.max_concurrency=0 resources.api.max_concurrency: must be ≥ 1, got 0",
        "--set workflow.nodes.note.retry={max_attempts: 0} workflow.nodes[1].retry.max_attempts: must be ≥ 1, got 0",
    ]
