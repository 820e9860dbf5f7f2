"""Loading: shorthands written out, names and folders found, and the way back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.config import effective_job, load_job
from batchrun.core.errors import JobError
from batchrun.core.job import Dataset, DefaultOnFailure, Job, Resource, Run, Sample, Workflow
from batchrun.core.output import Output
from batchrun.core.policies import Backoff, Budget, Match, Retry, RetryRule
from batchrun.nodes.python import PythonNode
from batchrun.nodes.template import TemplateNode


def shout(item: dict[str, Any]) -> str:
    return str(item).upper()


class Counter:
    def __call__(self, item: dict[str, Any]) -> int:
        return len(item)


def test_shorthands_become_what_they_stand_for(tmp_path: Path) -> None:
    """A dataset path, a function and parallelism are written out, so that the rest of the program knows one form."""
    file = tmp_path / "triage.yaml"
    file.write_text("dataset: ../data.csv\nworkflow: pkg.tickets:Triage.run\nparallelism: 4\n", encoding="utf-8")
    loaded = load_job(file)
    assert loaded.dataset == Dataset(path="../data.csv")
    assert loaded.workflow == Workflow(nodes=(PythonNode(id="Triage_run", call="pkg.tickets:Triage.run"),))
    assert loaded.run == Run(parallelism=4)
    assert loaded.job == Job(dataset=loaded.dataset, workflow=loaded.workflow, name="triage", run=loaded.run)
    assert (loaded.name, loaded.folder, loaded.file) == ("triage", tmp_path, file)
    assert loaded.positions["run", "parallelism"] == f"{file}:3:14"


def test_folder_is_that_of_the_file_as_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job file that is a link reads what lies beside the link; positions name the file as the user did."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x.yaml").write_text("dataset: a.csv\nworkflow: m:f\n", encoding="utf-8")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "job.yaml").symlink_to(tmp_path / "real" / "x.yaml")
    monkeypatch.chdir(tmp_path)
    loaded = load_job("linked/job.yaml", folder=tmp_path)
    assert loaded.folder == tmp_path / "linked"
    assert loaded.positions["dataset",] == "linked/job.yaml:1:10"


@pytest.mark.parametrize(
    ("job", "name", "node_id"),
    [
        (Job(dataset="a.csv", workflow=shout), "shout", "shout"),
        (Job(dataset="a.csv", workflow=shout, name="loud"), "loud", "shout"),
        (Job(dataset="a.csv", workflow=Counter()), "Counter", "Counter"),
        (Job(dataset="a.csv", workflow=lambda item: item), "lambda", "lambda"),
        (Job(dataset="a.csv", workflow="m:2nd"), "_2nd", "_2nd"),
        (Job(dataset="a.csv", workflow="m:"), "function", "function"),
        (Job(dataset="a.csv", workflow=Workflow(nodes=(PythonNode(id="a", call=shout),))), "job", "a"),
    ],
)
def test_names_come_from_what_there_is(job: Job, name: str, node_id: str) -> None:
    """Every job has a name to list it by, every function an id to refer to."""
    loaded = load_job(job)
    assert (loaded.name, loaded.workflow.nodes[0].id) == (name, node_id)


def test_jobs_made_in_python_pass_through_the_same_checks(tmp_path: Path) -> None:
    """Options objects, mappings in their place, tuples, paths and functions are all taken; the job itself is not changed."""
    run: Any = {"retry": Retry(rules=(RetryRule(match=Match(http_status=(429,)), action="throttle"),)), "grace_seconds": 1}
    nodes: Any = [PythonNode(id="a", call=shout), {"id": "b", "type": "template", "template": ("x",), "needs": ("a",)}]
    job = Job(dataset=tmp_path / "a.csv", workflow=Workflow(nodes=nodes), run=run, vars={"n": (1, 2)}, parallelism=50)
    loaded = load_job(job, folder=tmp_path)
    assert loaded.dataset.path == str(tmp_path / "a.csv")
    assert loaded.workflow.nodes == (PythonNode(id="a", call=shout), TemplateNode(id="b", template=["x"], needs=("a",)))
    assert loaded.run == Run(retry=run["retry"], grace_seconds=1, parallelism=50)
    assert loaded.job.vars == {"n": [1, 2]}
    assert (loaded.folder, loaded.file, loaded.positions, loaded.name) == (tmp_path, None, {}, "job")
    assert job.run is run


def test_default_parallelism_of_a_python_job_does_not_contradict_the_short_form() -> None:
    """`Run` always has a parallelism; only one that was chosen counts as given twice."""
    run = Run(grace_seconds=1)
    assert load_job(Job(dataset="a.csv", workflow=shout, parallelism=50, run=run)).run == Run(parallelism=50, grace_seconds=1)
    with pytest.raises(JobError, match="give only one of them"):
        load_job(Job(dataset="a.csv", workflow=shout, parallelism=50, run=Run(parallelism=8)))


def test_relative_paths_of_python_jobs_start_at_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a notebook says is meant from where the notebook runs."""
    monkeypatch.chdir(tmp_path)
    assert load_job(Job(dataset="a.csv", workflow=shout)).folder == tmp_path


@pytest.mark.parametrize(
    ("text", "run"),
    [
        ("{}", Run(budget=Budget(), timeout_seconds=None, durable=True)),
        ("{budget: {max_calls: null, max_tokens: null, max_cost: null}, timeout_seconds: null}", Run()),
        (
            "{budget: {max_calls: 100, max_tokens: 1000000, max_cost: 2}, timeout_seconds: 3600, durable: false}",
            Run(budget=Budget(max_calls=100, max_tokens=1_000_000, max_cost=2.0), timeout_seconds=3600.0, durable=False),
        ),
        ("{budget: {max_calls: 0, max_cost: 0.5}}", Run(budget=Budget(max_calls=0, max_cost=0.5))),
    ],
)
def test_budgets_and_durability_are_read(tmp_path: Path, text: str, run: Run) -> None:
    """What limits an execution over all its resumes is read from the file, and kept for the resumes."""
    file = tmp_path / "job.yaml"
    file.write_text(f"dataset: a.csv\nworkflow: m:f\nrun: {text}\n", encoding="utf-8")
    loaded = load_job(file)
    assert loaded.run == run
    assert load_job(effective_job(loaded)).run == run
    assert load_job(file, ["run.budget.max_calls=7"]).run == replace(run, budget=replace(run.budget, max_calls=7))


def test_functions_are_stored_by_name() -> None:
    """The stored job can be loaded by another process, which has no function objects."""
    stored = effective_job(load_job(Job(dataset="a.csv", workflow=Workflow(nodes=(PythonNode(id="a", call=shout),)))))
    assert stored["workflow"]["nodes"][0]["call"] == f"{__name__}:shout"
    assert effective_job(load_job(Job(dataset="a.csv", workflow=Counter())))["workflow"]["nodes"][0]["call"] == f"{__name__}:Counter"


SECONDS = st.floats(0.001, 1e9)
RETRIES = st.builds(
    Retry,
    max_attempts=st.integers(1, 99),
    backoff=st.builds(Backoff, initial_seconds=SECONDS, multiplier=st.floats(1, 9)),
    rules=st.lists(
        st.builds(
            RetryRule,
            match=st.builds(
                Match, http_status=st.lists(st.integers(100, 599)).map(tuple), error_type=st.none() | st.just("E") | st.just(("E", "F"))
            ),
            action=st.sampled_from(["retry", "throttle", "fail", "stop"]),
        ),
        max_size=2,
    ).map(tuple),
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
COMMON = {
    "timeout_seconds": st.none() | SECONDS,
    "retry": st.none() | RETRIES,
    "on_failure": st.just("continue") | st.builds(DefaultOnFailure, default=PLAIN),
}
JOBS = st.builds(
    Job,
    name=st.text(min_size=1),
    dataset=st.builds(
        Dataset,
        path=st.text(),
        limit=st.none() | st.integers(0, 2**64 - 1),
        sample=st.none() | st.builds(Sample, n=st.integers(0, 2**64 - 1)),
    ),
    workflow=st.builds(
        Workflow,
        nodes=st.tuples(
            st.builds(PythonNode, id=st.just("a"), call=st.text(), inputs=st.dictionaries(st.text(), PLAIN), **COMMON),
            st.builds(TemplateNode, id=st.just("b"), template=PLAIN, **COMMON),
        ),
        output=PLAIN,
        output_schema=st.none() | st.just("string") | st.just({"a": ["int64"]}),
    ),
    vars=st.dictionaries(st.text(), PLAIN),
    resources=st.dictionaries(st.text(), st.builds(Resource, base_url=st.text())),
    run=st.builds(
        Run,
        parallelism=st.integers(1, 99),
        item_timeout_seconds=st.none() | SECONDS,
        retry=RETRIES,
        budget=st.builds(
            Budget,
            max_calls=st.none() | st.integers(0, 2**64 - 1),
            max_tokens=st.none() | st.integers(0, 2**64 - 1),
            max_cost=st.none() | st.floats(0, 1e9),
        ),
        timeout_seconds=st.none() | SECONDS,
        durable=st.booleans(),
    ),
    output=st.builds(Output, keep=st.lists(st.text()).map(tuple), export=st.just(("csv", "arrow"))),
)


@given(JOBS)
def test_the_stored_job_is_the_job(job: Job) -> None:
    """A resume loads exactly what was run, whatever the values; the stored form survives JSON."""
    loaded = load_job(job)
    assert loaded.job == job
    stored = json.loads(json.dumps(effective_job(loaded), allow_nan=False))
    assert stored == effective_job(loaded)
    assert load_job(stored).job == job
