"""Requests to the process that runs an execution: files in its folder, made by whoever may write there."""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, cast, get_args

import orjson

from batchrun.results import atomic_json
from batchrun.results.files import discard, explained

RequestKind: TypeAlias = Literal["pause", "cancel", "tune", "decide"]

_KINDS = get_args(RequestKind)
_LARGEST_BYTES = 2**20


class Request(NamedTuple):
    """What is asked of a running execution.

    Attributes:
        kind: stop it, resumable; stop it for good; change limits of it; or let items go on that wait for a person.
        by: who asks, for people.
        at: when it was asked.
        settings: for `tune`: the fields that change, as overrides; for `decide`: what was decided, by the item's ordinal.
    """

    kind: RequestKind
    by: str
    at: datetime
    settings: Mapping[str, Any] | Sequence[str] = ()


def send(folder: Path, kind: RequestKind, settings: Mapping[str, Any] | Sequence[str] = ()) -> Request:
    """Ask something of the process that runs an execution. It looks once a second. Returns what was asked.

    Args:
        folder: the execution's folder.
        kind: what is asked.
        settings: for `tune`: the fields that change, such as `["run.parallelism=10"]`.

    Raises:
        ExecutionError: the request cannot be written.

    Example:
        >>> send(Path("runs/20261101T093000-0a1b2c3d4e"), "pause").kind  # doctest: +SKIP
        'pause'
    """
    chosen = [settings] if isinstance(settings, str) else settings
    request = Request(kind, f"process {os.getpid()} on {os.uname().nodename}", datetime.now(UTC), chosen)
    control = _control(folder)
    with explained(control):
        control.mkdir(mode=0o700, exist_ok=True)
    name = f"{time.time_ns():020d}-{secrets.token_hex(4)}.json"
    atomic_json(control / name, request._asdict())
    return request


def take(folder: Path) -> list[Request]:
    """The requests that were sent since the last time, oldest first. Files that are none are removed as well."""
    requests = []
    for path in _files(folder):
        content = _content(path)
        discard(path)
        request = _request(content)
        if request is not None:
            requests.append(request)
    return requests


def has_requests(folder: Path) -> bool:
    """Whether requests are there that no process has taken."""
    return bool(_files(folder))


def clear(folder: Path) -> None:
    """Forget requests: they were sent to a process that is gone."""
    for path in _files(folder):
        discard(path)


def _files(folder: Path) -> list[Path]:
    """What is there by now; a hidden file is still being written."""
    return sorted(path for path in _control(folder).glob("*") if not path.name.startswith("."))


def _content(path: Path) -> bytes:
    """What a request says; nothing of what cannot be one, such as a pipe, which would block."""
    with suppress(OSError):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_size <= _LARGEST_BYTES:
            return path.read_bytes()
    return b""


def _request(content: bytes) -> Request | None:
    with suppress(ValueError, OverflowError):  # no JSON, or no time
        match orjson.loads(content):
            case {"kind": str(kind), "by": str(by), "at": str(at), "settings": dict() | list() as settings} if kind in _KINDS:
                if isinstance(settings, dict) or all(isinstance(setting, str) for setting in settings):
                    return Request(cast("RequestKind", kind), by, datetime.fromisoformat(at).astimezone(UTC), settings)
    return None


def _control(folder: Path) -> Path:
    return folder / "control"
