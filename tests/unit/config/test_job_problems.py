"""Mistakes in a job: all of them at once, each once, in plain words and at its place."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from batchrun.config import load_job, locate
from batchrun.core.errors import JobError, Problem
from batchrun.core.job import Job, Run
from batchrun.core.output import Output
from batchrun.workflows.registry import node_types

FILE = """\
dataset: {path: data.csv, sample: {fraction: 3}, csv: {delimiter: ab}}
wrokflow: 3
workflow:
  nodes:
    - id: clean
      type: python
      call: "m:f"
      retrys: 3
      timeout_seconds: -1
      retry:
        max_attempts: 0
        backoff: {multiplier: 0.5, max_seconds: "3"}
        rules: [{match: {}, action: go}]
    - id: note
      type: template
      template: x
      needs: clean
      timeout_seconds: true
      retry: {max_attempts: 1.0}
    - {id: 1st, type: template, template: x, on_failure: {defalt: 1}}
    - {id: a, type: pyton}
    - {id: b, call: "m:f"}
    - text
    - {id: c, type: python, call: 3, on_failure: go}
    - {id: d, type: python}
run:
  parallelism: 0
  failure_policy: {max_failures: -1}
  retry: {rules: [{match: {error_type: [A, 3], http_status: 429}, action: retry}]}
resources: {api: {max_concurrency: 0}}
resources: {}
output: {keep: 3, node_executions: all, colour: red}
"""
PROBLEMS = """\
1:46 dataset.sample.fraction: must be between 0 and 1, got 3
1:67 dataset.csv.delimiter: must be one ASCII character, got 'ab'
2:1 wrokflow: unknown key wrokflow; did you mean "workflow"?
8:7 workflow.nodes[0].retrys: unknown key retrys; did you mean "retry"?
9:24 workflow.nodes[0].timeout_seconds: must be > 0, got -1
11:23 workflow.nodes[0].retry.max_attempts: must be ≥ 1, got 0
12:31 workflow.nodes[0].retry.backoff.multiplier: must be ≥ 1, got 0.5
12:49 workflow.nodes[0].retry.backoff.max_seconds: must be a number, got '3'
13:25 workflow.nodes[0].retry.rules[0].match: give at least one condition: http_status, error_type, message or body
13:37 workflow.nodes[0].retry.rules[0].action: must be 'retry', 'throttle', 'fail' or 'stop', got 'go'
17:14 workflow.nodes[1].needs: must be a list, got 'clean'; write [clean]
18:24 workflow.nodes[1].timeout_seconds: must be a number, got true
19:29 workflow.nodes[1].retry.max_attempts: must be a whole number, got 1.0
20:12 workflow.nodes[2].id: must be letters, digits and underscores, not starting with a digit; got '1st'
20:59 workflow.nodes[2].on_failure.defalt: unknown key defalt; did you mean "default"?
21:21 workflow.nodes[3].type: unknown type pyton; did you mean "python"? (types: TYPES)
22:7 workflow.nodes[4].type: is missing; types: TYPES
23:7 workflow.nodes[5]: must be a mapping, got 'text'
24:35 workflow.nodes[6].call: must be text or a function, got 3
24:50 workflow.nodes[6].on_failure: must be 'stop', 'continue' or a mapping, got 'go'
25:7 workflow.nodes[7].call: is missing
27:16 run.parallelism: must be ≥ 1, got 0
28:34 run.failure_policy.max_failures: must be ≥ 0, got -1
29:44 run.retry.rules[0].match.error_type[1]: must be text, got 3
29:61 run.retry.rules[0].match.http_status: must be a list, got 429; write [429]
31:1 resources: duplicate key resources; it is already at job.yaml:30:1
30:36 resources.api.max_concurrency: must be ≥ 1, got 0
32:16 output.keep: must be a list, got 3; write [3]
32:36 output.node_executions: must be 'full', 'summary' or 'none', got 'all'
32:41 output.colour: unknown key colour; known keys: OUTPUT
"""


def refusal(*arguments: Any, **options: Any) -> list[str]:
    with pytest.raises(JobError) as raised:
        load_job(*arguments, **options)
    return [str(problem) for problem in raised.value.problems]


def job(**values: Any) -> dict[str, Any]:
    return {"dataset": "data.csv", "workflow": "m:f", **values}


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_mistake_is_reported_once_in_the_order_of_the_file() -> None:
    """One run of the check is enough to mend a file; no mistake hides another one, none is told twice."""
    Path("job.yaml").write_text(FILE, encoding="utf-8")
    types = ", ".join(sorted(node_types()))
    keys = ", ".join(sorted(field.name for field in fields(Output)))
    assert refusal("job.yaml") == [f"job.yaml:{line}" for line in PROBLEMS.replace("TYPES", types).replace("OUTPUT", keys).splitlines()]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dataset": 3}, "dataset: must be a mapping or text, got 3"),
        ({"dataset": {"pth": "x"}}, 'dataset.pth: unknown key pth; did you mean "path"?'),
        ({"dataset": {}}, "dataset.path: is missing; give the path of a file or folder, or the name of a dataset"),
        ({"dataset": {"path": "x", "name": "y"}}, "dataset.name: the dataset has a path, x, and a name; give only one of them"),
        (
            {"dataset": {"path": "x", "format": "csv", "version": 3}},
            "dataset.version: is one of a named dataset or of a Delta table; give the name, or leave out the format",
        ),
        ({"dataset": {"name": "x", "version": True}}, "dataset.version: must be a whole number or text, got true"),
        ({"dataset": {"path": "x", "sample": {}}}, "dataset.sample: give either fraction or n"),
        ({"dataset": {"path": "x", "sample": {"n": True}}}, "dataset.sample.n: must be a whole number, got true"),
        ({"workflow": None}, "workflow: must be a mapping, text or a function, got null"),
        ({"workflow": {"nodes": []}}, "workflow.nodes: must have at least one node"),
        ({"run": None}, "run: must be a mapping, got null"),
        ({"run": {"max_open_items": 3}}, "run.max_open_items: must be ≥ parallelism (16), got 3"),
        ({"run": {"max_open_items": 3, "parallelism": "2"}}, "run.parallelism: must be a whole number, got '2'"),
        ({"run": {"grace_seconds": float("inf")}}, "run.grace_seconds: must be a finite number, got inf"),
        ({"run": {"budget": {"max_calls": -1}}}, "run.budget.max_calls: must be ≥ 0, got -1"),
        ({"run": {"budget": {"max_tokens": 1.5}}}, "run.budget.max_tokens: must be a whole number, got 1.5"),
        ({"run": {"budget": {"max_cost": "2"}}}, "run.budget.max_cost: must be a number, got '2'"),
        ({"run": {"budget": {"max_call": 3}}}, 'run.budget.max_call: unknown key max_call; did you mean "max_calls"?'),
        ({"run": {"timeout_seconds": 0}}, "run.timeout_seconds: must be > 0, got 0"),
        ({"run": {"durable": "yes"}}, "run.durable: must be true or false, got 'yes'"),
        ({"parallelism": 4, "run": {"parallelism": 4}}, "parallelism: is short for run.parallelism; give only one of them"),
        ({"vars": {"day": [date(2026, 11, 1)]}}, "vars.day[0]: must be text, a number, true, false, null, a list or a mapping; got date"),
        ({"run": {"parallelism": "x" * 80}}, f"run.parallelism: must be a whole number, got '{'x' * 56}…"),
        ({"run": {1: 2}}, "run[1]: keys must be strings, got 1"),
        ({"vars": {"a": {1: 2}}}, "vars.a: keys must be text, got 1"),
        ({"vars": {1: 2}}, "vars[1]: must be text, got 1"),
        ({"vars": {"a": float("nan")}}, "vars.a: must be a finite number, got nan"),
        ({"vars": {"a": [-(2**64)]}}, f"vars.a[0]: must be a whole number from -2^63 to 2^64 - 1, got -{2**64}"),
        ({"run": {"parallelism": 2**64}}, f"run.parallelism: must be a whole number from -2^63 to 2^64 - 1, got {2**64}"),
    ],
)
def test_a_mistake_gives_one_message(values: dict[str, Any], message: str) -> None:
    """Shorthands, unions and checks that depend on another key do not add messages that mean nothing to the reader."""
    assert refusal(job(**values)) == [message]


def test_objects_made_in_python_are_checked_like_files() -> None:
    """Mappings inside options objects and objects of other kinds do not slip through."""
    wrong: Any = {"max_attempts": 0}
    assert refusal(Job(dataset=object(), workflow="m:f", run=Run(retry=wrong))) == [
        "dataset: must be a mapping or text, got object",
        "run.retry.max_attempts: must be ≥ 1, got 0",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "job.yaml the job is empty"),
        (b"- a", "job.yaml:1:1 the job must be a mapping with dataset and workflow"),
        (b"a: \xff", "the job file job.yaml is not UTF-8 text: invalid start byte at byte 3"),
        (b"a: 'b", "job.yaml:1:6 not valid YAML: while scanning a quoted scalar: found unexpected end of stream"),
    ],
)
def test_files_that_hold_no_job_are_refused(content: bytes, message: str) -> None:
    """Whatever is in the file, the user gets a sentence and not a traceback."""
    Path("job.yaml").write_bytes(content)
    assert refusal("job.yaml") == [message]


def test_files_that_cannot_be_opened_are_refused() -> None:
    """A wrong path is a mistake in the job, with exit code 2 like any other."""
    assert refusal("no.yaml") == ["there is no job file no.yaml"]
    assert refusal(Path.cwd()) == [f"the job file {Path.cwd()} cannot be read: Is a directory"]


def test_problems_found_later_get_the_nearest_position() -> None:
    """The compiler knows paths, not lines; a path into a shorthand leads to the shorthand."""
    Path("job.yaml").write_text("dataset: data.csv\nworkflow:\n  nodes:\n    - {id: a, type: template, template: [x]}\n", encoding="utf-8")
    found = [
        Problem(("dataset", "filter"), "no such column"),
        Problem(("workflow", "nodes", 0, "template", 0, "x"), "no such node"),
        Problem((), "too late", "elsewhere"),
    ]
    assert str(locate(found, load_job("job.yaml"))).splitlines() == [
        "job.yaml:1:10 dataset.filter: no such column",
        "job.yaml:4:42 workflow.nodes[0].template[0].x: no such node",
        "elsewhere too late",
    ]


NESTING_TYPE = """
from __future__ import annotations
from dataclasses import dataclass
from typing import Literal
from batchrun.core.job import NodeOptions, Workflow

@dataclass(frozen=True, slots=True, kw_only=True)
class EachNode(NodeOptions):
    type: Literal["each"] = "each"
    each: Workflow

    def bind(self, compiler):
        return None
"""
NESTING_JOB = """
dataset: data.csv
workflow:
  nodes:
    - id: outer
      type: each
      each:
        nodes:
          - {id: inner, type: each, each: {nodes: [{id: leaf, type: python, call: 'm:f', whn: x, retry: {max_attempts: 0}}]}}
"""


def test_node_types_of_other_packages_may_contain_workflows(tmp_path: Path) -> None:
    """A node type found through its entry point is part of the union, also inside the workflows of nodes."""
    (tmp_path / "nesting.py").write_text(NESTING_TYPE, encoding="utf-8")
    (tmp_path / "job.yaml").write_text(NESTING_JOB, encoding="utf-8")
    info = tmp_path / "nesting-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nesting\nVersion: 1\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[batchrun.nodes]\neach = nesting:EachNode\n", encoding="utf-8")
    program = "from batchrun.config import *\njob_schema(), reference_page()\nload_job('job.yaml')"
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    where = "workflow.nodes[0].each.nodes[0].each.nodes[0]"
    assert ended.stderr.splitlines()[-2:] == [
        f'batchrun.core.errors.JobError: job.yaml:9:90 {where}.whn: unknown key whn; did you mean "when"?',
        f"job.yaml:9:120 {where}.retry.max_attempts: must be ≥ 1, got 0",
    ]
