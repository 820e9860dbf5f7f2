"""Running jobs: in this process, or in one of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from batchrun.client import detached
from batchrun.client.execution import Execution
from batchrun.client.starting import DatasetVersion, folder_of, new_folder, submit_again
from batchrun.client.view import Ended
from batchrun.config import with_inputs
from batchrun.core.errors import ExecutionError, JobError
from batchrun.core.executions import Stop
from batchrun.core.job import Job
from batchrun.execution import Earlier, ExecutionRun, Listener, NothingToRetry, Outcome, Record, Retry, reopen
from batchrun.execution.held import held_items
from batchrun.execution.prepare import prepare
from batchrun.execution.resume import reopen_isolated

Listeners: TypeAlias = Listener | Sequence[Listener]


def execute(
    job: str | Path | Job,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    *,
    quiet: bool = False,
    on_event: Listeners = (),
    inputs: Mapping[str, Any] = MappingProxyType({}),
) -> Execution:
    """Run a job and wait for its end.

    Args:
        job: a job file, or a `Job`. The dataset of a `Job` may be a path, a list, or a data frame (polars, pyarrow, or anything that
            speaks the Arrow stream protocol); its workflow may be a plain function of one item.
        overrides: values for fields of the job by their path, such as `{"run.parallelism": 64}`; or in the form of the command
            line, such as `["run.parallelism=64"]`.
        quiet: show no progress.
        on_event: is told what happens: functions of one event, sync or async; `OpenTelemetry()`, `Prometheus(port=9464)`; or several.
        inputs: values and templates for inputs of nodes, by the node's label, its id or `node_id::input`, as in `dataset.inputs`.

    Raises:
        JobError: the job is refused; the error holds every mistake found. Nothing was run.
        ExecutionError: there is no space for a copy of the dataset. Nothing was run.

    Example:
        >>> execution = execute("configs/quickstart.yaml", overrides={"dataset.limit": 100})  # doctest: +SKIP
        >>> execution.results.num_rows  # doctest: +SKIP
        100
    """
    overrides = with_inputs(overrides, inputs)
    with new_folder(job, overrides) as (source, execution_id, spooled):
        prepared = prepare(source, overrides)
        return run_here(ExecutionRun(prepared, execution_id, spooled or folder_of(prepared, execution_id), quiet=quiet), on_event)


def submit(job: str | Path | Job, overrides: Mapping[str, Any] | Sequence[str] = ()) -> Execution:
    """Check a job and run it in a process of its own, which goes on when this one ends. Returns at once.

    Args:
        job: as in `execute`; its functions must be importable by their names. A data frame is copied into the execution's folder.
        overrides: as in `execute`.

    Raises:
        JobError: the job is refused, or has functions that another process cannot import. Nothing was started.
        ExecutionError: the folder of the execution cannot be written to, or no process can be started.

    Example:
        >>> execution = submit("configs/quickstart.yaml")  # doctest: +SKIP
        >>> execution.wait(timeout_seconds=300)  # doctest: +SKIP
        'completed'
    """
    return Execution(detached.submit(job, overrides))


def resume(
    folder: str | Path,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    *,
    accept_changes: bool = False,
    quiet: bool = False,
    on_event: Listeners = (),
) -> Execution | None:
    """Go on with an execution that was killed, stopped or broken off, and wait for its end.

    Items that are done stay as they are; the others go on after the last of their nodes that ended.

    Args:
        folder: the execution's folder, or a copy of it.
        overrides: values that are different from now on, as in `execute`: limits, parallelism, a larger budget.
        accept_changes: go on though the workflow was edited. Edited nodes and all after them run again in items that are not done.
        quiet: show no progress.
        on_event: is told what happens: functions of one event, sync or async; `OpenTelemetry()`, `Prometheus(port=9464)`; or several.

    Returns:
        The execution; null when it had completed before and there was nothing to do.

    Raises:
        JobError: the dataset, the items or the workflow are not what they were; the error names each difference. Nothing was run.
        ExecutionError: there is no execution in the folder, another process runs it, or its job was refused.

    Example:
        >>> resume("runs/20261101T093000-0a1b2c3d4e", {"run.budget.max_calls": 20_000})  # doctest: +SKIP
    """
    return resumed(Record.read(Path(folder).resolve()), overrides, accept_changes=accept_changes, quiet=quiet, on_event=on_event)


def resumed(
    record: Record,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    *,
    accept_changes: bool = False,
    quiet: bool = False,
    on_event: Listeners = (),
) -> Execution | None:
    """Go on with an execution that is still as its record says; see `resume`.

    Raises:
        ExecutionError: as `resume`, and when another process has taken it on since.
        JobError: as `resume`.
    """
    if record.status == "completed":
        return None
    if record.status == "rejected":
        reasons = record.content.get("error")
        raise ExecutionError(f"{record.folder} was refused and cannot go on: {reasons}\nput that right, and run its job again")
    prepared, earlier = reopen(record, overrides), Earlier(record, accept_changes)
    if held := held_items(record.folder):
        first = ExecutionRun(reopen_isolated(record, overrides), record.id, record.folder, quiet=quiet, earlier=earlier._replace(held=held))
        execution = run_here(first, on_event)
        if not first.leaves_others:
            return execution
        earlier = Earlier(Record.read(record.folder), accepts_changes=False)
    return run_here(ExecutionRun(prepared, record.id, record.folder, quiet=quiet, earlier=earlier), on_event)


def retry(  # noqa: PLR0913 - what it runs, how, and who is told
    folder: str | Path,
    where: str | None = None,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    *,
    from_start: bool = False,
    accept_changes: bool = False,
    quiet: bool = False,
    on_event: Listeners = (),
) -> Execution | None:
    """Run failed items again into the same result, and wait for the end. Items that have not ended stay as they are.

    The outputs of nodes that completed are kept, attempts add up, and call keys are new. May be done as often as wanted,
    also after the execution has completed.

    Args:
        folder: the execution's folder, or a copy of it.
        where: a SQL expression over the columns of the result, such as `"error.type = 'Timeout'"`; null: all failed items.
        overrides: values that are different from now on, as in `execute`.
        from_start: run all nodes of these items again, not only those that did not complete.
        accept_changes: go on though the workflow was edited. Edited nodes and all after them run again in these items.
        quiet: show no progress.
        on_event: is told what happens: functions of one event, sync or async; `OpenTelemetry()`, `Prometheus(port=9464)`; or several.

    Returns:
        The execution; null when no failed item matches and nothing was done.

    Raises:
        JobError: `where` is refused, or the dataset, the items or the workflow are not what they were. Nothing was run.
        ExecutionError: there is no execution in the folder, or another process runs it.

    Example:
        >>> retry("runs/20261101T093000-0a1b2c3d4e", "error.type = 'Timeout'")  # doctest: +SKIP
    """
    record = Record.read(Path(folder).resolve())
    try:
        options = {"from_start": from_start, "accept_changes": accept_changes, "quiet": quiet}
        return retried(record, where, overrides, **options, on_event=on_event)
    except NothingToRetry:
        return None


def retried(  # noqa: PLR0913 - as `retry`
    record: Record,
    where: str | None = None,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    *,
    from_start: bool = False,
    accept_changes: bool = False,
    quiet: bool = False,
    on_event: Listeners = (),
) -> Execution:
    """Run failed items of an execution again that is still as its record says; see `retry`.

    Raises:
        NothingToRetry: no failed item matches; nothing has changed.
        ExecutionError: as `retry`, and when another process has taken it on since.
        JobError: as `retry`.
    """
    if not record.has_begun:
        raise NothingToRetry(f"no item of {record.folder} has failed: it is {record.status} and has not begun")
    earlier = Earlier(record, accept_changes, Retry(where, from_start))
    return run_here(ExecutionRun(reopen(record, overrides), record.id, record.folder, quiet=quiet, earlier=earlier), on_event)


def rerun(
    folder: str | Path,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    *,
    dataset_version: DatasetVersion = "latest",
    outputs: Mapping[str, Any] | Sequence[str] = (),
    quiet: bool = False,
    on_event: Listeners = (),
) -> Execution:
    """Run the job of an execution again, as a new execution, and wait for its end.

    Args:
        folder: the execution's folder, or a copy of it.
        overrides: values that are different this time, as in `execute`.
        dataset_version: `latest`: the dataset as it is now; `original`: only if it is what it was.
        outputs: outputs of nodes that are not called this time, by node id; or in the form of the command line, such as
            `["nodes.classify.output=refund"]`.
        quiet: show no progress.
        on_event: is told what happens: functions of one event, sync or async; `OpenTelemetry()`, `Prometheus(port=9464)`; or several.

    Raises:
        JobError: the job is refused, or the dataset is not the original one. Nothing was run.
        ExecutionError: there is no execution in the folder.

    Example:
        >>> rerun("runs/20261101T093000-0a1b2c3d4e", {"vars.model": "large"}, outputs={"clean": "x"})  # doctest: +SKIP
    """
    with submit_again(Path(folder).resolve(), overrides, dataset_version, outputs) as (prepared, record):
        run = ExecutionRun(prepared, record.id, record.folder, quiet=quiet, earlier=Earlier(record, accepts_changes=False))
        return run_here(run, on_event)


def map(
    function: Callable[..., Any],
    dataset: Any,
    *,
    parallelism: int | None = None,
    quiet: bool = False,
    on_event: Listeners = (),
    **sections: Any,
) -> Execution:
    """Run a function over every row of a dataset.

    Args:
        function: takes one item, a dict of the row's columns; sync or async.
        dataset: a path, a `Dataset`, a data frame, or a list: of dicts, which are rows, or of other values, which the function gets as
            they are.
        parallelism: items worked on at once; null: as `Run` says, 16 if it does not.
        quiet: show no progress.
        on_event: is told what happens: functions of one event, sync or async; `OpenTelemetry()`, `Prometheus(port=9464)`; or several.
        **sections: further fields of `Job`, such as `output=Output(keep=("name",))`.

    Example:
        >>> execution = map(lambda item: item["a"] + 1, pl.DataFrame({"a": [1, 2]}), quiet=True)  # doctest: +SKIP
        >>> execution.results["output"].to_pylist()  # doctest: +SKIP
        ['2', '3']
        >>> map(str.upper, ["a", "b"], quiet=True).results["output"].to_pylist()  # doctest: +SKIP
        ['"A"', '"B"']
    """
    return execute(Job(dataset=dataset, workflow=function, parallelism=parallelism, **sections), quiet=quiet, on_event=on_event)


def run_here(run: ExecutionRun, on_event: Listeners) -> Execution:
    """Run an execution in this process to its end, and on for as long as persons decide about its items meanwhile."""
    listeners = run.listeners = tuple(on_event) if isinstance(on_event, Sequence) else (on_event,)
    outcome = _outside_of_loops(run)
    while outcome.status == "waiting" and run.has_decisions:  # persons have decided meanwhile
        prepared, record = run.prepared, Record.read(run.folder)
        with suppress(JobError):  # of functions that only this process can call
            prepared = reopen(record)  # limits may have been tuned since
        run = ExecutionRun(prepared, record.id, record.folder, quiet=run.is_quiet, earlier=Earlier(record, accepts_changes=False))
        run.listeners = listeners
        outcome = _outside_of_loops(run)
    return Execution(run.folder, ended=Ended(run.record, run.progress, outcome))


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
