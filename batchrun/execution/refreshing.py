"""Planning a refresh: the execution it goes on from, what changed since, and that nobody else is at it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from batchrun.config import effective_job, locate
from batchrun.core.errors import ExecutionError, JobError, Problem
from batchrun.core.ids import is_execution_id
from batchrun.core.refreshes import AlreadyRefreshing, RefreshPlan
from batchrun.datasets import Loaded
from batchrun.execution.account import status_of
from batchrun.execution.comparing import Compared, compare
from batchrun.execution.naming import Pinned, refuse_changes
from batchrun.execution.prepare import Prepared
from batchrun.execution.record import Record
from batchrun.results import RESULT_FILE
from batchrun.results.files import explained
from batchrun.results.inputs import INPUTS_FILE
from batchrun.store import ExecutionQuery, Store
from batchrun.workflows.fingerprint import differences

_SELECTION = ("filter", "limit", "sample")
_SOON = timedelta(seconds=60)

_locks: set[int] = set()


def _leave_locks() -> None:
    """A child that was forked must not keep the lock when this process is gone."""
    while _locks:
        os.close(_locks.pop())


os.register_at_fork(after_in_child=_leave_locks)


@contextmanager
def alone(name: str, home: Path) -> Iterator[list[str]]:
    """Be the only one that refreshes a job, for as long as the block lasts. Gives notes for people.

    The lock ends with the process. Refreshes that run in processes of their own count as well.

    Args:
        name: of the job.
        home: the folder of the store.

    Raises:
        AlreadyRefreshing: another refresh of the job is at work.
        ExecutionError: the lock file cannot be made.
        StoreError: the store cannot be read.
    """
    folder = home / "locks"
    path = folder / f"refresh-{blake2b(name.encode(errors='surrogateescape'), digest_size=8).hexdigest()}.lock"
    with explained(path):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    _locks.add(lock)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.pread(lock, 200, 0).decode(errors="replace") or "another process"
            raise AlreadyRefreshing(f"{name} is being refreshed by {owner}: nothing is done") from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()} on {os.uname().nodename}".encode(), 0)
        yield list(_others(name, home))
    finally:
        if lock in _locks:
            _locks.discard(lock)
            os.close(lock)


def _others(name: str, home: Path) -> Iterator[str]:
    """Notes about refreshes of a job that have not ended; refuses to go on beside one that is at work."""
    with Store.open(home) as store:
        listed = store.executions(ExecutionQuery(job=name, status=("pending", "running", "finalizing")))
    for stored in listed:
        if stored.job_name != name or "refresh" not in stored.record or not stored.folder.is_dir():
            continue
        status = status_of(stored.record, stored.folder, stored.heartbeat_at)
        is_fresh = datetime.now(UTC) - stored.created_at < _SOON  # a process of its own is about to take it on
        if status in ("running", "finalizing") or (status == "pending" and is_fresh):
            raise AlreadyRefreshing(f"{name} is being refreshed by {stored.id}: nothing is done")
        yield f"the refresh {stored.id} is {status}: batchrun resume {stored.id} goes on with what it has done; this is another one"


def last_good(prepared: Prepared, home: Path) -> Record | None:
    """The execution that a refresh goes on from: the newest completed one of the job that wrote down what its rows were made from.

    One of the same folder is preferred to others of the same name, and one with the same filter, limit and sample to one without.

    Args:
        prepared: the job.
        home: the folder of the store.

    Raises:
        JobError: the dataset has no id column, so no row can be found again.
        StoreError: the store cannot be read.
    """
    if prepared.loaded.dataset.id is None:
        message = "is needed for a refresh: it names the column by which the rows of now and of then are matched; without it, run the job"
        raise locate([Problem(("dataset", "id"), message)], prepared.loaded)
    name = prepared.loaded.name
    with Store.open(home) as store:
        folders = [stored.folder for stored in store.executions(ExecutionQuery(job=name, status=("completed",)))]
    return _best(folders, prepared) or _best(_folders_in(prepared.loaded.folder / prepared.loaded.job.output.path), prepared)


def _folders_in(runs: Path) -> list[Path]:
    """The folders of executions, newest first."""
    with suppress(OSError):
        return sorted((path for path in runs.iterdir() if is_execution_id(path.name)), reverse=True)
    return []


def _best(folders: list[Path], prepared: Prepared) -> Record | None:
    found: dict[tuple[bool, bool], Record] = {}
    now = effective_job(prepared.loaded)["dataset"]
    for folder in folders:
        with suppress(ExecutionError):
            content = (record := Record.read(folder)).content
            if not _is_good(record, prepared):
                continue
            was = content["job"]["dataset"]
            is_selected_alike = all(was.get(key) == now.get(key) for key in _SELECTION)
            found.setdefault((content.get("job_folder") == str(prepared.loaded.folder), is_selected_alike), record)
            if (True, True) in found:
                break
    return found[max(found)] if found else None


def _is_good(record: Record, prepared: Prepared) -> bool:
    content: dict[str, Any] = record.content
    has_files = all((record.folder / name).is_file() for name in (INPUTS_FILE, RESULT_FILE))
    is_described = all(content.get(key) is not None for key in ("workflow", "columns", "job"))
    is_of_job = content["job_name"] == prepared.loaded.name and record.status == "completed"
    return is_of_job and has_files and is_described and content["job"]["dataset"].get("id") == prepared.loaded.dataset.id


def plan_of(prepared: Prepared, base: Record | None) -> tuple[RefreshPlan, Compared | None]:
    """What a refresh of a job would do. Reads the dataset; writes nothing that stays.

    Args:
        prepared: the job.
        base: the execution it goes on from; null: there is none.

    Returns:
        The plan; and what was compared, where it was necessary to compare rows.

    Raises:
        JobError: the items are refused, such as duplicate ids.
        ExecutionError: the dataset or the earlier execution cannot be read.
    """
    with TemporaryDirectory(prefix="batchrun-refresh-") as folder:
        try:
            if isinstance(prepared.pinned, Pinned):
                refuse_changes(prepared.pinned.version, prepared.source)
            spool = Path(folder)
            items = prepared.source.load(prepared.plan.columns, prepared.keep, spool=spool / "spool", rejects=spool / "rejects.parquet")
        except JobError as error:
            raise locate(error.problems, prepared.loaded) from None
        if base is None:
            return RefreshPlan(base_id=None, total_items=items.total_items, full_items=items.total_items), None
        if _is_all_the_same(prepared, items, base):
            count = items.total_items
            return RefreshPlan(base_id=base.id, total_items=count, full_items=0, reused_items=count), None
        compared = compare(prepared, items, base)
        return compared.plan, compared


def _is_all_the_same(prepared: Prepared, items: Loaded, base: Record) -> bool:
    """Whether it is plain without a look at any row that nothing has changed."""
    content, dataset = base.content, prepared.loaded.dataset
    before, now = content["job"]["dataset"], effective_job(prepared.loaded)["dataset"]
    keys = {"name", "path", "version"}  # where the files are says nothing about what is in them
    return (
        not dataset.with_columns  # which may say something else today
        and {key: value for key, value in before.items() if key not in keys}
        == {key: value for key, value in now.items() if key not in keys}
        and content.get("selection") == items.selection
        and tuple(content["job"]["output"].get("keep") or ()) == prepared.keep
        and not differences(content["workflow"], prepared.plan)
        and not content.get("accepted_edits")
        and (content.get("totals") or {}).get("failed_items") == 0
        and content.get("dataset_fingerprint") == prepared.source.fingerprint
    )
