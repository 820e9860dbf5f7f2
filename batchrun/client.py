"""The Python API: run jobs and read their results."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from batchrun.core.errors import JobError
from batchrun.core.executions import ExecutionStatus, Progress, Stop
from batchrun.core.ids import new_execution_id
from batchrun.core.job import Dataset, Job
from batchrun.datasets import spool_frame
from batchrun.execution import Earlier, ExecutionRun, Outcome, Record, prepare, reopen
from batchrun.results import ResultTotals, read_results, scan_results


class Execution:
    """One execution of a job: how it ended, and its result.

    Example:
        >>> execution = batchrun.execute("configs/quickstart.yaml")  # doctest: +SKIP
        >>> execution.status, execution.progress.failed_items  # doctest: +SKIP
        ('completed', 0)

    Attributes:
        id: the execution id; it sorts by time.
        folder: where its files are.
        progress: its counters.
        record: the content of its execution.json.
    """

    def __init__(self, run: ExecutionRun, outcome: Outcome) -> None:
        self.id = run.execution_id
        self.folder = run.folder
        self.progress: Progress = run.progress
        self.record: Mapping[str, Any] = run.record
        self._outcome = outcome

    @property
    def status(self) -> ExecutionStatus:
        """`completed`, even with failed items; `paused` when it was stopped; `failed` when a policy or a fault ended it."""
        return self._outcome.status

    @property
    def error(self) -> str | None:
        """Why the execution did not complete; null when it did."""
        return self._outcome.error or (self._outcome.stop.message if self._outcome.stop else None)

    @property
    def stop_reason(self) -> str | None:
        """What told the execution to stop: signal, rule, stuck or failure_policy; null when nothing did."""
        return self._outcome.stop.reason if self._outcome.stop else None

    @property
    def has_succeeded(self) -> bool:
        """Whether every item was processed and none failed."""
        return self.status == "completed" and self.progress.failed_items == 0

    @property
    def is_paused(self) -> bool:
        """Whether it was stopped before its last item, by a person or a retry rule."""
        return self.status == "paused"

    @property
    def duration_seconds(self) -> float:
        """From the check of the items to the finished result."""
        return self._outcome.duration_seconds

    @property
    def totals(self) -> ResultTotals | None:
        """Counters, node statistics and grouped failures; null when there is no result."""
        return self._outcome.totals

    @property
    def has_stuck_threads(self) -> bool:
        """Whether calls still hang in threads that nothing can end; they are gone when the process ends."""
        return self._outcome.has_stuck_threads

    @property
    def results(self) -> pa.Table:
        """The result: one row per item, sorted by `item_index`. Read from the file each time.

        Raises:
            ExecutionError: the execution broke before it had a result.
        """
        return read_results(self.folder)

    def results_frame(self) -> pl.LazyFrame:
        """The result as a polars frame that reads only what is asked of it."""
        return scan_results(self.folder)

    @property
    def failures(self) -> pa.Table:
        """The rows of the result that failed. Their source rows are in failures.parquet."""
        results = self.results
        return results.filter(pc.equal(results["status"].cast(pa.string()), "failed"))

    def __repr__(self) -> str:
        shown = self.progress
        return f"<Execution {self.id} {self.status}: {shown.processed_items} of {shown.total_items} items, {shown.failed_items} failed>"


def execute(job: str | Path | Job, overrides: Mapping[str, Any] | Sequence[str] = (), *, quiet: bool = False) -> Execution:
    """Run a job and wait for its end.

    Args:
        job: a job file, or a `Job`. The dataset of a `Job` may be a path or a data frame (polars, pyarrow, or anything that speaks
            the Arrow stream protocol); its workflow may be a plain function of one item.
        overrides: values for fields of the job by their path, such as `{"run.parallelism": 64}`; or in the form of the command
            line, such as `["run.parallelism=64"]`.
        quiet: show no progress.

    Raises:
        JobError: the job is refused; the error holds every mistake found. Nothing was run.
        ExecutionError: there is no space for a copy of the dataset. Nothing was run.

    Example:
        >>> execution = execute("configs/quickstart.yaml", overrides={"dataset.limit": 100})  # doctest: +SKIP
        >>> execution.results.num_rows  # doctest: +SKIP
        100
    """
    execution_id = new_execution_id()
    spooled = _spool(job, execution_id) if isinstance(job, Job) and not isinstance(job.dataset, str | Path | Dataset) else None
    outcome = None
    try:
        prepared = prepare(spooled[0] if spooled else job, overrides)
        folder = spooled[1] if spooled else (prepared.loaded.folder / prepared.loaded.job.output.path / execution_id).resolve()
        run = ExecutionRun(prepared, execution_id, folder, quiet=quiet)
        outcome = _outside_of_loops(run)
    finally:
        if spooled and outcome is None:
            shutil.rmtree(spooled[1], ignore_errors=True)
    return Execution(run, outcome)


def resume(
    folder: str | Path,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    *,
    accept_changes: bool = False,
    quiet: bool = False,
) -> Execution | None:
    """Go on with an execution that was killed, stopped or broken off, and wait for its end.

    Items that are done stay as they are; the others go on after the last of their nodes that ended.

    Args:
        folder: the execution's folder, or a copy of it.
        overrides: values that are different from now on, as in `execute`: limits, parallelism, a larger budget.
        accept_changes: go on though the workflow was edited. Edited nodes and all after them run again in items that are not done.
        quiet: show no progress.

    Returns:
        The execution; null when it had completed before and there was nothing to do.

    Raises:
        JobError: the dataset, the items or the workflow are not what they were; the error names each difference. Nothing was run.
        ExecutionError: there is no execution in the folder, or another process runs it.

    Example:
        >>> resume("runs/20261101T093000-0a1b2c3d4e", {"run.budget.max_calls": 20_000})  # doctest: +SKIP
    """
    folder = Path(folder).resolve()
    record = Record.read(folder)
    if record.content.get("status") == "completed":
        return None
    run = ExecutionRun(
        reopen(folder, record, overrides), record.content["execution_id"], folder, quiet=quiet, earlier=Earlier(record, accept_changes)
    )
    return Execution(run, _outside_of_loops(run))


def map(function: Callable[..., Any], dataset: Any, *, parallelism: int | None = None, quiet: bool = False, **sections: Any) -> Execution:
    """Run a function over every row of a dataset.

    Args:
        function: takes one item, a dict of the row's columns; sync or async.
        dataset: a path, a `Dataset` or a data frame.
        parallelism: items worked on at once; null: as `Run` says, 16 if it does not.
        quiet: show no progress.
        **sections: further fields of `Job`, such as `output=Output(keep=("name",))`.

    Example:
        >>> execution = map(lambda item: item["a"] + 1, pl.DataFrame({"a": [1, 2]}), quiet=True)  # doctest: +SKIP
        >>> execution.results["output"].to_pylist()  # doctest: +SKIP
        ['2', '3']
    """
    return execute(Job(dataset=dataset, workflow=function, parallelism=parallelism, **sections), quiet=quiet)


def _spool(job: Job, execution_id: str) -> tuple[Job, Path]:
    """Write the data frame of a job into the folder of its execution."""
    folder = Path.cwd() / job.output.path / execution_id
    try:
        folder.mkdir(mode=0o700, parents=True)
        spool_frame(job.dataset, folder / "dataset.parquet")
    except TypeError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise JobError([f"dataset: {error}"]) from None
    except OSError as error:
        raise JobError([f"cannot write the data frame to {folder}: {error.strerror}; choose another output.path"]) from None
    return replace(job, dataset=Dataset(path=str(folder / "dataset.parquet"))), folder


def _outside_of_loops(run: ExecutionRun) -> Outcome:
    """Run in this thread, or in one of its own where an event loop is running already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run.run()
    with ThreadPoolExecutor(1, thread_name_prefix="batchrun-run") as threads:
        future = threads.submit(run.run)
        try:
            return future.result()
        except KeyboardInterrupt:
            run.stop(Stop("signal", "stopped by KeyboardInterrupt"))
            return future.result()
