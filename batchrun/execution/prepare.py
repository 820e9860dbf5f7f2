"""Preparing a job: everything that can be checked before the first item is."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from batchrun.config import load_job, locate
from batchrun.core.errors import JobError, Problem, known_values
from batchrun.core.job import Job, LoadedJob
from batchrun.datasets import Source, open_source
from batchrun.results import RESULT_COLUMNS
from batchrun.workflow.compiler import Surroundings, compile_workflow
from batchrun.workflow.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A job that was checked against its dataset, ready to run."""

    loaded: LoadedJob
    source: Source
    plan: Plan

    @property
    def keep(self) -> tuple[str, ...]:
        """The source columns copied into the result."""
        return self.loaded.job.output.keep

    def explain(self) -> str:
        """What the scan reads and where the filter is applied, in polars' words."""
        return self.source.explain(self.plan.columns, self.keep)


def prepare(
    source: str | Path | Job | Mapping[str, Any], overrides: Mapping[str, Any] | Sequence[str] = (), *, folder: Path | None = None
) -> Prepared:
    """Load and check a job, its dataset and its workflow.

    Raises:
        JobError: with every mistake found, each with its place in the job file.
    """
    loaded = load_job(source, overrides, folder=folder)
    _extend_path(loaded.folder)
    problems: list[Problem] = []
    dataset = None
    try:
        dataset = open_source(loaded.dataset, loaded.folder)
    except JobError as error:
        problems += error.problems
    columns = _columns(dataset, loaded)
    problems += _keep_problems(loaded.job.output.keep, columns)
    try:
        plan = _compiled(loaded, columns)
    except JobError as error:
        problems += error.problems
    if problems or dataset is None:
        raise locate(problems, loaded)
    return Prepared(loaded=loaded, source=dataset, plan=plan)


def prepare_without_dataset(
    source: str | Path, overrides: Mapping[str, Any] | Sequence[str], columns: Sequence[str]
) -> tuple[LoadedJob, Plan]:
    """Load a job and compile its workflow for items of these columns, whatever its dataset is.

    Raises:
        JobError: with every mistake found, each with its place in the job file.
    """
    loaded = load_job(source, overrides)
    _extend_path(loaded.folder)
    field = loaded.dataset.input_field
    if field is not None and field not in columns:
        message = f'unknown column "{field}"; {known_values(field, columns, kind="columns")}'
        raise locate([Problem(("dataset", "input_field"), message)], loaded)
    try:
        return loaded, _compiled(loaded, tuple(columns))
    except JobError as error:
        raise locate(error.problems, loaded) from None


def _compiled(loaded: LoadedJob, columns: tuple[str, ...]) -> Plan:
    surroundings = Surroundings(
        columns=columns,
        input_field=loaded.dataset.input_field,
        vars=loaded.job.vars,
        resources=loaded.job.resources,
        run=loaded.run,
    )
    return compile_workflow(loaded.workflow, surroundings)


def _columns(dataset: Source | None, loaded: LoadedJob) -> tuple[str, ...]:
    """The columns references may read. Those of the files are known even when the dataset's options are wrong."""
    if dataset is None:
        try:
            dataset = open_source(replace(loaded.dataset, id=None, input_field=None, filter=None, columns=None), loaded.folder)
        except JobError:
            return _AnyColumns()
    return tuple(dataset.columns)


class _AnyColumns(tuple[str, ...]):
    """The columns of a dataset that cannot be opened: its own mistake is reported, not one for each reference."""

    __slots__ = ()

    def __contains__(self, column: object) -> bool:
        return True


def _keep_problems(keep: tuple[str, ...], columns: tuple[str, ...]) -> Iterator[Problem]:
    for index, column in enumerate(keep):
        path = ("output", "keep", index)
        if column not in columns:
            yield Problem(path, f'unknown column "{column}"; {known_values(column, columns, kind="columns")}')
        elif column in RESULT_COLUMNS:
            yield Problem(path, f'"{column}" is a column of the result itself; rename it with dataset.with_columns')


def _extend_path(folder: Path) -> None:
    # At the end, so that a file of the job can never take the place of an installed module.
    for entry in (str(folder), str(Path.cwd())):
        if entry not in sys.path:
            sys.path.append(entry)
