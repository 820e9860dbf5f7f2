"""Executions in a process of their own, which goes on when the one that started it ends."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from batchrun.client.pauses import Pauses
from batchrun.client.spawning import Spawned, log_size, portable, spawn, why_it_ended
from batchrun.client.starting import DatasetVersion, end_unbegun, folder_of, new_folder, submit_again, undone
from batchrun.config import load_job, with_outputs
from batchrun.core.errors import BatchrunError, ExecutionError, JobError, Problem
from batchrun.core.job import Job
from batchrun.execution import Record, job_of, submitted
from batchrun.execution.importable import refuse_local_functions
from batchrun.execution.prepare import prepare
from batchrun.results.journal import is_locked
from batchrun.store import store_home

_LOOK_SECONDS = 0.05
_PIPE_BYTES = 65_536
_ADVICE = "a process of its own cannot import it: put it into a module, and name it there with the override workflow.nodes.ID.call"

_lost: dict[Path, str] = {}
"""Why executions never began that were submitted here, where that could not be written down."""


def submit(job: str | Path | Job, overrides: Mapping[str, Any] | Sequence[str], home: Path | None = None) -> Path:
    """Check a job and start a process that runs it; see `batchrun.submit`. Returns the folder of the execution.

    Args:
        job: the job.
        overrides: values for fields of it.
        home: the folder of the store; null: see `store_home`.

    Raises:
        JobError: the job is refused, or another process could not run it; nothing is left behind.
        ExecutionError: its folder cannot be written to, or no process can be started; nothing is left behind.
    """
    with new_folder(job, overrides) as (source, execution_id, spooled):
        prepared = prepare(source, overrides, home=home)
        refuse_local_functions(prepared.loaded)
        folder = spooled or folder_of(prepared, execution_id)
        with undone(folder):
            start(submitted(prepared, execution_id, folder, store=str((home or store_home()).absolute())))
    return folder


def rerun(
    folder: Path,
    overrides: Mapping[str, Any] | Sequence[str],
    dataset_version: DatasetVersion,
    outputs: Mapping[str, Any] | Sequence[str],
) -> Path:
    """Start a process that runs the job of an execution again; see `batchrun.rerun`. Returns the folder of the new execution.

    Raises:
        JobError: the job is refused, or the dataset is not the original one; nothing is left behind.
        ExecutionError: as above.
    """
    before = Record.read(folder)
    _refuse_local_functions(before, overrides, outputs)
    with submit_again(folder, overrides, dataset_version, outputs, _store_of(before)) as (_, record):
        start(record)
    return record.folder


def going_on(folder: Path, verb: str, options: Mapping[str, Any]) -> Pauses[None]:
    """Go on with an execution in a process of its own; ends when that process has begun, or found nothing to do.

    Args:
        folder: its folder.
        verb: `resume` or `retry`.
        options: of the function of this name.

    Raises:
        JobError: the process refuses the job as it is now.
        ExecutionError: the process cannot go on, or has ended early.
    """
    record, chosen = Record.read(folder), portable(options)
    _refuse_local_functions(record, chosen["overrides"])
    log_start, refusal = log_size(folder), b""
    reading, writing = os.pipe()
    try:
        os.set_blocking(reading, False)
        try:
            order = {"verb": verb, "status": record.status, "options": chosen}
            process = spawn(folder, order, home=_store_of(record), report=writing)
        finally:
            os.close(writing)
        while True:
            has_ended = process.code is not None  # asked first: what it did before its end is seen below
            if _has_begun(record, process):
                return
            with suppress(BlockingIOError):
                while part := os.read(reading, _PIPE_BYTES):
                    refusal += part
            if has_ended:
                break
            yield _LOOK_SECONDS
    finally:
        os.close(reading)
    if refusal:
        raise _error_of(refusal)
    if process.code:
        raise ExecutionError(f"{folder} does not go on: {why_it_ended(folder, process.code, log_start)}")


def why_lost(folder: Path) -> str | None:
    """Why the process that this one started for an execution is gone, though the execution is pending; null: it is not known to be."""
    return _lost.get(folder)


def start(record: Record) -> None:
    """Start a process that runs an execution which was submitted.

    Raises:
        ExecutionError: its folder cannot be written to, or no process can be started.
    """
    on_end = partial(_note_end, record.folder, log_size(record.folder))
    home = Path(record.content["store"])
    spawn(record.folder, {"verb": "run", "status": "pending", "options": {}}, home=home, on_end=on_end)


def _note_end(folder: Path, log_start: int, code: int) -> None:
    """Write down why an execution never began whose process could not say it."""
    try:
        end_unbegun(folder, "failed", why_it_ended(folder, code, log_start))
    except ExecutionError as error:
        if not is_locked(folder):  # else another process has it, or ends it at this moment
            _lost[folder] = f"{why_it_ended(folder, code, log_start)}\n{error}"


def _refuse_local_functions(
    record: Record, overrides: Mapping[str, Any] | Sequence[str], outputs: Mapping[str, Any] | Sequence[str] = ()
) -> None:
    """Say of functions that only an earlier process had what to do; that their modules do not have them would help nobody."""
    job = with_outputs(job_of(record), outputs)
    refuse_local_functions(load_job(job, overrides, folder=Path(record.content["job_folder"])), _ADVICE)


def _store_of(record: Record) -> Path | None:
    """The folder of the store that lists an execution; null when it is not there, as after a move to another machine."""
    home = Path(record.content.get("store") or store_home().absolute())
    return home if home.is_dir() else None


def _has_begun(before: Record, process: Spawned) -> bool:
    """Whether a process has taken the execution on since its record was read."""
    with suppress(BatchrunError):
        since = Record.read(before.folder).content["states"][len(before.content["states"]) :]
        return any(change["pid"] == process.pid and change["status"] == "running" for change in since)
    return False


def _error_of(refusal: bytes) -> BatchrunError:
    """What the process raised."""
    said = json.loads(refusal)
    if "problems" in said:
        return JobError(Problem(tuple(path), message, location) for path, message, location in said["problems"])
    return ExecutionError(said["error"])
