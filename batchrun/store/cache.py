"""The cache: outputs of nodes, kept for later calls in any execution on this machine."""

from __future__ import annotations

import math
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from batchrun.store.cache_file import (
    MAX_BYTES_VARIABLE,
    TROUBLE,
    Kept,
    connect,
    explained,
    find,
    fingerprints,
    give_back,
    is_busy,
    make,
    shrink,
    write,
)
from batchrun.store.database import create, identity, store_home
from batchrun.store.records import storable

T = TypeVar("T")

_FILE = "cache.db"
_MAX_BYTES = 2 * 2**30
_MOST_WAITING_BYTES = 64 * 2**20
_SOON_BYTES = 4 * 2**20
_LARGEST_RATIO = 0.25  # a larger output would drive out too many others
_LARGEST_BYTES = 2**29  # SQLite takes no values of 1 GB
_CLOSE_SECONDS = 10.0
_READ_SECONDS = 0.5  # to read the file, another process needs it for itself for moments only
_SECONDS_BETWEEN_TRIES = 10 * _READ_SECONDS
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Cache:
    """Outputs of nodes by their keys, in one SQLite file for all processes of this machine: see `OutputCache`.

    Nothing in it expires; when it is full, those outputs go that were not used for longest. What is handed over is written
    in groups, four times a second, by a thread of its own. An execution does not need the cache: trouble with the file is
    told once and raises nothing.

    Args:
        job_name: whose outputs are kept.
        on_note: is told of trouble, once of each kind; from any thread.
        home: the folder of the file; null: see `store_home`.
        interval_seconds: the time between groups.
        busy_seconds: how long a group waits for other processes that write.

    Attributes:
        path: the file; the first output that is kept makes it.

    Example:
        >>> cache = Cache("triage", print)
        >>> cache.put(b"key", b'{"label":"bug"}', "classify", "fingerprint")
        >>> cache.get(b"key")
        b'{"label":"bug"}'
        >>> cache.close()
    """

    def __init__(
        self,
        job_name: str,
        on_note: Callable[[str], None],
        home: Path | None = None,
        *,
        interval_seconds: float = 0.25,
        busy_seconds: float = 5.0,
    ) -> None:
        self.path = (home or store_home()).absolute() / _FILE
        self._job_name = storable(job_name)
        self._on_note = on_note
        self._told: set[str] = set()
        self._lock = threading.Lock()
        self._max_bytes = self._chosen_max_bytes()
        self._interval_seconds = interval_seconds
        self._busy_seconds = busy_seconds
        self._opened: tuple[int, int] | None = None
        self._readers = _Readers(self.path)
        self._next_read_at = 0.0 if self._max_bytes else math.inf
        self._waiting: dict[bytes, Kept] = {}
        self._waiting_bytes = 0
        self._writing: dict[bytes, Kept] = {}
        self._used: dict[int, int] = {}
        self._connection: sqlite3.Connection | None = None  # of the thread
        self._closing = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="batchrun-cache", daemon=True)
        self._find()
        self._thread.start()

    def get(self, key: bytes) -> bytes | None:
        """The output that is kept under a key; null when there is none, or it cannot be read."""
        kept = self._waiting.get(key) or self._writing.get(key)
        if kept is not None:
            return kept.output
        found = self._read(lambda connection: find(connection, key))
        if found is None:
            return None
        if found.output is None:
            self._tell(f"the cache {self.path} is damaged in places: calls are made whose outputs cannot be read")
        else:
            self._used[found.id] = _now()
        return found.output

    def put(self, key: bytes, output: bytes, node_id: str, fingerprint: str) -> None:
        """Keep an output."""
        if self._closing or not self._max_bytes:
            return
        if len(output) > min(self._max_bytes * _LARGEST_RATIO, _LARGEST_BYTES):
            self._tell(f"node {node_id}: an output of {len(output):,} bytes is too large for a cache of {self._max_bytes:,}", "size")
            return
        with self._lock:
            has_room = self._waiting_bytes + len(output) <= _MOST_WAITING_BYTES
            if has_room:
                self._waiting[key] = Kept(output, node_id, fingerprint, _now())
                self._waiting_bytes += len(output)
        if not has_room:
            self._tell(f"outputs come faster than the cache {self.path} can be written, and some are not kept", "speed")
        if self._waiting_bytes > _SOON_BYTES:
            self._wake.set()

    def changed_since(self, node_id: str, fingerprint: str) -> datetime | None:
        """When outputs of a node were last kept, if that was only done while it was another one; null when not."""
        kept = self._read(lambda connection: fingerprints(connection, self._job_name, node_id))
        return None if not kept or fingerprint in kept else _EPOCH + timedelta(microseconds=max(kept.values()))

    def close(self) -> None:
        """Write what was handed over and end. Waits at most 10 seconds; what is not written by then is lost."""
        self._closing = True
        self._wake.set()
        self._thread.join(_CLOSE_SECONDS)
        if self._thread.is_alive():
            self._tell(f"the cache {self.path} is busy, and the last outputs may not be kept")
        self._next_read_at = math.inf
        self._readers.renew()

    def _find(self) -> None:
        try:
            self._opened = identity(self.path)
        except OSError as error:
            self._not_read(error)

    def _read(self, question: Callable[[sqlite3.Connection], T]) -> T | None:
        if self._opened is None or time.monotonic() < self._next_read_at:
            return None
        try:
            return self._readers.ask(question)
        except TROUBLE as error:
            self._not_read(error)
            return None

    def _not_read(self, error: Exception) -> None:
        try:
            is_deleted = identity(self.path) is None
        except OSError:
            is_deleted = False
        if not (is_deleted or self._closing):
            self._next_read_at = time.monotonic() + _SECONDS_BETWEEN_TRIES
            self._tell(f"the cache is not used: {explained(self.path, error)}")

    def _work(self) -> None:
        is_last = False
        while not is_last:
            self._wake.wait(self._interval_seconds)
            self._wake.clear()
            is_last = self._closing  # before writing: what is handed over before `close` is written
            with self._lock:
                self._writing, self._waiting, self._waiting_bytes = self._waiting, {}, 0
            used, self._used = self._used, {}
            if self._writing or used:
                try:
                    self._write(self._current(), used.copy())  # a reader may be adding to it
                except TROUBLE as error:
                    self._not_written(error)
            self._writing = {}
        if self._connection is not None:
            self._connection.close()

    def _current(self) -> sqlite3.Connection:
        """A connection to the file that is there now: it may have been deleted, or made by another process."""
        if identity(self.path) is None:
            create(self.path, make)
        there = identity(self.path)
        if self._connection is not None and there != self._opened:
            self._connection.close()
            self._connection = None
        if self._connection is None:
            self._connection = connect(self.path, busy_seconds=self._busy_seconds)
            self._opened = there
            self._readers.renew()
        return self._connection

    def _write(self, connection: sqlite3.Connection, used: dict[int, int]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            write(connection, self._job_name, self._writing, used)
            shrink(connection, self._max_bytes)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.rollback()
        give_back(connection, self._max_bytes)

    def _not_written(self, error: Exception) -> None:
        self._tell(f"outputs are not kept: {explained(self.path, error)}")
        if is_busy(error):  # they are, another time
            with self._lock:
                self._waiting = {**self._writing, **self._waiting}
                self._waiting_bytes = sum(len(kept.output) for kept in self._waiting.values())

    def _chosen_max_bytes(self) -> int:
        chosen = os.environ.get(MAX_BYTES_VARIABLE) or str(_MAX_BYTES)
        if chosen.isascii() and chosen.isdecimal():
            return int(chosen)
        self._tell(
            f"{MAX_BYTES_VARIABLE} must be a number of bytes such as {_MAX_BYTES}, got {chosen!r}: the cache takes {_MAX_BYTES}", "bound"
        )
        return _MAX_BYTES

    def _tell(self, note: str, about: str = "file") -> None:
        with self._lock:
            is_told = about in self._told
            self._told.add(about)
        if not is_told:
            self._on_note(note)


class _Readers:
    """Connections to read with: as many as there are threads that read in the same moment."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: deque[sqlite3.Connection] = deque()
        self._renewals = 0

    def ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """The answer to a question."""
        renewals, connection = self._renewals, self._taken() or connect(self._path, busy_seconds=_READ_SECONDS)
        try:
            return question(connection)
        finally:
            if renewals == self._renewals:
                self._idle.append(connection)
            else:
                connection.close()

    def renew(self) -> None:
        """Open no more connections to the file that was there before."""
        self._renewals += 1
        while (connection := self._taken()) is not None:
            connection.close()

    def _taken(self) -> sqlite3.Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None


def _now() -> int:
    return time.time_ns() // 1_000
