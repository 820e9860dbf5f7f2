"""Preparing a job: everything that can be checked before the first item is."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from batchrun.config import load_job, locate
from batchrun.core.errors import JobError, Problem, known_values
from batchrun.core.job import Job, LoadedJob, Resource
from batchrun.core.secrets import Mask
from batchrun.datasets import ONE_VALUE, Source
from batchrun.execution.naming import Pinned, PinnedTable, open_dataset, pin
from batchrun.execution.outputs import keep_problems, output_problems, publish_problems
from batchrun.execution.secrets import secrets_of
from batchrun.execution.slices.refusing import slice_problems
from batchrun.net.connecting import located, warnings_about
from batchrun.workflows.compiler import Surroundings, compile_workflow
from batchrun.workflows.plan import Plan
from batchrun.workflows.services import filled_resources


class Sample(NamedTuple):
    """Items that are run before all others, chosen at random.

    Attributes:
        items: how many.
        seed: which ones follows from it.
    """

    items: int
    seed: int


class Compiled(NamedTuple):
    """What becomes of a job's workflow: see `Prepared`."""

    plan: Plan
    resources: Mapping[str, Resource]
    mask: Mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A job that was checked against its dataset, ready to run.

    Attributes:
        pinned: the version it reads of a named dataset or of a Delta table.
        resources: its named services as they are used, by name.
        mask: knows its secrets.
        sample: run these items and pause; null: run all.
    """

    loaded: LoadedJob
    source: Source
    plan: Plan
    pinned: Pinned | PinnedTable | None = None
    resources: Mapping[str, Resource] = field(default_factory=dict)
    mask: Mask = field(default_factory=Mask)
    sample: Sample | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What people must know before they run it."""
        return tuple(warnings_about(self.resources))

    @property
    def keep(self) -> tuple[str, ...]:
        """The source columns copied into the result."""
        return self.loaded.job.output.keep

    def explain(self) -> str:
        """What the scan reads and where the filter is applied, in polars' words."""
        return self.source.explain(self.plan.columns, self.keep)


def prepare(
    source: str | Path | Job | Mapping[str, Any],
    overrides: Mapping[str, Any] | Sequence[str] = (),
    *,
    folder: Path | None = None,
    home: Path | None = None,
) -> Prepared:
    """Load and check a job, its dataset and its workflow.

    Args:
        source: the job.
        overrides: values for fields of it.
        folder: what relative paths of a job without a file start from.
        home: the folder of the store with the named datasets; null: see `store_home`.

    Raises:
        JobError: with every mistake found, each with its place in the job file.
    """
    loaded = load_job(source, overrides, folder=folder)
    _extend_path(loaded.folder)
    problems: list[Problem] = []
    dataset = pinned = None
    try:
        loaded, pinned = pin(loaded, home)
        dataset = open_dataset(loaded.dataset, loaded.folder, pinned)
    except JobError as error:
        problems += error.problems
    columns = _columns(dataset, loaded, pinned)
    problems += [*keep_problems(loaded.job.output.keep, columns), *publish_problems(loaded.job.output), *slice_problems(loaded)]
    try:
        compiled = _compiled(loaded, columns)
        kept = {name: dataset.columns[name] if dataset is not None else "string" for name in loaded.job.output.keep if name in columns}
        problems += output_problems(loaded.job.output, compiled.plan.output_type, kept)
    except JobError as error:
        problems += error.problems
    if problems or dataset is None:
        raise locate(problems, loaded)
    return Prepared(loaded=loaded, source=dataset, pinned=pinned, **compiled._asdict())


def prepare_without_dataset(
    source: str | Path, overrides: Mapping[str, Any] | Sequence[str], columns: Sequence[str] | None
) -> tuple[LoadedJob, Compiled]:
    """Load a job and compile its workflow for items of these columns, whatever its dataset is.

    Null: for items that are one value each. That is the input field, a column named `input` where the job names none.

    Raises:
        JobError: with every mistake found, each with its place in the job file.
    """
    loaded = load_job(source, overrides)
    _extend_path(loaded.folder)
    field = loaded.dataset.input_field
    if columns is None:
        field = field or ONE_VALUE
        columns = (field,)
        loaded = replace(loaded, dataset=replace(loaded.dataset, input_field=field))
    if field is not None and field not in columns:
        message = f'unknown column "{field}"; {known_values(field, columns, kind="columns")}'
        raise locate([Problem(("dataset", "input_field"), message)], loaded)
    try:
        return loaded, _compiled(loaded, tuple(columns))
    except JobError as error:
        raise locate(error.problems, loaded) from None


def _compiled(loaded: LoadedJob, columns: tuple[str, ...]) -> Compiled:
    problems: list[Problem] = []
    secrets = secrets_of(loaded, problems.append)
    resources = located(filled_resources(loaded.job.resources, loaded.job.vars, secrets, problems.append), loaded.folder, problems.append)
    surroundings = Surroundings(
        columns=columns,
        input_field=loaded.dataset.input_field,
        vars=loaded.job.vars,
        secrets=secrets,
        resources=resources,
        run=loaded.run,
        inputs=loaded.dataset.inputs,
        folder=loaded.folder,
        prices=loaded.job.prices,
    )
    try:
        plan = compile_workflow(loaded.workflow, surroundings)
    except JobError as error:
        problems += error.problems
    if problems:
        raise JobError(problems)
    return Compiled(plan, resources, Mask(secrets.values()))


def _columns(dataset: Source | None, loaded: LoadedJob, pinned: Pinned | PinnedTable | None) -> tuple[str, ...]:
    """The columns references may read. Those of the files are known even when the dataset's options are wrong."""
    if dataset is None:
        try:
            plain = replace(loaded.dataset, id=None, input_field=None, filter=None, columns=None)
            dataset = open_dataset(plain, loaded.folder, pinned)
        except JobError:
            return _AnyColumns()
    return tuple(dataset.columns)


class _AnyColumns(tuple[str, ...]):
    """The columns of a dataset that cannot be opened: its own mistake is reported, not one for each reference."""

    __slots__ = ()

    def __contains__(self, column: object) -> bool:
        return True


def _extend_path(folder: Path) -> None:
    # At the end, so that a file of the job can never take the place of an installed module.
    for entry in (str(folder), str(Path.cwd())):
        if entry not in sys.path:
            sys.path.append(entry)
