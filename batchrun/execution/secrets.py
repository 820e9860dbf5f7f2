"""The secrets of a job: where they come from."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from batchrun.config import effective_job
from batchrun.core.errors import Problem
from batchrun.core.job import NODE_ID, LoadedJob
from batchrun.core.secrets import SHORTEST, Mask

_MOST_BYTES = 65_536
_FILE = "_FILE"
_REFERENCE = re.compile(r"\{\{[^}]*\bsecrets\b")


def secrets_of(loaded: LoadedJob, report: Callable[[Problem], None]) -> dict[str, str]:
    """The secrets that a job names, by name.

    Args:
        loaded: the job.
        report: takes mistakes: a secret that is nowhere, cannot be read, cannot be one, or is written in the job itself.
    """
    found: dict[str, str] = {}
    for index, name in enumerate(loaded.job.secrets):
        try:
            found[name] = _secret(name, os.environ, loaded.folder)
        except _NoSecretError as mistake:
            report(Problem(("secrets", index), str(mistake)))
            found[name] = ""  # it is known: references to it are no mistakes
    for place, text in _filters(loaded):
        if _REFERENCE.search(text):
            report(Problem(place, "is SQL, not a template, and knows no secrets"))
    for name, value in found.items():
        for path in _places(effective_job(loaded), Mask([value] if value else [])):
            report(Problem(path, f"has the value of the secret {name} in it, and the job is stored: write {{{{ secrets.{name} }}}} there"))
    return found


class _NoSecretError(Exception):
    """There is no such secret."""


def _secret(name: str, environment: Mapping[str, str], folder: Path) -> str:
    """The value of a secret. Line breaks at its end are not part of it."""
    if not NODE_ID.fullmatch(name):
        raise _NoSecretError(f"must be letters, digits and underscores, not starting with a digit; got {name!r}")
    written, file = environment.get(name), environment.get(f"{name}{_FILE}")
    if written and file:
        raise _NoSecretError(f"the environment has {name} and {name}{_FILE}; set only one of them")
    if file:
        written = _read(name, folder / file)
    if not written or not written.strip():
        where = f"the file {file} is empty" if file else f"there is no secret {name}"
        raise _NoSecretError(
            f"{where}: set the environment variable {name} to its value, or {name}{_FILE} to the path of a file that holds it"
        )
    value = written.rstrip("\r\n")
    if not value.isascii() and value != value.encode("utf-8", "replace").decode():
        raise _NoSecretError(f"{name} is not UTF-8 text")
    if len(value) < SHORTEST:
        raise _NoSecretError(f"{name} has fewer than {SHORTEST} characters: what is that short cannot be masked where it is shown")
    return value


def _read(name: str, file: Path) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MOST_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise _NoSecretError(f"{name}{_FILE} names {file}, which cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _NoSecretError(f"{name}{_FILE} names {file}, which is not UTF-8 text") from None
    if len(content) > _MOST_BYTES:
        raise _NoSecretError(f"{name}{_FILE} names {file}, which is larger than {_MOST_BYTES:,} bytes")
    return text


def _filters(loaded: LoadedJob) -> Iterator[tuple[tuple[str, ...], str]]:
    if loaded.dataset.filter is not None:
        yield ("dataset", "filter"), loaded.dataset.filter
    yield from ((("dataset", "with_columns", name), text) for name, text in loaded.dataset.with_columns.items())


def _places(value: Any, mask: Mask, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where a plain value has a secret in it."""
    if isinstance(value, str):
        if mask.is_in(value.encode("utf-8", "surrogatepass")):
            yield path
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _places(inner, mask, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _places(inner, mask, (*path, index))
