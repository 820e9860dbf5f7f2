"""What a job would do and take, and a sample of its items run to know that."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from batchrun.client.running import run_here
from batchrun.client.starting import folder_of, new_folder
from batchrun.config import locate
from batchrun.core.checks import at_least, refuse
from batchrun.core.errors import Problem
from batchrun.core.job import Job
from batchrun.core.plans import JobPlan
from batchrun.execution import ExecutionRun, Record
from batchrun.execution.importable import refuse_local_functions
from batchrun.execution.planning import count_items, planned, with_sample
from batchrun.execution.prepare import Prepared, Sample, prepare
from batchrun.execution.sampled import SampleEvents

_ADVICE = (
    "what the sample gives is kept for whoever goes on with the rest, and that imports functions by name: move it to a module; "
    "or plan without a sample"
)


def plan(
    job: str | Path | Job,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    *,
    sample: int | None = None,
    seed: int = 0,
    quiet: bool = False,
) -> JobPlan:
    """Say what a job would read and do, and with `sample` run some of its items to say what the others take.

    The sample is the first part of an execution that pauses after it: `batchrun.resume(plan.sample.folder)` goes on with the rest, and no
    call is made twice. Without a sample nothing is run, and nothing is left behind.

    Args:
        job: as in `execute`. With a sample, its functions must be importable by their names.
        overrides: as in `execute`.
        sample: how many items to run, chosen at random; null: none.
        seed: which ones follows from it.
        quiet: show no progress.

    Raises:
        JobError: the job is refused; the error holds every mistake found. Nothing was run.
        InvalidFields: the sample has no items.
        ExecutionError: there is no space for copies of the dataset.

    Example:
        >>> plan = batchrun.plan("configs/quickstart.yaml", sample=50)  # doctest: +SKIP
        >>> plan.total_items, plan.rest.seconds.expected  # doctest: +SKIP
        (10000, 4.1)
        >>> batchrun.resume(plan.sample.folder)  # doctest: +SKIP
    """
    if sample is not None:
        refuse(at_least(1, sample=sample), at_least(0, seed=seed))
    with new_folder(job, overrides) as (source, execution_id, spooled):
        try:
            prepared = prepare(source, overrides)
            if sample is None:
                return planned(prepared, count_items(prepared))
        finally:
            if sample is None and spooled is not None:
                shutil.rmtree(spooled, ignore_errors=True)
        prepared = replace(prepared, sample=Sample(sample, seed))
        _refuse_unkept(prepared)
        return _sampled(prepared, execution_id, spooled or folder_of(prepared, execution_id), quiet=quiet)


def _sampled(prepared: Prepared, execution_id: str, folder: Path, *, quiet: bool) -> JobPlan:
    events = SampleEvents()
    execution = run_here(ExecutionRun(prepared, execution_id, folder, quiet=quiet), (events,))
    record = Record(folder, execution.record)
    return with_sample(planned(prepared, execution.progress.total_items), prepared, record, events)


def _refuse_unkept(prepared: Prepared) -> None:
    """Refuse a sample whose outputs would be lost."""
    if not prepared.loaded.run.durable:
        message = "must be true for a sample: what it gives is kept in the journal for the rest"
        raise locate([Problem(("run", "durable"), message)], prepared.loaded)
    refuse_local_functions(prepared.loaded, _ADVICE)
