"""Going on with an execution: its job from its record, and what must not have changed since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from batchrun.config import effective_job, load_job
from batchrun.core.errors import BatchrunError, JobError
from batchrun.core.job import LoadedJob
from batchrun.datasets import Loaded, Source
from batchrun.execution.comparing import Compared
from batchrun.execution.naming import file_changes, open_dataset, pin
from batchrun.execution.prepare import Prepared, prepare
from batchrun.execution.record import Record
from batchrun.nodes.placement import isolating
from batchrun.results import ResultLayout
from batchrun.workflows.fingerprint import described, differences, edited_nodes

_SHOWN = 5


class NothingToRetry(BatchrunError):
    """No item is one of those that a retry was to run again."""


class Retry(NamedTuple):
    """Which failed items are run again.

    Attributes:
        where: a SQL WHERE expression over the columns of the result; null: all of them.
        from_start: run all their nodes again, not only those that did not complete.
    """

    where: str | None
    from_start: bool


class Earlier(NamedTuple):
    """What an execution goes on from.

    Attributes:
        record: what was written down about it.
        accepts_changes: whether the workflow may have been edited since; items that are done keep their results.
        retry: run these items again, and no others; null: run what is not done.
        held: of what is not done, run these items, by ordinal, and no others: one of them may hold the interpreter for ever.
        compared: of a refresh that has not begun: what is to become of its items; null: that is not known yet.
    """

    record: Record
    accepts_changes: bool
    retry: Retry | None = None
    held: tuple[int, ...] = ()
    compared: Compared | None = None

    @property
    def runs_chosen(self) -> bool:
        """Whether items are chosen, and no others are run."""
        return self.retry is not None or bool(self.held)


def job_of(record: Record) -> dict[str, Any]:
    """The effective job of an earlier execution; its dataset is where it is now, if that is a copy in the folder of the execution.

    Raises:
        JobError: an old version of batchrun did not write it down.
    """
    job: dict[str, Any] | None = record.content.get("job")
    if job is None or not record.content.get("job_folder"):
        raise JobError([f"{record.folder} was written by a version of batchrun that did not keep its job; run its job file again"])
    path = Path(job["dataset"]["path"] or "")
    if path.parent == Path(record.content["folder"]):  # the copy of a data frame, which moves with the folder
        return {**job, "dataset": {**job["dataset"], "path": str(record.folder.resolve() / path.name)}}
    return job


def home_of(record: Record) -> Path | None:
    """The folder of the store that lists an execution; null when it is not there, as after a move to another machine."""
    home = record.content.get("store")
    return Path(home) if home and Path(home).is_dir() else None


def reopen(record: Record, overrides: Mapping[str, Any] | Sequence[str] = ()) -> Prepared:
    """Check the job of an earlier execution again, as it was run then.

    Args:
        record: its record.
        overrides: values that are different from now on, such as `["run.parallelism=4"]`.

    Raises:
        JobError: the job cannot be run as it is now.
    """
    job = job_of(record)
    if record.has_begun and not job["run"].get("durable", True):
        raise JobError([f"{record.folder} was run with run.durable: false, so nothing was kept to go on from; run its job again"])
    prepared = prepare(job, overrides, folder=Path(record.content["job_folder"]), home=home_of(record))
    if record.has_begun and not prepared.loaded.run.durable:
        raise JobError([f"run.durable: {record.folder} is run with a journal, which all that is done is in; it cannot go on without"])
    return prepared


def reopen_isolated(record: Record, overrides: Mapping[str, Any] | Sequence[str] = ()) -> Prepared:
    """The same, with functions in processes that would run in threads: there, a deadline ends them whatever they do.

    Raises:
        JobError: as above.
    """
    with isolating():
        return reopen(record, overrides)


def reopen_dataset(record: Record) -> tuple[LoadedJob, Source]:
    """The job of an earlier execution and its dataset, as it was read then.

    Raises:
        JobError: the dataset cannot be read any more.
    """
    loaded, pinned = pin(load_job(job_of(record), folder=Path(record.content["job_folder"])), home_of(record))
    return loaded, open_dataset(loaded.dataset, loaded.folder, pinned)


def identity(prepared: Prepared, items: Loaded, layout: ResultLayout) -> dict[str, Any]:
    """What must stay the same for as long as an execution lasts, as plain values for its record."""
    return {
        "dataset_fingerprint": prepared.source.fingerprint,
        "selection": items.selection,
        "workflow": described(prepared.plan),
        "columns": {field.name: str(field.type) for field in layout.schema},
    }


def check_unchanged(earlier: Earlier, prepared: Prepared, items: Loaded, layout: ResultLayout) -> frozenset[str]:
    """Compare what is to go on with what was begun. Returns the nodes that were edited, where that is accepted.

    Raises:
        JobError: naming each difference that is not accepted.
    """
    before, now = earlier.record.content, identity(prepared, items, layout)
    problems = list(_dataset_changes(before, now, prepared))
    if not problems:
        workflow = [difference.what for difference in differences(before["workflow"], prepared.plan)]
        if workflow and not earlier.accepts_changes:
            problems = [*workflow, "with --accept-changes it goes on all the same: items that are done keep their results"]
        elif before["columns"] != now["columns"]:
            changed = [name for name in {**before["columns"], **now["columns"]} if before["columns"].get(name) != now["columns"].get(name)]
            problems = [f"the columns of the result changed ({', '.join(changed)}), and one table cannot have both; run the job anew"]
    if problems:
        raise JobError([f"execution {before['execution_id']} cannot go on as it is:", *problems])
    return edited_nodes(before["workflow"], prepared.plan)


def _dataset_changes(before: Mapping[str, Any], now: Mapping[str, Any], prepared: Prepared) -> Iterator[str]:
    was, is_now = before["job"]["dataset"], effective_job(prepared.loaded)["dataset"]
    for key in {**was, **is_now}:
        if key != "path" and was.get(key) != is_now.get(key):
            yield f"dataset.{key} changed from {was.get(key)!r} to {is_now.get(key)!r}; an execution keeps its items, so run the job anew"
    if before["dataset_fingerprint"] != now["dataset_fingerprint"]:
        yield (
            f"the dataset {prepared.loaded.dataset.label} changed: its files are not those the execution began with"
            f"{_named(before, prepared)}; "
            f"put them back, or run the job anew"
        )
    elif before["selection"] != now["selection"]:
        yield f"the filter {prepared.loaded.dataset.filter!r} selects other rows than it did; run the job anew"


def _named(before: Mapping[str, Any], prepared: Prepared) -> str:
    """Which files changed, if they were written down."""
    changes = file_changes(before["dataset_files"], prepared.source) if before.get("dataset_files") else []
    shown = "; ".join(changes[:_SHOWN]) + (f"; and {len(changes) - _SHOWN:,} more" if len(changes) > _SHOWN else "")
    return f" ({shown})" if changes else ""
