"""The file of the store: made in one step, brought up to date, shared by many processes, its troubles put into words."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from batchrun.core.errors import BatchrunError

_BUSY_SECONDS = 5.0

_SCHEMA_1 = (
    """
    CREATE TABLE executions (
        execution_id TEXT NOT NULL PRIMARY KEY,
        epoch INTEGER NOT NULL,
        job_name TEXT NOT NULL,
        status TEXT NOT NULL,
        stop_reason TEXT,
        error TEXT,
        folder TEXT NOT NULL,
        host TEXT,
        pid INTEGER,
        created_at TEXT NOT NULL,
        started_at TEXT,
        completed_at TEXT,
        cancel_requested_at TEXT,
        heartbeat_at TEXT,
        progress TEXT,
        record TEXT NOT NULL
    )
    """,
    "CREATE TABLE jobs (execution_id TEXT NOT NULL PRIMARY KEY, job TEXT NOT NULL)",
    "CREATE INDEX executions_by_time ON executions (created_at, execution_id)",
    "CREATE INDEX executions_by_job ON executions (job_name, created_at, execution_id)",
    "CREATE INDEX executions_by_job_and_status ON executions (job_name, status, created_at, execution_id)",
    "CREATE INDEX executions_by_status ON executions (status, created_at, execution_id)",
)
_SCHEMA_2 = (
    "CREATE TABLE dataset_versions (name TEXT NOT NULL, version INTEGER NOT NULL, manifest TEXT NOT NULL, PRIMARY KEY (name, version))",
    "CREATE TABLE dataset_tags (name TEXT NOT NULL, tag TEXT NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (name, tag))",
)


class Kind(NamedTuple):
    """What a file of the store holds.

    Attributes:
        file: its name.
        what: what it is called in messages.
        steps: what brings a file from the version of its position to the next. Times are UTC in one width, so that they sort as text.
        if_damaged: what to do when it cannot be understood.
    """

    file: str
    what: str
    steps: Sequence[Sequence[str]]
    if_damaged: str


EXECUTIONS = Kind("store.db", "list of executions", (_SCHEMA_1, _SCHEMA_2), "nothing is lost: delete it and run `batchrun list --rebuild`")
"""An index of what is in the folders of executions and datasets."""

_ELSEWHERE = "choose a folder you may read and write with BATCHRUN_HOME"
# SQLITE_ERROR: a table is not what this program made; also what is left where SQLite itself gives no number, such as text that is none.
_SQLITE_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_ERROR}
_SQLITE_ADVICE = {
    sqlite3.SQLITE_BUSY: f"another process has kept it locked for more than {_BUSY_SECONDS:g} seconds; try again",
    sqlite3.SQLITE_FULL: "the disk is full; free space",
    sqlite3.SQLITE_IOERR: "the disk does not take it, as when it is full, over a quota or broken; free space",
    sqlite3.SQLITE_READONLY: f"this user may not write it; {_ELSEWHERE}",
    sqlite3.SQLITE_PERM: f"this user may not write it; {_ELSEWHERE}",
    sqlite3.SQLITE_CANTOPEN: f"it cannot be opened; {_ELSEWHERE}",
}
_SYSTEM_ADVICE = {
    errno.EACCES: f"this user may not write there; {_ELSEWHERE}",
    errno.EPERM: f"this user may not write there; {_ELSEWHERE}",
    errno.EROFS: f"the file system is read-only; {_ELSEWHERE}",
    errno.ENOTDIR: f"a part of the path is a file; {_ELSEWHERE}",
    errno.EEXIST: f"a part of the path is a file; {_ELSEWHERE}",
    errno.ENOENT: f"the folder is gone; {_ELSEWHERE}",
    errno.ENOSPC: "the disk is full; free space",
    errno.EDQUOT: "the disk quota is used up; free space or raise the quota",
}


class StoreError(BatchrunError):
    """The list of executions, or that of schedules, cannot be read or written. Executions themselves need neither."""


def store_home() -> Path:
    """The folder of the store: the environment variable `BATCHRUN_HOME`, else `.batchrun` in the working directory."""
    named = os.environ.get("BATCHRUN_HOME")
    return Path(named or ".batchrun")


def damaged(path: Path, reason: str, kind: Kind = EXECUTIONS) -> StoreError:
    """The error of a file that cannot be understood; what to do depends on what it holds."""
    return StoreError(f"the {kind.what} {path} is damaged or not a store ({reason}); {kind.if_damaged}")


class Database:
    """The file of the store, opened when it is needed. For one thread at a time; any number of processes.

    A file that was deleted or replaced meanwhile is noticed before each use and opened or made anew, so that nothing
    is written where nobody looks.

    Args:
        home: the folder of the file; made with the file, at the first write.
        kind: what it holds.

    Attributes:
        path: the file.
    """

    def __init__(self, home: Path, kind: Kind = EXECUTIONS) -> None:
        self._kind = kind
        with _explained(home / kind.file, kind):
            self.path = home.absolute() / kind.file  # a later change of the working directory must not move the store
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None

    def read(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query; none when there is no file.

        Raises:
            StoreError: the file cannot be read.
        """
        with _explained(self.path, self._kind):
            connection = self._current()
            return connection.execute(sql, values).fetchall() if connection else []

    def write(self, sql: str, values: Sequence[object] | Mapping[str, object] = ()) -> int:
        """Change rows, and say how many; makes the file when there is none. Alone a transaction of its own.

        Raises:
            StoreError: the file cannot be written, or has been locked for 5 seconds.
        """
        with _explained(self.path, self._kind):
            return self._writable().execute(sql, values).rowcount

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes of the block, or none of them when it raises.

        Raises:
            StoreError: the file cannot be written, or has been locked for 5 seconds.
        """
        with _explained(self.path, self._kind):
            connection = self._writable()
            connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            with _explained(self.path, self._kind):
                connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.rollback()

    def close(self) -> None:
        """Close the file; it is opened again when it is used again."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _writable(self) -> sqlite3.Connection:
        connection = self._current()
        if connection is None:
            create(self.path, lambda path: _connect(path, self._kind).close())
            connection = self._current()
        if connection is None:
            raise FileNotFoundError(errno.ENOENT, "deleted while it was made", str(self.path))
        return connection

    def _current(self) -> sqlite3.Connection | None:
        """The connection to the file that is there now, if any."""
        if self._connection is not None and self._connection.in_transaction:
            return self._connection
        there = identity(self.path)
        if there != self._opened:
            self.close()
        if there is not None and self._connection is None:
            self._connection = _connect(self.path, self._kind)
            self._opened = there
        return self._connection


def identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another one that takes its place; null when there is none."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def _connect(path: Path, kind: Kind) -> sqlite3.Connection:
    # mode=rw: a file deleted in this moment must not come back empty
    connection = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    with ExitStack() as undo:
        undo.callback(connection.close)
        connection.execute("PRAGMA synchronous = NORMAL")
        _upgrade(connection, path, kind)
        undo.pop_all()
    return connection


def create(path: Path, make: Callable[[Path], None]) -> None:
    """Put a complete, empty database in its place, unless another process was faster.

    Args:
        path: the file; its folder is made, for this user alone.
        make: fills an empty file, and leaves it closed.

    Raises:
        OSError: the file cannot be made there.
        sqlite3.Error: as above.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if identity(path) is not None:
            return
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".store-") as hidden:
            made = Path(hidden, path.name)
            made.touch(mode=0o600)
            make(made)
            # Left by a file that was deleted alone: SQLite would write its contents into the new one.
            for left in ("-wal", "-shm"):
                path.with_name(path.name + left).unlink(missing_ok=True)
            made.replace(path)
    finally:
        os.close(folder)


def _upgrade(connection: sqlite3.Connection, path: Path, kind: Kind) -> None:
    version = _version(connection)
    if version == len(kind.steps):
        return
    if version > len(kind.steps):
        raise StoreError(
            f"the {kind.what} {path} was written by a newer batchrun (version {version} of the file, this one knows {len(kind.steps)}); "
            "update batchrun, or choose another folder with BATCHRUN_HOME"
        )
    if version == 0:
        if connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise StoreError(f"{path} is the database of another program; choose another folder with BATCHRUN_HOME")
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    for step in kind.steps[_version(connection) :]:  # read again: another process may have been faster
        for statement in step:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(kind.steps)}")
    connection.execute("COMMIT")


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


@contextmanager
def _explained(path: Path, kind: Kind) -> Iterator[None]:
    """Turn what SQLite and the system say into a `StoreError` that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the rest of the number is finer than the advice
        if code in _SQLITE_DAMAGED:
            raise damaged(path, str(error), kind) from error
        raise _unusable(path, kind, _SQLITE_ADVICE.get(code), error) from error
    except OverflowError as error:
        raise _unusable(path, kind, "a number is too large for it", error) from error
    except OSError as error:
        raise _unusable(path, kind, _SYSTEM_ADVICE.get(error.errno or 0), error) from error


def _unusable(path: Path, kind: Kind, advice: str | None, error: Exception) -> StoreError:
    return StoreError(f"cannot use the {kind.what} {path}: {advice or f'{type(error).__name__}: {error}'}")
