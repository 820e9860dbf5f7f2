"""A job before it is checked: plain values, and where each of them was written."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeAlias

from batchrun.core.checks import KEY
from batchrun.core.errors import Problem

ValuePath: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The plain values of a job with their positions. It is changed in place until it is checked.

    Attributes:
        value: mappings, lists and scalars.
        positions: where each value starts, by its path; empty for a job made in Python.
        keys: where the key of each value in a mapping starts.
        problems: mistakes found while reading.
    """

    value: Any
    positions: dict[ValuePath, str] = field(default_factory=dict)
    keys: dict[ValuePath, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def forget(self, path: ValuePath) -> None:
        """Drop the positions of a value and of everything in it."""
        for positions in (self.positions, self.keys):
            for known in [known for known in positions if known[: len(path)] == path]:
                del positions[known]

    def place(self, path: ValuePath, location: str) -> None:
        """Say where a value comes from."""
        self.positions[path] = self.keys[path] = location

    def move(self, old: ValuePath, new: ValuePath) -> None:
        """Keep the position of a value that gets another path."""
        for positions in (self.positions, self.keys):
            if old in positions:
                positions[new] = positions.pop(old)


def nearest(path: ValuePath, known: Container[ValuePath]) -> ValuePath:
    """`path` if it is known, else the nearest known path around it, else the empty path."""
    while path and path not in known:
        path = path[:-1]
    return path


def located(problem: Problem, positions: Mapping[ValuePath, str]) -> Problem:
    """The problem with the position of its value, else of the nearest mapping or list around it."""
    return problem._replace(location=problem.location or positions.get(nearest(problem.path, positions)))


def plain(value: Any, function: Callable[[Any], Any] = lambda found: found) -> Any:
    """Options objects as mappings, tuples as lists, paths as text; `function` turns callables into what they shall be."""
    if callable(value):
        return function(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {each.metadata.get(KEY, each.name): plain(getattr(value, each.name), function) for each in fields(value) if each.init}
    if isinstance(value, Mapping):
        return {key: plain(each, function) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each, function) for each in value]
    return str(value) if isinstance(value, Path) else value


def shown(value: Any) -> str:
    """A value in an error message, in the words of the job file."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str | int | float):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:57]}…"
    return type(value).__qualname__
