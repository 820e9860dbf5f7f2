"""Types of output columns: as a job file writes them, and as Python annotations say them.

A spec is a type name, a list of one spec, or a mapping of field names to specs:
`{label: string, scores: [float64], place: {lat: float64, lon: float64}}`. Every value may be null.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Any, TypeAlias

from batchrun.core.errors import known_values

TypeSpec: TypeAlias = "str | list[TypeSpec] | dict[str, TypeSpec]"

SCALAR_TYPES = (
    "string", "bool", "binary", "date", "time", "timestamp", "json",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64",
)  # fmt: skip
"""Type names. `timestamp` is in microseconds and UTC; `json` is any value as JSON text."""

_OF_ANNOTATION: dict[Any, TypeSpec] = {
    str: "string", bool: "bool", int: "int64", float: "float64", bytes: "binary",
    date: "date", datetime: "timestamp", time: "time",
}  # fmt: skip


def spec_problems(spec: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What is wrong with a spec from a job file: (path, message) of each mistake."""
    if isinstance(spec, str):
        if spec not in SCALAR_TYPES:
            yield path, f"unknown type {spec!r}; {known_values(spec, SCALAR_TYPES, kind='types')}"
    elif isinstance(spec, list):
        if len(spec) != 1:
            yield path, f"a list type has exactly one element type, such as [string]; got {len(spec)}"
        else:
            yield from spec_problems(spec[0], (*path, 0))
    elif isinstance(spec, dict):
        if not spec:
            yield path, "a struct type needs at least one field"
        for name, inner in spec.items():
            yield from spec_problems(inner, (*path, name))
    else:
        yield path, f"a type is a name, a list of one type, or a mapping of fields; got {spec!r}"


def spec_of(annotation: Any) -> TypeSpec:
    """The spec of a Python annotation; what has no column type of its own is `json`.

    Example:
        >>> spec_of(list[int])
        ['int64']
    """
    return _spec(annotation, ())


def _spec(annotation: Any, around: tuple[type, ...]) -> TypeSpec:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Annotated, typing.Required):
        return _spec(arguments[0], around)
    if origin in (typing.Union, types.UnionType):
        others = [argument for argument in arguments if argument is not type(None)]
        return _spec(others[0], around) if len(others) == 1 else "json"
    if origin is typing.Literal:
        return "string" if all(isinstance(value, str) for value in arguments) else "json"
    if origin is list or (origin is tuple and arguments[1:] == (...,)):
        return [_spec(arguments[0], around)]
    if not isinstance(annotation, type) or annotation in around:  # a type within itself has no end
        return "json"
    if annotation in _OF_ANNOTATION:
        return _OF_ANNOTATION[annotation]
    fields = _fields(annotation)
    return {name: _spec(inner, (*around, annotation)) for name, inner in fields.items()} if fields else "json"


def _fields(annotation: Any) -> dict[str, Any] | None:
    """Field annotations of a TypedDict, dataclass or pydantic model whose fields are all present in every value."""
    if hasattr(annotation, "model_fields") and hasattr(annotation, "model_dump"):
        computed = {name: field.return_type for name, field in annotation.model_computed_fields.items()}
        return {name: field.annotation for name, field in annotation.model_fields.items()} | computed
    try:
        hints = typing.get_type_hints(annotation, include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError):  # names that only exist for type checkers
        return None
    if typing.is_typeddict(annotation):
        # Python takes NotRequired for required when annotations are kept as text.
        optional = any(typing.get_origin(hint) is typing.NotRequired for hint in hints.values())
        return None if optional or annotation.__required_keys__ != hints.keys() else hints
    return {field.name: hints[field.name] for field in dataclasses.fields(annotation)} if dataclasses.is_dataclass(annotation) else None
