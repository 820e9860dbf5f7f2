"""An execution as it is seen from outside: by whoever lists it, looks at it, or asks something of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias

from batchrun.core.errors import ExecutionError
from batchrun.core.executions import Progress, ShownStatus
from batchrun.execution import control
from batchrun.execution.record import Record
from batchrun.execution.tuning import tuning
from batchrun.results import Journal, ResultTotals
from batchrun.results.journal import is_locked
from batchrun.store import NoSuchExecution, Store, StoredExecution, StoreError

Answer: TypeAlias = Literal["requested", "done", "nothing"]
"""What became of a request: its process was asked; it was done at once; there was nothing to do any more."""

_IN_A_PROCESS = ("running", "finalizing")
_HEARTBEAT_LASTS = timedelta(seconds=30)


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
    known = {field.name for field in fields(Progress)}
    told = {name: value for name, value in stored.progress.items() if name in known} if stored is not None else {}
    totals = record.get("totals")
    if totals is not None:
        counters = ResultTotals.from_plain(totals).counters()
        told |= {name: count for name, count in counters.items() if name in known} | {"open_items": 0}
    return Progress(**told)


def stored_of(record: Mapping[str, Any], folder: Path) -> StoredExecution | None:
    """What the store of an execution knows of it; null when it knows nothing of this folder, or cannot be read."""
    found: list[StoredExecution] = []
    _with_store(record, lambda store: found.append(store.find(record["execution_id"])))
    return next((stored for stored in found if stored.folder == folder), None)


def tell_store(record: Record) -> None:
    """List an execution that no process runs, as it is now."""
    _with_store(record.content, lambda store: store.save(record.content))


def cancel(folder: Path) -> Answer:
    """End an execution for good, as far as it has come. Asking again changes nothing.

    Raises:
        ExecutionError: the folder is none of an execution, or cannot be written to.
    """
    record = Record.read(folder)
    status = _status(record, folder)
    if status in ("completed", "cancelled", "rejected"):
        return "nothing"
    if status in _IN_A_PROCESS:
        _with_store(record.content, lambda store: store.request_cancel(record.content["execution_id"], datetime.now(UTC)))
        control.send(folder, "cancel")
        return "requested"
    lock = Journal(folder)
    try:
        record = Record.read(folder)  # as it is while nobody else can change it
        at = datetime.now(UTC).isoformat()
        record.enter("cancelled", "cancel", cancel_requested_at=at, stop_reason="cancel", error="cancelled while no process ran it")
    finally:
        lock.close()
    tell_store(record)
    return "done"


def pause(folder: Path) -> Answer:
    """Stop a running execution so that it can be resumed.

    Raises:
        ExecutionError: it is not running, or its folder cannot be written to.
    """
    status = _status(Record.read(folder), folder)
    if status == "paused":
        return "nothing"
    if status not in _IN_A_PROCESS:
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
    record = Record.read(folder)
    status = _status(record, folder)
    if status not in _IN_A_PROCESS:
        raise ExecutionError(f"{folder} is {status}: only a running execution can be tuned; give the new values to batchrun resume --set")
    tuning(record.content["job"], Path(record.content["job_folder"]), settings)
    control.send(folder, "tune", settings)


def _status(record: Record, folder: Path) -> ShownStatus:
    stored = stored_of(record.content, folder)
    return status_of(record.content, folder, stored.heartbeat_at if stored is not None else None)


def _is_run(record: Mapping[str, Any], folder: Path, heartbeat_at: datetime | None) -> bool:
    """Whether a process runs it. The lock knows; on another machine, where it may not reach, the heartbeat does."""
    is_taken = is_locked(folder)
    if is_taken or record.get("host") == os.uname().nodename:
        return bool(is_taken)
    return heartbeat_at is not None and abs(datetime.now(UTC) - heartbeat_at) < _HEARTBEAT_LASTS


def _with_store(record: Mapping[str, Any], action: Callable[[Store], object]) -> None:
    """Do something with the store of an execution, if it can be done: an execution does not need it."""
    home = record.get("store")
    if home is not None:
        with suppress(StoreError, NoSuchExecution), Store(Path(home)) as store:
            action(store)
