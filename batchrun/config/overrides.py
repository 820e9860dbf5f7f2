"""Single values set from outside the job file: `--set run.parallelism=64`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from batchrun.config.source import Source, ValuePath, plain, shown
from batchrun.config.yaml_source import read_yaml
from batchrun.core.errors import JobError, Problem, dotted, known_values

_PATH = re.compile(r"[^.\[\]=]+(\[\d+\])*(\.[^.\[\]=]+(\[\d+\])*)*")
_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


class _Refused(Exception):
    """An override that cannot be applied."""


def apply_overrides(source: Source, overrides: Mapping[str, Any] | Sequence[str]) -> set[ValuePath]:
    """Set each value in `source`, whose problems grow by what cannot be set. Returns the paths that were set to null."""
    nulls: set[ValuePath] = set()
    for path, value, label in _parsed(overrides, source.problems):
        try:
            place = _set(source, path, value, label)
        except _Refused as refused:
            source.problems.append(Problem((), str(refused), label))
            continue
        nulls.discard(place)
        if value is None:
            nulls.add(place)
    return nulls


def remove(source: Source, path: ValuePath) -> None:
    """Take a key out of its mapping."""
    value = source.value
    for step in path[:-1]:
        value = value[step]
    if isinstance(value, dict):
        del value[path[-1]]
        source.forget(path)


def _parsed(overrides: Mapping[str, Any] | Sequence[str], problems: list[Problem]) -> Iterable[tuple[str, Any, str]]:
    if isinstance(overrides, Mapping):
        yield from ((path, plain(value), f'overrides["{path}"]') for path, value in overrides.items())
        return
    for text in [overrides] if isinstance(overrides, str) else overrides:
        path, equals, value_text = text.partition("=")
        label = f"--set {text}"
        if not equals:
            problems.append(Problem((), "give it as path=value, for example run.parallelism=64", label))
            continue
        try:
            value = read_yaml(value_text, path)
        except JobError as error:
            problems.extend(problem._replace(location=label) for problem in error.problems)
            continue
        problems.extend(problem._replace(location=label) for problem in value.problems)
        yield path.strip(), value.value, label


def _set(source: Source, text: str, value: Any, label: str) -> ValuePath:
    if not _PATH.fullmatch(text):
        raise _Refused(f"{text!r} is not a path such as run.parallelism or workflow.nodes.classify.timeout_seconds")
    steps: list[str | int] = [int(index) if index else name for index, name in _STEP.findall(text)]
    if steps == ["parallelism"]:  # the short form, which is the same value
        steps = ["run", "parallelism"]
    parent, path = source.value, cast("ValuePath", ())
    for step in steps[:-1]:
        key = _key(parent, step, path)
        path = (*path, key)
        if isinstance(parent, dict) and parent.get(key) is None:
            parent[key] = {}
            source.place(path, label)
        parent = parent[key]
    key = _key(parent, steps[-1], path)
    parent[key] = value
    path = (*path, key)
    source.forget(path)
    source.place(path, label)
    return path


def _key(parent: Any, step: str | int, path: ValuePath) -> Any:
    """The key in a mapping, or the index in a list, that a step of an override leads to."""
    if isinstance(parent, dict) and isinstance(step, str):
        return step
    if not isinstance(parent, list):
        wanted = "a list" if isinstance(step, int) else "a mapping or a list of nodes"
        raise _Refused(f"{dotted(path) or 'the job'} is {shown(parent)}, not {wanted}")
    if isinstance(step, int) or step.isdecimal():
        if int(step) >= len(parent):
            raise _Refused(f"{dotted(path)} has no element {step}; it has {len(parent)}")
        return int(step)
    ids = [each.get("id") if isinstance(each, dict) else None for each in parent]
    if step in ids:
        return ids.index(step)
    raise _Refused(f"{dotted(path)} has no {step!r}; {known_values(step, [name for name in ids if isinstance(name, str)], kind='ids')}")
