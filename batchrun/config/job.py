"""From a job file, or a job made in Python, to the checked job, and back to plain values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from pydantic_core import ValidationError

from batchrun.config.adapter import job_validator
from batchrun.config.overrides import apply_overrides, remove
from batchrun.config.problems import problems_of
from batchrun.config.source import Source, ValuePath, located, nearest, plain
from batchrun.config.yaml_source import read_yaml
from batchrun.core.dataset_names import short_reference, split_reference
from batchrun.core.errors import JobError, Problem
from batchrun.core.job import Dataset, Job, LoadedJob, Run, Workflow
from batchrun.workflows.functions import NodeFunction, PythonWorkflow

_OWN_OPTIONS = ("retry", "timeout_seconds", "cache", "dedupe", "placement", "max_output_bytes", "resource", "secrets")


def load_job(
    source: str | Path | Job | Mapping[str, Any],
    overrides: Mapping[str, Any] | Sequence[str] = (),
    *,
    folder: Path | None = None,
) -> LoadedJob:
    """Read a job, set the overrides in it, and check it.

    Args:
        source: a YAML file, a `Job`, or the mapping `effective_job` made.
        overrides: values by path, `{"run.parallelism": 64}`, or as on the command line, `["run.parallelism=64"]`. A node
            is named by its id or its index: `workflow.nodes.classify.timeout_seconds`. Null is null where the key
            allows it; elsewhere it removes the value.
        folder: what relative paths start from when `source` is not a file; null: the working directory.

    Raises:
        JobError: with every mistake found, each with its place.

    Example:
        >>> load_job(Job(dataset="tickets.csv", workflow="my_project.tickets:triage"), {"parallelism": 4}).run.parallelism
        4
    """
    file = Path(source) if isinstance(source, str | Path) else None
    raw = _from_python(source) if isinstance(source, Job | Mapping) else _read(Path(source), str(source))
    if not isinstance(raw.value, dict):
        what = "is empty" if raw.value is None else "must be a mapping with dataset and workflow"
        raise JobError([*raw.problems, Problem((), f"the job {what}", raw.positions.get((), str(file) if file else None))])
    function = _write_out(raw)
    nulls = apply_overrides(raw, overrides)
    function = _write_out(raw) or function
    job = _checked(raw, nulls)
    name = job.name or (file.stem if file else function) or "job"
    job = replace(job, name=name)
    return LoadedJob(
        job=job,
        name=name,
        dataset=cast("Dataset", job.dataset),
        workflow=cast("Workflow", job.workflow),
        run=job.run,
        folder=(file.parent if file else folder or Path()).resolve(),
        file=file,
        positions=raw.positions,
    )


def effective_job(loaded: LoadedJob) -> dict[str, Any]:
    """The whole job as plain values that can be written as JSON; functions become `module:qualname`.

    `load_job` makes the same job of it again, as long as every function can be imported by its name.
    """
    job: dict[str, Any] = plain(loaded.job, _function_name)
    return job


def locate(problems: Iterable[Problem], loaded: LoadedJob) -> JobError:
    """The error for problems found after loading, each with the position of its value, else of the nearest one around it."""
    return JobError(located(problem, loaded.positions) for problem in problems)


def _read(file: Path, name: str) -> Source:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise JobError([f"there is no job file {name}"]) from error
    except UnicodeDecodeError as error:
        raise JobError([f"the job file {name} is not UTF-8 text: {error.reason} at byte {error.start}"]) from error
    except OSError as error:
        raise JobError([f"the job file {name} cannot be read: {error.strerror}"]) from error
    return read_yaml(text, name)


def _from_python(job: Job | Mapping[str, Any]) -> Source:
    value = plain(job)
    # A Run always has a parallelism; one that was left at its default does not contradict the short form.
    both = isinstance(job, Job) and job.parallelism is not None and isinstance(value["run"], dict)
    if both and value["run"].get("parallelism") == Run().parallelism:
        del value["run"]["parallelism"]
    return Source(value=value)


def _write_out(source: Source) -> str | None:
    """Write the short forms of dataset, workflow and parallelism in full. Returns the id of the function that was the workflow."""
    job = source.value
    _write_out_dataset(job)
    workflow, function = job.get("workflow"), None
    if isinstance(workflow, str) or callable(workflow):
        function = _node_id(workflow)
        job["workflow"] = {"nodes": [{"id": function, "type": "python", "call": workflow, **_own_options(source, workflow)}]}
    if job.get("parallelism") is not None and isinstance(run := job.setdefault("run", {}), dict):
        if "parallelism" in run:
            source.problems.append(Problem(("parallelism",), "is short for run.parallelism; give only one of them"))
        else:
            run["parallelism"] = job["parallelism"]
            source.move(("parallelism",), ("run", "parallelism"))
        del job["parallelism"]
    return function


def _write_out_dataset(job: dict[str, Any]) -> None:
    dataset = job.get("dataset")
    if isinstance(dataset, str):
        short = short_reference(dataset)
        job["dataset"] = {"path": dataset} if short is None else {"name": short[0], "version": short[1]}
    elif isinstance(dataset, dict) and isinstance(dataset.get("name"), str) and "@" in dataset["name"] and dataset.get("version") is None:
        dataset["name"], dataset["version"] = split_reference(dataset["name"])


def _own_options(source: Source, function: str | Callable[..., Any]) -> dict[str, Any]:
    """What the decorator of a function says of its calls, as keys of a node."""
    if not isinstance(function, NodeFunction | PythonWorkflow):
        return {}
    options = function.options
    if options.fallback is not None:
        source.problems.append(
            Problem(("workflow",), f"{function.name} has a fallback: call it in another workflow, or give a node of a job its on_failure")
        )
    said = {"in" if name == "placement" else name: getattr(options, name) for name in _OWN_OPTIONS}
    return {name: plain(value) for name, value in said.items() if value is not None}


def _node_id(function: str | Callable[..., Any]) -> str:
    if isinstance(function, NodeFunction | PythonWorkflow):
        name = function.name
    else:
        name = function.rpartition(":")[2] if isinstance(function, str) else getattr(function, "__name__", type(function).__name__)
    words = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "function"
    return f"_{words}" if words[0].isdecimal() else words


def _function_name(function: Callable[..., Any]) -> str:
    named: Any = function if hasattr(function, "__qualname__") else type(function)
    of_type = getattr(named, "__objclass__", None)  # str.upper and its like name no module
    return f"{getattr(named, '__module__', None) or getattr(of_type, '__module__', 'builtins')}:{named.__qualname__}"


def _checked(source: Source, nulls: set[ValuePath]) -> Job:
    job, problems = _validated(source)
    refused = nulls & {problem.path for problem in problems}
    if refused:
        for path in refused:
            remove(source, path)
        job, problems = _validated(source)
    unread = {problem.path for problem in source.problems}
    problems = [*source.problems, *(problem for problem in problems if problem.path not in unread)]
    if job is None or problems:
        order = {path: number for number, path in enumerate(source.positions)}
        problems.sort(key=lambda problem: order.get(nearest(problem.path, order), 0))
        raise JobError(located(problem, source.positions) for problem in problems)
    return job


def _validated(source: Source) -> tuple[Job | None, list[Problem]]:
    try:
        return job_validator().validate_python(source.value), []
    except ValidationError as error:
        return None, problems_of(error, source.keys)
