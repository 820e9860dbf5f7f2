"""Refreshing jobs: running what changed since the last good execution, and reusing the rest."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from batchrun.client.detached import start
from batchrun.client.execution import Execution
from batchrun.client.running import Listeners, run_here
from batchrun.client.starting import folder_of, undone
from batchrun.core.errors import JobError
from batchrun.core.ids import new_execution_id
from batchrun.core.job import Dataset, Job
from batchrun.core.refreshes import RefreshPlan
from batchrun.execution import Earlier, ExecutionRun, Record, submitted
from batchrun.execution.comparing import Compared
from batchrun.execution.importable import refuse_local_functions
from batchrun.execution.prepare import Prepared, prepare
from batchrun.execution.refreshing import alone, last_good, plan_of
from batchrun.store import store_home


class _Planned(NamedTuple):
    """A refresh that may begin.

    Attributes:
        prepared: its job.
        base: the execution it goes on from; null: there is none.
        plan: what it will do.
        compared: the same by item, where that is known.
    """

    prepared: Prepared
    base: Record | None
    plan: RefreshPlan
    compared: Compared | None

    @property
    def current(self) -> Execution | None:
        """The execution whose result is what a new one would give; null: there is none."""
        return Execution(self.base.folder) if self.base is not None and not self.plan.has_work else None


def refresh(
    job: str | Path | Job,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    *,
    quiet: bool = False,
    on_event: Listeners = (),
    on_plan: Callable[[RefreshPlan], None] | None = None,
) -> Execution:
    """Run what changed since the last good execution of a job, reuse the rest, and wait for the end.

    The result is that of a new execution, with a row for each item of the dataset as it is now. Rows that were taken over name the
    execution that made them in `reused_from`. Without an earlier execution, all items run. See docs/refresh.md.

    Args:
        job: a job file, or a `Job` whose dataset is a path or a `Dataset`; `dataset.id` names the column that rows are matched by.
        overrides: values for fields of the job, as in `execute`.
        quiet: show neither the plan nor progress.
        on_event: is told what happens, as in `execute`.
        on_plan: is told what will be done and why, before it begins; null: it is written to standard error.

    Returns:
        The new execution; the earlier one when nothing changed, and then nothing was run.

    Raises:
        JobError: the job is refused, such as one without `dataset.id`. Nothing was run.
        AlreadyRefreshing: another refresh of the job is at work. Nothing was run.
        ExecutionError: the earlier execution cannot be read, or there is no room for a new one.

    Example:
        >>> execution = refresh("configs/quickstart.yaml", {"dataset.id": "id"})  # doctest: +SKIP
        >>> execution.progress.reused_items, execution.record["refresh_of"]  # doctest: +SKIP
        (985, '20261101T093000-0a1b2c3d4e')
    """
    with _planned(job, overrides, store_home()) as planned:
        if on_plan is not None:
            on_plan(planned.plan)
        elif not quiet:
            _show(planned.plan)
        if planned.current is not None:
            return planned.current
        with _new(planned, store_home()) as record:
            earlier = Earlier(record, accepts_changes=False, compared=planned.compared)
            return run_here(ExecutionRun(planned.prepared, record.id, record.folder, quiet=quiet, earlier=earlier), on_event)


def plan_refresh(job: str | Path | Job, overrides: Mapping[str, Any] | Sequence[str] = ()) -> RefreshPlan:
    """What `refresh` would do now, and why. Nothing is run.

    Args:
        job: as in `refresh`.
        overrides: as in `refresh`.

    Raises:
        JobError: as `refresh`.
        AlreadyRefreshing: as `refresh`.
        ExecutionError: the earlier execution cannot be read.

    Example:
        >>> plan_refresh("configs/quickstart.yaml", {"dataset.id": "id"}).text  # doctest: +SKIP
        '12 new, 3 changed → 15 items in full, 985 items reused'
    """
    with _planned(job, overrides, store_home()) as planned:
        return planned.plan


def refresh_detached(
    job: str | Path | Job,
    overrides: Mapping[str, Any] | Sequence[str],
    home: Path,
    on_plan: Callable[[RefreshPlan], None] | None = None,
) -> Path:
    """Start a process that runs what changed; see `refresh`. Returns the folder of the execution that has, or will have, the result.

    Args:
        job: as in `refresh`.
        overrides: as in `refresh`.
        home: the folder of the store.
        on_plan: is told what will be done and why, before the process is started.

    Raises:
        JobError: the job is refused, or has functions that another process cannot import. Nothing was started.
        AlreadyRefreshing: another refresh of the job is at work. Nothing was started.
        ExecutionError: as `refresh`, or no process can be started.
    """
    with _planned(job, overrides, home) as planned:
        refuse_local_functions(planned.prepared.loaded)
        if on_plan is not None:
            on_plan(planned.plan)
        if planned.current is not None:
            return planned.current.folder
        with _new(planned, home) as record:
            start(record)
            return record.folder


@contextmanager
def _planned(job: str | Path | Job, overrides: Mapping[str, Any] | Sequence[str], home: Path) -> Iterator[_Planned]:
    """Find out what a refresh has to do; nobody else refreshes the job before the block has ended."""
    if isinstance(job, Job) and not isinstance(job.dataset, str | Path | Dataset):
        raise JobError(["dataset: a refresh compares files that change; give a path and an id: Dataset(path=…, id=…), not a data frame"])
    prepared = prepare(job, overrides, home=home)
    with alone(prepared.loaded.name, home) as notes:
        base = last_good(prepared, home)
        plan, compared = plan_of(prepared, base)
        yield _Planned(prepared, base, replace(plan, notes=(*plan.notes, *notes)), compared)


@contextmanager
def _new(planned: _Planned, home: Path) -> Iterator[Record]:
    """A new execution, listed and ready to run; removed after an error."""
    execution_id = new_execution_id()
    folder = folder_of(planned.prepared, execution_id)
    base = planned.base
    about = {**asdict(planned.plan), "base_folder": None if base is None else str(base.folder.resolve())}
    with undone(folder):
        refresh_of = None if base is None else base.id
        yield submitted(planned.prepared, execution_id, folder, refresh_of=refresh_of, refresh=about, store=str(home.absolute()))


def _show(plan: RefreshPlan) -> None:
    sys.stderr.write("".join(f"{line}\n" for line in (*plan.notes, plan.text)))
