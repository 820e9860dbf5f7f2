"""Files that are complete or not there: written under a hidden name, synced, then renamed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from batchrun.core.errors import ExecutionError

_ADVICE = {
    errno.ENOSPC: "the disk is full; free space",
    errno.EDQUOT: "the disk quota is used up; free space or raise the quota",
    errno.EFBIG: "the file would be larger than this process may write; raise the limit (ulimit -f)",
    errno.EACCES: "this user may not write there; change the permissions or output.path",
    errno.EPERM: "this user may not write there; change the permissions or output.path",
    errno.EROFS: "the file system is read-only; choose another output.path",
    errno.ENOENT: "the folder is gone; create it, or choose another output.path",
    errno.ENOTDIR: "a part of the path is a file; choose another output.path",
}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file so that nobody ever sees a part of it.

    Gives the hidden path to write to. Afterwards that file is synced to the disk and takes the place of `path`; when
    the block raises it is removed and `path` stays as it was.

    Raises:
        ExecutionError: the file cannot be written.
    """
    temporary = hidden(path)
    with explained(path):
        try:
            yield temporary
            publish(temporary, path)
        finally:
            discard(temporary)


def hidden(path: Path) -> Path:
    """Where a file is until it is complete."""
    return path.with_name(f".{path.name}.tmp")


def publish(temporary: Path, path: Path) -> None:
    """Sync a finished file, give it its name, and sync the folder, so that the name survives a power loss too."""
    _sync(temporary)
    temporary.replace(path)
    _sync(path.parent)


def discard(temporary: Path) -> None:
    """Remove a file that may not be there, in a folder that may not be there."""
    with suppress(OSError):
        temporary.unlink()


def atomic_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace `path` with `value` as indented JSON, in one step that a crash cannot cut in half.

    Raises:
        ExecutionError: the file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the system and Arrow say about `path` into an `ExecutionError` that says what to do."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: BaseException) -> ExecutionError:
    """The error of a file that cannot be written: what, where, and what to do."""
    number = error.errno if isinstance(error, OSError) else None
    reason = _ADVICE.get(number) if number is not None else None
    return ExecutionError(f"cannot write {path}: {f'{reason}, then run again' if reason else f'{type(error).__name__}: {error}'}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
