"""The logs of firings: what their processes write for people. Each is locked by its process for as long as that lives."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

_LOCK_TRIES = 100
_LOCK_SECONDS = 0.05
_SHOWN_LINES = 5
_SHOWN_BYTES = 2_000
_KEPT = timedelta(days=30)


def log_of(folder: Path, firing_id: int) -> Path:
    """The log of a firing."""
    return folder / f"firing-{firing_id}.log"


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock that says that this process lives; false: another one holds it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("ab") as log:
        for _ in range(_LOCK_TRIES):
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_LOCK_SECONDS)  # somebody looks whether it is locked, for a moment
            else:
                yield True
                return
        yield False


def is_alive(folder: Path, firing_id: int) -> bool:
    """Whether the process of a firing that has begun is there."""
    with suppress(OSError), log_of(folder, firing_id).open("rb") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def last_lines(path: Path) -> str:
    """The end of a log; nothing when there is none."""
    with suppress(OSError), path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - _SHOWN_BYTES))
        return "\n".join(log.read().decode(errors="replace").strip().splitlines()[-_SHOWN_LINES:])
    return ""


def remove_old(folder: Path, now: datetime) -> None:
    """Remove the logs that nobody has written to for 30 days; an execution that runs for longer keeps its own open."""
    for path in folder.glob("firing-*.log"):
        with suppress(OSError, ValueError):
            if path.stat().st_mtime < (now - _KEPT).timestamp() and not is_alive(folder, int(path.stem.partition("-")[2])):
                path.unlink()
