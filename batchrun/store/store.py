"""Reading and changing the list of executions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import orjson

from batchrun.core.errors import BatchrunError
from batchrun.store.database import Database, StoreError, damaged, store_home
from batchrun.store.records import SELECT, ExecutionQuery, Row, StoredExecution, row_of, storable, stored, time_text

_SHOWN = 5
_NEWEST_FIRST = "ORDER BY created_at DESC, execution_id DESC LIMIT ?"
_BEGINNING = "WHERE execution_id >= ? AND execution_id < ? ORDER BY execution_id LIMIT ?"
_AFTER_EVERY_TEXT = "\U0010ffff"

# A process that lost its execution to a later epoch no longer changes what the list says of it; a copied folder may go on from an
# earlier epoch. A request to cancel is kept until a later process goes on, though the running one may not know of it yet.
_PUT = """
    INSERT INTO executions (execution_id, epoch, job_name, status, stop_reason, error, folder, host, pid,
                            created_at, started_at, completed_at, cancel_requested_at, record)
    VALUES (:execution_id, :epoch, :job_name, :status, :stop_reason, :error, :folder, :host, :pid,
            :created_at, :started_at, :completed_at, :cancel_requested_at, :record)
    ON CONFLICT (execution_id) DO UPDATE SET
        cancel_requested_at = CASE WHEN epoch = excluded.epoch AND folder = excluded.folder
            THEN coalesce(cancel_requested_at, excluded.cancel_requested_at) ELSE excluded.cancel_requested_at END,
        epoch = excluded.epoch, job_name = excluded.job_name, status = excluded.status, stop_reason = excluded.stop_reason,
        error = excluded.error, folder = excluded.folder, host = excluded.host, pid = excluded.pid,
        created_at = excluded.created_at, started_at = excluded.started_at, completed_at = excluded.completed_at,
        record = excluded.record
    WHERE excluded.epoch >= epoch OR excluded.folder <> folder
"""


class NoSuchExecution(BatchrunError):
    """What was typed names no execution, or more than one. The message names those that come near."""


class Store:
    """The list of executions, in one SQLite file shared by every process of this machine.

    It is an index: the truth about an execution is its folder, so the file may be deleted at any time and rebuilt. It
    is made by the first write; without it every list is empty. A store is for one thread at a time.

    Args:
        home: the folder of the file.

    Attributes:
        path: the file.

    Example:
        >>> with Store.open() as store:
        ...     for execution in store.executions(ExecutionQuery(status=("running",))):
        ...         print(execution.id, execution.progress)
    """

    def __init__(self, home: Path) -> None:
        self._database = Database(home)
        self.path = self._database.path

    @classmethod
    def open(cls, home: Path | None = None) -> Store:
        """Open the store, and bring a file of an earlier version up to date.

        Args:
            home: the folder of the file; see `store_home`.

        Raises:
            StoreError: there is a file that cannot be read, is damaged, or was written by a newer version.
        """
        store = cls(home or store_home())
        store._database.read("SELECT 1 FROM executions LIMIT 0")
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def save(self, record: Mapping[str, Any]) -> None:
        """List an execution, or change what is listed of it.

        The heartbeat and the progress stay, and so does a request to cancel while the epoch is the same. The record of
        an earlier epoch of the same folder changes nothing: the last process to take an execution speaks for it.

        Args:
            record: the content of its `execution.json`.

        Raises:
            StoreError: the file cannot be written, or the record lacks what every execution has.
        """
        row = row_of(record)
        with self._database.transaction():
            self._put(row)

    def beat(self, execution_id: str, progress: Mapping[str, Any] | None, at: datetime | None = None) -> bool:
        """Say that an execution is alive, and how far it is.

        Args:
            execution_id: which one.
            progress: values for JSON; null: as it was.
            at: when; null: now.

        Returns:
            Whether it is listed. It is not after the file was deleted; the next `save` lists it again.

        Raises:
            StoreError: the file cannot be written, or the progress is not JSON.
        """
        try:
            told = None if progress is None else orjson.dumps(progress).decode()
        except TypeError as error:
            raise StoreError(f"cannot store the progress of execution {execution_id}: {error}; it may hold what JSON has") from error
        sql = "UPDATE executions SET heartbeat_at = ?, progress = coalesce(?, progress) WHERE execution_id = ?"
        return self._database.write(sql, (time_text(at or datetime.now(UTC)), told, execution_id)) > 0

    def request_cancel(self, execution_id: str, at: datetime) -> None:
        """Note when an execution was told to cancel; the first time stays. An execution that is not listed stays so.

        Raises:
            StoreError: the file cannot be written.
        """
        sql = "UPDATE executions SET cancel_requested_at = ? WHERE execution_id = ? AND cancel_requested_at IS NULL"
        self._database.write(sql, (time_text(at), execution_id))

    def executions(self, query: ExecutionQuery | None = None) -> list[StoredExecution]:
        """The executions that match, newest first; their `record` lacks `job`.

        Raises:
            StoreError: the file cannot be read.
        """
        query = query or ExecutionQuery()
        conditions = list(query.conditions())
        where = ["WHERE", " AND ".join(condition for condition, _ in conditions)] if conditions else []
        values = [value for _, values in conditions for value in values]
        sql = " ".join([SELECT, *where, _NEWEST_FIRST])
        return [self._stored(row) for row in self._database.read(sql, [*values, -1 if query.limit is None else query.limit])]

    def find(self, text: str) -> StoredExecution:
        """The execution that people mean, with its whole record.

        Args:
            text: an execution id, the beginning of only one, or `latest`.

        Raises:
            NoSuchExecution: there is none, or there are several; the message names candidates.
            StoreError: the file cannot be read.
        """
        found = self.executions(ExecutionQuery(limit=1)) if text == "latest" else self._beginning_with(storable(text))
        if not found or not text:  # an empty text, as of a shell variable that is not set, means no execution rather than the only one
            raise self._unknown(text)
        if len(found) > 1 and found[0].id != text:
            candidates = ", ".join(execution.id for execution in found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
            raise NoSuchExecution(f"{text!r} is the beginning of several executions: {candidates}; type more of the one you mean")
        execution = found[0]
        for (job,) in self._database.read("SELECT job FROM jobs WHERE execution_id = ?", (execution.id,)):
            execution.record["job"] = self._loaded(job)
        return execution

    def remove(self, execution_id: str) -> None:
        """List an execution no longer; its folder stays as it is.

        Raises:
            StoreError: the file cannot be written.
        """
        with self._database.transaction():
            self._database.write("DELETE FROM executions WHERE execution_id = ?", (execution_id,))
            self._database.write("DELETE FROM jobs WHERE execution_id = ?", (execution_id,))

    def rebuild(self, records: Iterable[Mapping[str, Any]], on_note: Callable[[str], None]) -> int:
        """Forget everything and list these executions, in one transaction.

        Other processes wait with what they write until it is done, so read the records while they are asked for, and
        nothing that happens meanwhile is lost. Progress is told anew by the next heartbeat.

        Args:
            records: the `execution.json` of every execution there is.
            on_note: is told of each record that cannot be listed.

        Returns:
            How many executions are listed now.

        Raises:
            StoreError: the file cannot be written; it is as it was.
        """
        with self._database.transaction():
            self._database.write("DELETE FROM executions")
            self._database.write("DELETE FROM jobs")
            for record in records:
                try:
                    row = row_of(record)
                except StoreError as error:
                    on_note(str(error))
                else:
                    self._put(row)
            listed: int = self._database.read("SELECT count(*) FROM executions")[0][0]
        return listed

    def _put(self, row: Row) -> None:
        if self._database.write(_PUT, row.values):
            execution_id = row.values["execution_id"]
            self._database.write("DELETE FROM jobs WHERE execution_id = ?", (execution_id,))
            if row.job is not None:
                self._database.write("INSERT INTO jobs VALUES (?, ?)", (execution_id, row.job.decode()))

    def _beginning_with(self, text: str) -> list[StoredExecution]:
        return [self._stored(row) for row in self._database.read(SELECT + _BEGINNING, (text, text + _AFTER_EVERY_TEXT, _SHOWN + 1))]

    def _unknown(self, text: str) -> NoSuchExecution:
        latest = ", ".join(execution.id for execution in self.executions(ExecutionQuery(limit=3)))
        if not latest:
            return NoSuchExecution(
                f"no execution {text!r}: no executions are listed in {self.path}; name the folder of the execution, "
                "or list the executions of a folder again with `batchrun list --rebuild`"
            )
        return NoSuchExecution(f"no execution {text!r} is listed in {self.path}; the latest are {latest}")

    def _stored(self, row: tuple[Any, ...]) -> StoredExecution:
        try:
            return stored(row)
        except (TypeError, ValueError) as error:
            raise damaged(self.path, f"row {row[0]}: {error}") from error

    def _loaded(self, text: str) -> Any:
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise damaged(self.path, str(error)) from error
