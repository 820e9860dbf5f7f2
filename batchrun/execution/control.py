"""Requests to the process that runs an execution: files in its folder, made by whoever may write there."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import orjson

from batchrun.results import atomic_json
from batchrun.results.files import discard, explained

RequestKind: TypeAlias = Literal["pause", "cancel", "tune"]


class Request(NamedTuple):
    """What is asked of a running execution.

    Attributes:
        kind: stop it, resumable; stop it for good; or change limits of it.
        by: who asks, for people.
        settings: for `tune`: the fields that change, as overrides.
    """

    kind: RequestKind
    by: str
    settings: Mapping[str, Any] | Sequence[str] = ()


def send(folder: Path, kind: RequestKind, settings: Mapping[str, Any] | Sequence[str] = ()) -> None:
    """Ask something of the process that runs an execution. It looks once a second.

    Args:
        folder: the execution's folder.
        kind: what is asked.
        settings: for `tune`: the fields that change, such as `["run.parallelism=10"]`.

    Raises:
        ExecutionError: the request cannot be written.
    """
    control = _control(folder)
    with explained(control):
        control.mkdir(mode=0o700, exist_ok=True)
    name = f"{time.time_ns():020d}-{os.getpid()}.json"
    atomic_json(control / name, {"kind": kind, "by": f"process {os.getpid()} on {os.uname().nodename}", "settings": settings})


def take(folder: Path) -> list[Request]:
    """The requests that were sent since the last time, oldest first. What is none is removed as well."""
    requests = []
    for path in _files(folder):
        with suppress(OSError, orjson.JSONDecodeError, KeyError, TypeError):
            sent = orjson.loads(path.read_bytes())
            requests.append(Request(sent["kind"], str(sent["by"]), sent["settings"]))
        discard(path)
    return requests


def clear(folder: Path) -> None:
    """Forget requests: they were sent to a process that is gone."""
    for path in _files(folder):
        discard(path)


def _files(folder: Path) -> list[Path]:
    return sorted(_control(folder).glob("[0-9]*.json"))


def _control(folder: Path) -> Path:
    return folder / "control"
