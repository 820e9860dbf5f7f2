"""What worker processes cannot do, said before the first item; and jobs in the form in which they can be handed to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from batchrun.core.errors import InvalidValue, Problem
from batchrun.core.job import Job, LoadedJob, NodeOptions, Workflow
from batchrun.core.policies import Budget
from batchrun.execution.importable import importable_name, why_not_importable
from batchrun.nodes.crossing import packed

_OR_LOCAL = "or take run.backend: processes out"
_NO_WORKERS = (
    "there are no worker processes with backend local: give run.backend: processes, or take processes out (--set run.processes=null)"
)
_FUNCTION = f"worker processes import functions by name: move it to a module, such as steps.py beside the job, {_OR_LOCAL}"


def slice_problems(loaded: LoadedJob) -> list[Problem]:
    """What of a job cannot be done by worker processes, if it asks for them; and what is for them, if it does not."""
    if loaded.run.backend != "processes":
        return [Problem(("run", "processes"), _NO_WORKERS)] if loaded.run.processes is not None else []
    problems = [*_shared(loaded), *_of_nodes(loaded.workflow, ("workflow",))]
    if not problems:
        try:
            packed(portable_job(loaded), "the job")
        except InvalidValue as error:
            problems.append(Problem(("run", "backend"), f"{error}; give other values, {_OR_LOCAL}"))
    return problems


def portable_job(loaded: LoadedJob) -> LoadedJob:
    """A job without what only this process has: its functions by their names, and no data.

    Args:
        loaded: a job without problems.
    """
    workflow = _portable(loaded.workflow)
    job: Job = replace(loaded.job, workflow=workflow, dataset=loaded.dataset)
    return replace(loaded, job=job, workflow=workflow, positions={})


def _shared(loaded: LoadedJob) -> Iterator[Problem]:
    if loaded.job.resources:
        name = next(iter(loaded.job.resources))
        message = "is shared by all items, and worker processes would each keep its limits for themselves: call services from one process"
        yield Problem(("resources", name), f"{message}; {_OR_LOCAL}")
    if loaded.run.budget != Budget():
        message = "is counted over all calls, before each of them, which worker processes cannot: give run.failure_policy or dataset.limit"
        yield Problem(("run", "budget"), f"{message}, {_OR_LOCAL}")


def _of_nodes(workflow: Workflow, path: tuple[str | int, ...]) -> Iterator[Problem]:
    for position, options in enumerate(workflow.nodes):
        here = (*path, "nodes", position)
        if options.dedupe:
            yield Problem((*here, "dedupe"), f"items of several worker processes cannot share a call: use cache: true, {_OR_LOCAL}")
        if getattr(options, "placement", None) == "process":
            yield Problem((*here, "in"), f"the items run in worker processes already: take in: process out, {_OR_LOCAL}")
        for name, value in _fields(options):
            if isinstance(value, Workflow):
                yield from _of_nodes(value, (*here, name))
            elif (callable(value) or (name == "call" and isinstance(value, str))) and (reason := why_not_importable(value)):
                yield Problem((*here, name), f"{reason}; {_FUNCTION}")


def _portable(workflow: Workflow) -> Workflow:
    return replace(workflow, nodes=tuple(map(_portable_node, workflow.nodes)))


def _portable_node(options: NodeOptions) -> NodeOptions:
    changed: dict[str, Any] = {}
    for name, value in _fields(options):
        if isinstance(value, Workflow):
            changed[name] = _portable(value)
        elif callable(value):
            changed[name] = importable_name(value)
    return replace(options, **changed) if changed else options


def _fields(options: NodeOptions) -> Iterator[tuple[str, Any]]:
    return ((field.name, getattr(options, field.name)) for field in fields(options) if field.init)
