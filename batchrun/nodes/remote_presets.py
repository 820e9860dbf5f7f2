"""Presets of remote services: what is known of each, in a file of its own, and how a job spells parts of it out anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

import yaml

from batchrun.nodes.remote_parts import Cancel, Events, RemoteRequest, Result, Status, Submit

Part = TypeVar("Part", bound=RemoteRequest)

BODIES = ("json", "text", "form", "multipart")
"""The keys of a request that are bodies; it has one at most."""

_PARTS: Mapping[str, type[RemoteRequest]] = {
    "submit": Submit,
    "submit_of_version": Submit,
    "status": Status,
    "result": Result,
    "cancel": Cancel,
    "events": Events,
}
_FOLDER = files("batchrun.nodes") / "presets"
_ENDING = ".yaml"


@cache
def preset_names() -> tuple[str, ...]:
    """The presets there are."""
    return tuple(sorted(file.name.removesuffix(_ENDING) for file in _FOLDER.iterdir() if file.name.endswith(_ENDING)))


@cache
def preset(name: str) -> Mapping[str, RemoteRequest]:
    """The parts of a preset by name; `submit_of_version` goes over `submit` where the job names a version.

    Raises:
        KeyError: there is no such preset.
    """
    if name not in preset_names():
        raise KeyError(name)
    said = yaml.safe_load((_FOLDER / f"{name}{_ENDING}").read_text(encoding="utf-8"))
    return {part: _PARTS[part](**{key: _fixed(value) for key, value in values.items()}) for part, values in said.items()}


def over(base: Part | None, own: Part | None) -> Part | None:
    """A part of a preset with what the job says in the place of what it says. Query and headers are joined by key, bodies are not.

    Example:
        >>> over(Cancel(method="POST", path="/stop", json={}), Cancel(text="now")).path
        '/stop'
    """
    if base is None or own is None:
        return own if base is None else base
    said = {each.name: getattr(own, each.name) for each in fields(own) if getattr(own, each.name) is not None}
    for name in ("query", "headers"):
        if name in said and getattr(base, name):
            said[name] = _joined(getattr(base, name), said[name])
    has_body = any(name in said for name in BODIES)
    kept = {each.name: getattr(base, each.name) for each in fields(base) if not (has_body and each.name in BODIES)}
    return type(own)(**{**kept, **said})


def _joined(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Names of headers are the same in upper and lower case."""
    names = {name.lower() for name in own}
    return {**{name: value for name, value in base.items() if name.lower() not in names}, **own}


def _fixed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
