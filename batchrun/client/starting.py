"""What there is of an execution before it begins: an id, a folder, a copy of its data frame."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from batchrun.config import load_job, with_outputs
from batchrun.core.errors import ExecutionError, JobError
from batchrun.core.executions import ExecutionStatus, StopReason
from batchrun.core.ids import new_execution_id
from batchrun.core.job import Dataset, Job
from batchrun.datasets import frame_of_values, spool_frame
from batchrun.execution import Record, home_of, job_of, submitted
from batchrun.execution.account import tell_store
from batchrun.execution.prepare import Prepared, prepare
from batchrun.results import Journal
from batchrun.results.files import explained
from batchrun.store import Store, StoreError, store_home

DatasetVersion: TypeAlias = Literal["latest", "original"]

_COPY = "dataset.parquet"
"""The copy of a data frame, in the folder of its execution."""


@contextmanager
def new_folder(job: str | Path | Job, overrides: Mapping[str, Any] | Sequence[str]) -> Iterator[tuple[str | Path | Job, str, Path | None]]:
    """What to prepare, a new execution id, and the folder with the copy of the data frame, if there is one; removed after an error."""
    execution_id = new_execution_id()
    if not isinstance(job, Job) or isinstance(job.dataset, str | Path | Dataset):
        yield job, execution_id, None
        return
    checked = load_job(replace(job, dataset=Dataset(path=_COPY)), overrides)  # before the copy is made, and to know where it goes
    folder = (checked.folder / checked.job.output.path / execution_id).resolve()
    with undone(folder):
        yield _with_copy(job, folder), execution_id, folder


def _with_copy(job: Job, folder: Path) -> Job:
    """The job with the data frame as a file in a folder."""
    try:
        frame, field = frame_of_values(job.dataset)
        folder.mkdir(mode=0o700, parents=True)
        spool_frame(frame, folder / _COPY)
    except TypeError as error:
        raise JobError([f"dataset: {error}"]) from None
    except OSError as error:
        if error.errno is None:  # from inside of the frame: a lazy one is run here
            raise JobError([f"dataset: the data frame cannot be read: {error}"]) from None
        raise JobError([f"cannot write the data frame to {folder}: {error.strerror}; choose another output.path"]) from None
    return replace(job, dataset=Dataset(path=str(folder / _COPY), input_field=field))


@contextmanager
def submit_again(
    folder: Path,
    overrides: Mapping[str, Any] | Sequence[str],
    dataset_version: DatasetVersion,
    outputs: Mapping[str, Any] | Sequence[str],
    home: Path | None = None,
) -> Iterator[tuple[Prepared, Record]]:
    """A new execution of the job of the one in `folder`, ready to be run; removed after an error. See `rerun`.

    It is listed in the store in the folder `home`; null: see `store_home`.

    Raises:
        JobError: the job is refused, or the dataset is not the original one.
        ExecutionError: there is no execution in the folder, or there is no room for another one.
    """
    before, execution_id = Record.read(folder), new_execution_id()
    job, base = with_outputs(_asked_again(before, dataset_version), outputs), Path(before.content["job_folder"])
    prepared = prepare(job, overrides, folder=base, home=home or home_of(before))
    _check_version(dataset_version, prepared, before)
    again = folder_of(prepared, execution_id)
    with undone(again):
        if Path(job["dataset"]["path"] or "") == folder / _COPY:
            with explained(again):
                again.mkdir(mode=0o700, parents=True)
                shutil.copyfile(folder / _COPY, again / _COPY)
            prepared = prepare({**job, "dataset": {**job["dataset"], "path": str(again / _COPY)}}, overrides, folder=base)
        about = {"rerun_of": before.id, "store": str((home or store_home()).absolute())}
        if dataset_version == "original" and (wanted := before.content.get("dataset_version_wanted")) is not None:
            about["dataset_version_wanted"] = wanted  # a later rerun with the latest one looks for that again
        yield prepared, submitted(prepared, execution_id, again, **about)


def _asked_again(before: Record, dataset_version: str) -> dict[str, Any]:
    """The job of an execution; with `latest` its dataset is called what it was called then: a tag or a date may mean another version."""
    job, wanted = job_of(before), before.content.get("dataset_version_wanted")
    return job if wanted is None or dataset_version != "latest" else {**job, "dataset": {**job["dataset"], "version": wanted}}


def _check_version(dataset_version: str, prepared: Prepared, before: Record) -> None:
    if dataset_version not in get_args(DatasetVersion):
        raise JobError([f"unknown dataset_version {dataset_version!r}; it is latest or original"])
    if dataset_version == "latest":
        return
    original = before.content.get("dataset_fingerprint")
    if original is None:
        raise JobError([f"{before.id} never began, so it is not known what its dataset was; run it again with the latest one"])
    if prepared.source.fingerprint != original:
        raise JobError([f"the dataset {prepared.loaded.dataset.label} is not what it was for {before.id}: its files have changed"])


@contextmanager
def undone(folder: Path) -> Iterator[None]:
    """Remove the folder of an execution when the block raises before the execution has begun."""
    with ExitStack() as undo:
        undo.callback(_remove, folder)
        yield
        undo.pop_all()


def _remove(folder: Path) -> None:
    with suppress(ExecutionError):
        record = Record.read(folder)
        if record.has_begun:
            return
        with suppress(StoreError), Store(Path(record.content["store"])) as store:
            store.remove(record.id)
    shutil.rmtree(folder, ignore_errors=True)


def end_unbegun(folder: Path, status: ExecutionStatus, error: str, reason: StopReason | None = None) -> None:
    """Write down why an execution that was submitted ended before it began, unless a process has taken it on meanwhile.

    Raises:
        ExecutionError: it cannot be written down, or a process has the execution.
    """
    if Record.read(folder).status != "pending":
        return
    lock = Journal(folder)
    try:
        record = Record.read(folder)  # as it is while nobody else can change it
        if record.status == "pending":
            record.enter(status, reason, error=error, stop_reason=reason)
            tell_store(record)
    finally:
        lock.close()


def folder_of(prepared: Prepared, execution_id: str) -> Path:
    """Where the files of a new execution go."""
    return (prepared.loaded.folder / prepared.loaded.job.output.path / execution_id).resolve()
