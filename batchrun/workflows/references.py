"""References: `item.name`, `nodes.clean.output.text`, `inputs.x`, `vars.model`, compiled into plain lookups.

Null propagates: a field of null is null, so what depends on a skipped node is null and not an error. A field that a
present value does not have is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from batchrun.core.errors import UndefinedReference, known_values
from batchrun.workflows.node import Render
from batchrun.workflows.scope import Scope

_STEP = r"""\.\s*[A-Za-z_]\w*|\[\s*(?:-?\d+|"[^"\\]*"|'[^'\\]*')\s*\]"""
_REFERENCE = re.compile(rf"\s*([A-Za-z_]\w*)((?:\s*(?:{_STEP}))*)\s*")
_FIELDS = ("__dataclass_fields__", "model_fields", "_fields")  # of dataclasses, pydantic models, named tuples
_STEPS = re.compile(_STEP)


def parse_reference(expression: str) -> tuple[str | int, ...] | None:
    """The parts of an expression that is a plain reference, else None.

    Example:
        >>> parse_reference("nodes.clean.output['first name'][0]")
        ('nodes', 'clean', 'output', 'first name', 0)
    """
    match = _REFERENCE.fullmatch(expression)
    if match is None:
        return None
    parts: list[str | int] = [match[1]]
    for step in _STEPS.findall(match[2]):
        if step.startswith("."):
            parts.append(step[1:].strip())
        else:
            inner = step[1:-1].strip()
            parts.append(inner[1:-1] if inner[0] in "\"'" else int(inner))
    return tuple(parts)


def field_of(value: Any, key: str | int, path: str) -> Any:
    """One step into a value; null stays null.

    Raises:
        UndefinedReference: the value has no such field or element.
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        if key in value:
            return value[key]
        raise UndefinedReference(f'{path} has no field "{key}"; {known_values(str(key), map(str, value), kind="fields")}')
    if isinstance(key, int):
        if isinstance(value, list | tuple | str) and -len(value) <= key < len(value):
            return value[key]
        raise UndefinedReference(f"{path} has no element {key}; it is {_describe(value)}")
    if any(key in getattr(type(value), known, ()) for known in _FIELDS):
        return getattr(value, key)
    raise UndefinedReference(f'{path} has no field "{key}"; it is {_describe(value)}')


def lookup(start: Render, steps: tuple[str | int, ...], path: str) -> Render:
    """Follow `steps` from what `start` gives. `path` names the start in error messages."""
    if not steps:
        return start

    def follow(scope: Scope) -> Any:
        value, at = start(scope), path
        for step in steps:
            value = field_of(value, step, at)
            at += f"[{step}]" if isinstance(step, int) else f".{step}"
        return value

    return follow


def _describe(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return f"of type {type(value).__qualname__}"
