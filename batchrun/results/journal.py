"""The journal of an execution: what finished, written down so that no crash can cost it.

`journal/000001.journal`, `000002.journal`, … hold one epoch each: what one process wrote. A file is a row of frames,
`[length u32][crc32 u32][payload]`, little-endian; the first byte of a payload says what it is. A reader takes the frames
up to the first one that is cut off or damaged, so a crash in the middle of a write costs that write and nothing else.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time
import zlib
from collections.abc import Generator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import orjson

from batchrun.core.errors import ExecutionError
from batchrun.results.files import explained

HEADER, ROWS, NODES, SPENT, AGAIN = b"H", b"R", b"N", b"S", b"A"
"""Kinds of payloads: what wrote the file; finished items; nodes of items that are not completed; what was spent; failed items
that a retry has chosen, which are not done from here on."""

_FRAME = struct.Struct("<II")
_LOCK = "lock"
_LOCK_ATTEMPTS = 20
_LOCK_PAUSE_SECONDS = 0.02  # who only asks whether the lock is taken holds it for an instant


_locks: set[int] = set()
"""Open files by which this process holds locks."""


def _leave_locks() -> None:
    """A child that was forked would hold the locks of this process, too, and keep them when this one is killed."""
    while _locks:
        os.close(_locks.pop())


os.register_at_fork(after_in_child=_leave_locks)

Mapped: TypeAlias = mmap.mmap | bytes
"""What is in a file; it is read when it is looked at."""


class Frame(NamedTuple):
    """One frame as it was read.

    Attributes:
        kind: the first byte of its payload.
        body: the rest of its payload.
        start: where the body begins in the file.
    """

    kind: bytes
    body: memoryview
    start: int


class Journal:
    """Writes one epoch of a journal. Opening it takes the lock: one process at a time runs an execution.

    The lock is the system's (`flock`) and ends with the process. Where it does not reach, on some network file systems, the
    files themselves do: each epoch is a file that only one process can make, and a writer that finds a later one stops.

    Args:
        folder: the execution's folder; it exists.

    Attributes:
        epoch: the number of the file that `begin` makes.

    Raises:
        ExecutionError: another process runs the execution, or the folder cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "journal"
        with explained(self.folder):
            self.folder.mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        if not _take(self._lock):
            owner = os.pread(self._lock, 200, 0).decode(errors="replace") or "another process"
            os.close(self._lock)
            raise ExecutionError(f"{folder} is being run by {owner}; wait for it to end, or end it")
        _locks.add(self._lock)
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"process {os.getpid()} on {os.uname().nodename}".encode(), 0)
        self.epoch = max(epochs(folder), default=0) + 1
        self._file = -1
        self._is_dirty = False

    def begin(self, header: Mapping[str, Any]) -> None:
        """Make the file of this epoch.

        Raises:
            ExecutionError: it cannot be made, or another process made it.
        """
        path = self._path(self.epoch)
        with explained(path):
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            self.append(HEADER, orjson.dumps({"format": 1, "epoch": self.epoch, **header}))
            self.sync()
            folder = os.open(self.folder, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)

    def append(self, kind: bytes, body: bytes | memoryview) -> None:
        """Write a frame. It survives the end of this process; after `sync`, that of the machine, too.

        Raises:
            ExecutionError: it cannot be written.
        """
        crc = zlib.crc32(body, zlib.crc32(kind))
        parts = [memoryview(_FRAME.pack(1 + len(body), crc) + kind), memoryview(body)]
        with explained(self._path(self.epoch)):
            while parts:
                written = os.writev(self._file, parts)
                while parts and written >= len(parts[0]):
                    written -= len(parts.pop(0))
                if parts:
                    parts[0] = parts[0][written:]
        self._is_dirty = True

    def sync(self) -> None:
        """Bring what was written to the disk.

        Raises:
            ExecutionError: the disk does not take it, or another process has begun a later epoch.
        """
        if self._path(self.epoch + 1).exists():
            raise ExecutionError(
                f"another process has gone on with {self.folder.parent}; this one stops, and its last results do not count"
            )
        if self._is_dirty:
            with explained(self._path(self.epoch)):
                os.fsync(self._file)
            self._is_dirty = False

    def end_epoch(self) -> None:
        """Bring the file of this epoch to the disk and close it; the next `begin` makes that of the next one.

        Raises:
            ExecutionError: as from `sync`.
        """
        self.sync()
        os.close(self._file)
        self._file = -1
        self.epoch += 1

    def close(self) -> None:
        """Give the lock back. May be called again."""
        _locks.discard(self._lock)
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                with suppress(OSError):
                    os.close(descriptor)
        self._file = self._lock = -1

    def _path(self, epoch: int) -> Path:
        return self.folder / f"{epoch:06d}.journal"


def _take(lock: int) -> bool:
    for attempt in range(_LOCK_ATTEMPTS):
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(_LOCK_PAUSE_SECONDS if attempt < _LOCK_ATTEMPTS - 1 else 0)
    return False


def is_locked(folder: Path) -> bool | None:
    """Whether a process on this machine runs the execution in a folder; null: it has no lock to ask."""
    try:
        lock = os.open(folder / "journal" / _LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def epochs(folder: Path) -> dict[int, Path]:
    """The journal files of an execution by their epoch, in the order they were written."""
    return dict(sorted((int(path.stem), path) for path in (folder / "journal").glob("*.journal") if path.stem.isdecimal()))


def mapped(path: Path) -> Mapped:
    """What is in a journal file.

    Raises:
        ExecutionError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
    except OSError as error:
        raise ExecutionError(f"cannot read the journal file {path}: {error.strerror}") from error


def frames(content: memoryview) -> Generator[Frame, None, int]:
    """The whole and undamaged frames at the beginning of a journal file. Returns how many bytes they take.

    Example:
        >>> [frame.kind for frame in frames(memoryview(path.read_bytes()))]  # doctest: +SKIP
        [b'H', b'R']
    """
    start = 0
    while start + _FRAME.size <= len(content):
        length, crc = _FRAME.unpack_from(content, start)
        payload = content[start + _FRAME.size : start + _FRAME.size + length]
        if not 0 < length == len(payload) or zlib.crc32(payload) != crc:
            break
        yield Frame(bytes(payload[:1]), payload[1:], start + _FRAME.size + 1)
        start += _FRAME.size + length
    return start
