"""What there is of an execution before it begins: an id, a folder, a copy of its data frame."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from batchrun.config import with_outputs
from batchrun.core.errors import ExecutionError, JobError
from batchrun.core.ids import new_execution_id
from batchrun.core.job import Dataset, Job
from batchrun.datasets import spool_frame
from batchrun.execution import Prepared, Record, job_of, prepare, submitted
from batchrun.results.files import explained

DatasetVersion: TypeAlias = Literal["latest", "original"]

_COPY = "dataset.parquet"
"""The copy of a data frame, in the folder of its execution."""


@contextmanager
def new_folder(job: str | Path | Job) -> Iterator[tuple[str | Path | Job, str, Path | None]]:
    """What to prepare, a new execution id, and the folder with the copy of the data frame, if there is one; removed after an error."""
    execution_id = new_execution_id()
    if not isinstance(job, Job) or isinstance(job.dataset, str | Path | Dataset):
        yield job, execution_id, None
        return
    folder = Path.cwd() / job.output.path / execution_id
    with undone(folder):
        yield _with_copy(job, folder), execution_id, folder


def _with_copy(job: Job, folder: Path) -> Job:
    """The job with the data frame as a file in a folder."""
    try:
        folder.mkdir(mode=0o700, parents=True)
        spool_frame(job.dataset, folder / _COPY)
    except TypeError as error:
        raise JobError([f"dataset: {error}"]) from None
    except OSError as error:
        raise JobError([f"cannot write the data frame to {folder}: {error.strerror}; choose another output.path"]) from None
    return replace(job, dataset=Dataset(path=str(folder / _COPY)))


@contextmanager
def submit_again(
    folder: Path,
    overrides: Mapping[str, Any] | Sequence[str],
    dataset_version: DatasetVersion,
    outputs: Mapping[str, Any] | Sequence[str],
) -> Iterator[tuple[Prepared, Record]]:
    """A new execution of the job of the one in `folder`, ready to be run; removed after an error. See `rerun`.

    Raises:
        JobError: the job is refused, or the dataset is not the original one.
        ExecutionError: there is no execution in the folder, or there is no room for another one.
    """
    before, execution_id = Record.read(folder), new_execution_id()
    job, base = with_outputs(job_of(before), outputs), Path(before.content["job_folder"])
    prepared = prepare(job, overrides, folder=base)
    if dataset_version == "original" and prepared.source.fingerprint != before.content["dataset_fingerprint"]:
        raise JobError([f"the dataset {prepared.loaded.dataset.path} is not what it was for {before.id}: its files have changed"])
    again = folder_of(prepared, execution_id)
    with undone(again):
        if Path(job["dataset"]["path"]) == folder / _COPY:
            with explained(again):
                again.mkdir(mode=0o700, parents=True)
                shutil.copyfile(folder / _COPY, again / _COPY)
            prepared = prepare({**job, "dataset": {**job["dataset"], "path": str(again / _COPY)}}, overrides, folder=base)
        yield prepared, submitted(prepared, execution_id, again, rerun_of=before.id)


@contextmanager
def undone(folder: Path) -> Iterator[None]:
    """Remove the folder of an execution when the block raises before the execution has begun."""
    with ExitStack() as undo:
        undo.callback(_remove, folder)
        yield
        undo.pop_all()


def _remove(folder: Path) -> None:
    with suppress(ExecutionError):
        if Record.read(folder).has_begun:
            return
    shutil.rmtree(folder, ignore_errors=True)


def folder_of(prepared: Prepared, execution_id: str) -> Path:
    """Where the files of a new execution go."""
    return (prepared.loaded.folder / prepared.loaded.job.output.path / execution_id).resolve()
