"""An execution as it is seen from outside: by whoever lists it, looks at it, or asks something of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from batchrun.core.errors import ExecutionError
from batchrun.core.executions import Progress, ShownStatus
from batchrun.execution import control
from batchrun.execution.progress import PROGRESS_FIELDS, at_end
from batchrun.execution.pulse import Pulses
from batchrun.execution.record import Record
from batchrun.execution.tuning import tuning
from batchrun.results import Journal, ResultTotals
from batchrun.results.journal import is_locked
from batchrun.store import NoSuchExecution, Store, StoredExecution, StoreError

Answer: TypeAlias = Literal["requested", "done", "nothing"]
"""What became of a request: its process was asked; it was done at once; there was nothing to do any more."""

_IN_A_PROCESS = ("running", "finalizing")
_HAS_ENDED = ("completed", "cancelled", "rejected")
_pulses = Pulses()


def status_of(record: Mapping[str, Any], folder: Path, heartbeat_at: datetime | None) -> ShownStatus:
    """The status of an execution: what was written down last, or `interrupted` when the process that wrote it is gone.

    Args:
        record: the content of its execution.json.
        folder: its folder.
        heartbeat_at: when its process last told the store how far it is.
    """
    status: ShownStatus = record["status"]
    return "interrupted" if status in _IN_A_PROCESS and not _is_run(record, folder, heartbeat_at) else status


def progress_of(record: Mapping[str, Any], stored: StoredExecution | None) -> Progress:
    """How far an execution is: what its end says, else its last heartbeat.

    Args:
        record: the content of its execution.json.
        stored: what the store knows of it, if it does.
    """
    told = {name: value for name, value in stored.progress.items() if name in PROGRESS_FIELDS} if stored is not None else {}
    if record.get("totals") is None:
        return Progress(**told)
    lasted = {"elapsed_seconds": float(record.get("duration_seconds") or 0.0)}
    return at_end(Progress(**(lasted | told)), ResultTotals.from_plain(record["totals"]))


def stored_of(record: Mapping[str, Any], folder: Path) -> StoredExecution | None:
    """What the store of an execution knows of it; null when it knows nothing of this folder, or cannot be read."""
    found: list[StoredExecution] = []
    _with_store(record, lambda store: found.append(store.find(record["execution_id"])))
    return next((stored for stored in found if stored.folder == folder.resolve()), None)


def tell_store(record: Record) -> None:
    """List an execution that no process runs, as it is now."""
    _with_store(record.content, lambda store: store.save(record.content))


def cancel(folder: Path) -> Answer:
    """End an execution for good, as far as it has come. Asking again changes nothing.

    Raises:
        ExecutionError: the folder is none of an execution, or cannot be written to.
    """
    record, status = _look(folder)
    if status in _IN_A_PROCESS:
        _ask_to_cancel(record)
        record, status = _look(folder)
        if status in _IN_A_PROCESS:
            return "requested"  # a process looks for requests once more after it has written down its end
    if status in _HAS_ENDED:
        return "nothing"
    try:
        lock = Journal(folder)
    except ExecutionError:
        if not is_locked(folder):
            raise
        _ask_to_cancel(record)  # a process has just taken it on
        return "requested"
    try:
        return _cancel_unrun(Record.read(folder))
    finally:
        lock.close()


def pause(folder: Path) -> Answer:
    """Stop a running execution so that it can be resumed.

    Raises:
        ExecutionError: it is not running, or its folder cannot be written to.
    """
    _, status = _look(folder)
    if status == "paused":
        return "nothing"
    if status != "running":
        raise ExecutionError(f"{folder} is {status}: only a running execution can be paused")
    control.send(folder, "pause")
    return "requested"


def tune(folder: Path, settings: Mapping[str, Any] | Sequence[str]) -> None:
    """Change limits of a running execution.

    Args:
        folder: its folder.
        settings: the new values, such as `{"run.parallelism": 10}` or `["resources.api.max_concurrency=4"]`.

    Raises:
        JobError: a value is refused, or is not one that can change while items run.
        ExecutionError: the execution is not running, or its folder cannot be written to.
    """
    record, status = _look(folder)
    if status != "running":
        raise ExecutionError(f"{folder} is {status}: only a running execution can be tuned; give the new values to batchrun resume --set")
    tuning(record.content["job"], Path(record.content["job_folder"]), settings)
    control.send(folder, "tune", settings)


def _look(folder: Path) -> tuple[Record, ShownStatus]:
    record = Record.read(folder)
    stored = stored_of(record.content, folder)
    return record, status_of(record.content, folder, stored.heartbeat_at if stored is not None else None)


def _ask_to_cancel(record: Record) -> None:
    request = control.send(record.folder, "cancel")  # first: it must not wait for the store
    _with_store(record.content, lambda store: store.request_cancel(record.id, request.at))


def _cancel_unrun(record: Record) -> Answer:
    """Cancel an execution that nobody else can change meanwhile."""
    if record.status in _HAS_ENDED:
        return "nothing"
    at = datetime.now(UTC).isoformat()
    record.enter(
        "cancelled",
        "cancel",
        folder=str(record.folder.resolve()),  # where it may have been moved to
        cancel_requested_at=at,
        completed_at=record.content.get("completed_at") or at,
        stop_reason="cancel",
        error="cancelled while no process ran it",
    )
    control.clear(record.folder)
    tell_store(record)
    return "done"


def _is_run(record: Mapping[str, Any], folder: Path, heartbeat_at: datetime | None) -> bool:
    """Whether a process runs it. The lock knows; on another machine, where it may not reach, the heartbeat does."""
    is_taken = is_locked(folder)
    if is_taken or record.get("host") == os.uname().nodename:
        return bool(is_taken)
    return heartbeat_at is not None and _pulses.is_alive(record["execution_id"], heartbeat_at)


def _with_store(record: Mapping[str, Any], action: Callable[[Store], object]) -> None:
    """Do something with the store of an execution, if it can be done: an execution does not need it."""
    home = record.get("store")
    if home is not None:
        with suppress(StoreError, NoSuchExecution), Store(Path(home)) as store:
            action(store)
