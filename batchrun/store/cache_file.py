"""The file of the cache: outputs of nodes by their keys, of which those go first that were not used for longest."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from batchrun.core.errors import BatchrunError

MAX_BYTES_VARIABLE = "BATCHRUN_CACHE_MAX_BYTES"
"""The environment variable that bounds the file."""

_VERSION = 1
_SCHEMA = (
    # Rows are in the order in which they were kept, so that a later execution of the same items reads and touches neighbours.
    """
    CREATE TABLE entries (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        used_at INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        output BLOB NOT NULL
    )
    """,
    "CREATE INDEX entries_by_use ON entries (used_at)",
    """
    CREATE TABLE nodes (
        job_name TEXT NOT NULL,
        node_id TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        kept_at INTEGER NOT NULL,
        PRIMARY KEY (job_name, node_id, fingerprint)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX nodes_by_time ON nodes (kept_at)",
)
_FIND = "SELECT id, checksum, output FROM entries WHERE key = ?"
_KEEP = """
    INSERT INTO entries (key, used_at, checksum, output) VALUES {}
    ON CONFLICT (key) DO UPDATE SET used_at = excluded.used_at, checksum = excluded.checksum, output = excluded.output
"""
_TOUCH = """
    WITH used (id, used_at) AS (VALUES {})
    UPDATE entries SET used_at = used.used_at FROM used WHERE entries.id = used.id AND entries.used_at < used.used_at
"""
_REMEMBER = "INSERT INTO nodes VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET kept_at = excluded.kept_at"
_FORGET = "DELETE FROM nodes WHERE kept_at < (SELECT kept_at FROM nodes ORDER BY kept_at DESC LIMIT 1 OFFSET 10000)"
_EVICT = "DELETE FROM entries WHERE id IN (SELECT id FROM entries ORDER BY used_at LIMIT ?)"

_ROWS_PER_STATEMENT = 250  # one statement for many rows gives up the interpreter lock once, and not for each of them
_FULL_RATIO = 0.9  # what is left after old entries were removed
_READ_CACHE_KIB = 1_024


_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_ERROR)
_ELSEWHERE = "choose a folder you may read and write with BATCHRUN_HOME"
_ADVICE = {
    sqlite3.SQLITE_BUSY: "another process keeps it locked",
    sqlite3.SQLITE_FULL: f"the disk is full; free space, or give the cache less with {MAX_BYTES_VARIABLE}",
    sqlite3.SQLITE_IOERR: "the disk does not take it, as when it is full, over a quota or broken; free space",
    sqlite3.SQLITE_READONLY: f"this user may not write it; {_ELSEWHERE}",
    sqlite3.SQLITE_PERM: f"this user may not write it; {_ELSEWHERE}",
    sqlite3.SQLITE_CANTOPEN: f"it cannot be opened; {_ELSEWHERE}",
}


class NotACache(BatchrunError):
    """A file is there that this program did not make, or that a newer one has made."""


TROUBLE = (sqlite3.Error, OSError, NotACache)
"""What using the file may raise."""


class Found(NamedTuple):
    """An entry of the file; `output` is null when it is damaged."""

    id: int
    output: bytes | None


class Kept(NamedTuple):
    """An output to be kept; `at` is when, in µs since the epoch."""

    output: bytes
    node_id: str
    fingerprint: str
    at: int


def make(path: Path) -> None:
    """Make an empty file a cache."""
    connection = _connected(path, 0)
    try:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table
        connection.execute("PRAGMA journal_mode = WAL")
        for statement in (*_SCHEMA, f"PRAGMA user_version = {_VERSION}"):
            connection.execute(statement)
    finally:
        connection.close()


def connect(path: Path, *, busy_seconds: float) -> sqlite3.Connection:
    """Open a cache.

    Args:
        path: the file.
        busy_seconds: how long to wait for other processes.

    Raises:
        NotACache: it is none.
        sqlite3.Error: it cannot be read.
    """
    connection = _connected(path, busy_seconds)
    with ExitStack() as undo:
        undo.callback(connection.close)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != _VERSION:
            raise NotACache("a newer batchrun has written it" if version > _VERSION else "another program has written it")
        connection.execute(f"PRAGMA cache_size = -{_READ_CACHE_KIB}")
        connection.execute("PRAGMA synchronous = NORMAL")
        undo.pop_all()
    return connection


def find(connection: sqlite3.Connection, key: bytes) -> Found | None:
    """The entry with a key."""
    rows = connection.execute(_FIND, (key,)).fetchall()  # to the end: an open read would keep the log of changes from shrinking
    if not rows:
        return None
    id, checksum, output = rows[0]
    return Found(id, output if isinstance(output, bytes) and checksum == _checksum(key, output) else None)


def write(connection: sqlite3.Connection, job_name: str, kept: Mapping[bytes, Kept], used: Mapping[int, int]) -> None:
    """Keep outputs, and note when others were used (µs since the epoch, by id); all in the transaction that is open."""
    rows = [(key, entry.at, _checksum(key, entry.output), entry.output) for key, entry in kept.items()]
    for values in _slices(rows):
        connection.execute(_KEEP.format(_places(values)), [value for row in values for value in row])
    for values in _slices(list(used.items())):
        connection.execute(_TOUCH.format(_places(values)), [value for row in values for value in row])
    nodes = {(entry.node_id, entry.fingerprint): entry.at for entry in kept.values()}
    connection.executemany(_REMEMBER, [(job_name, *node, at) for node, at in nodes.items()])


def shrink(connection: sqlite3.Connection, max_bytes: int) -> None:
    """Remove what was not used for longest until the rest has room; in the transaction that is open."""
    if _used_bytes(connection) <= max_bytes:
        return
    while (used_bytes := _used_bytes(connection)) > max_bytes * _FULL_RATIO:
        count = connection.execute("SELECT count(*) FROM entries").fetchone()[0]
        if not count:
            break
        connection.execute(_EVICT, (ceil(count * (1 - max_bytes * _FULL_RATIO / used_bytes)),))
    connection.execute(_FORGET)


def give_back(connection: sqlite3.Connection, max_bytes: int) -> None:
    """Give space back to the disk that is free in a file which is larger than it may be."""
    surplus = _number(connection, "page_count") - max_bytes // _number(connection, "page_size")
    if surplus > 0 and _number(connection, "freelist_count"):
        with suppress(sqlite3.OperationalError):  # another process writes: there will be another time
            connection.executescript(f"PRAGMA incremental_vacuum({surplus})")  # `execute` would give back a single page


def fingerprints(connection: sqlite3.Connection, job_name: str, node_id: str) -> dict[str, int]:
    """The fingerprints under which outputs of a node were kept, and when last, in µs since the epoch."""
    sql = "SELECT fingerprint, kept_at FROM nodes WHERE job_name = ? AND node_id = ?"
    return dict(connection.execute(sql, (job_name, node_id)).fetchall())


def explained(path: Path, error: Exception) -> str:
    """What is wrong with the file, and what to do."""
    if isinstance(error, NotACache) or _code(error) in _DAMAGED:
        return f"{path} is damaged or no cache of this batchrun ({error}); delete it, and only the outputs in it are lost"
    reason = _ADVICE.get(_code(error)) or getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
    return f"{path}: {reason}"


def is_busy(error: Exception) -> bool:
    """Whether another process was using the file, which passes."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF  # the rest of the number is finer than the advice


def _connected(path: Path, busy_seconds: float) -> sqlite3.Connection:
    # mode=rw: a file deleted in this moment must not come back empty
    return sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=busy_seconds, isolation_level=None, check_same_thread=False)


def _checksum(key: bytes, output: bytes) -> int:
    return crc32(output, crc32(key))


def _slices(rows: Sequence[tuple[Any, ...]]) -> Iterator[Sequence[tuple[Any, ...]]]:
    return (rows[start : start + _ROWS_PER_STATEMENT] for start in range(0, len(rows), _ROWS_PER_STATEMENT))


def _places(rows: Sequence[tuple[Any, ...]]) -> str:
    return ",".join([f"({','.join('?' * len(rows[0]))})"] * len(rows))


def _used_bytes(connection: sqlite3.Connection) -> int:
    return (_number(connection, "page_count") - _number(connection, "freelist_count")) * _number(connection, "page_size")


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    number: int = connection.execute(f"PRAGMA {pragma}").fetchone()[0]
    return number
