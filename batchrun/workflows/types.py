"""Types of output columns: as a job file writes them, and as Python annotations say them.

A spec is a type name, a list of one spec, or a mapping of field names to specs:
`{label: string, scores: [float64], place: {lat: float64, lon: float64}}`. Every value may be null; a field whose name
ends with a question mark may be missing, and is null then: `{label: string, "note?": string}`.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePath
from typing import Any, TypeAlias
from uuid import UUID

from batchrun.core.errors import known_values

TypeSpec: TypeAlias = "str | list[TypeSpec] | dict[str, TypeSpec]"

SCALAR_TYPES = (
    "string", "bool", "binary", "date", "time", "timestamp", "duration", "json",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64",
)  # fmt: skip
"""Type names, besides `decimal(precision, scale)`. `timestamp` is in microseconds and UTC; `json` is any value as JSON text."""

_OF_ANNOTATION: dict[Any, TypeSpec] = {
    str: "string", bool: "bool", int: "int64", float: "float64", bytes: "binary",
    date: "date", datetime: "timestamp", time: "time", timedelta: "duration", UUID: "string", Path: "string", PurePath: "string",
}  # fmt: skip


def spec_problems(spec: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What is wrong with a spec from a job file: (path, message) of each mistake."""
    if isinstance(spec, str):
        if spec not in SCALAR_TYPES and decimal_of(spec) is None:
            digits = "a decimal has 1 to 38 digits, and so many of them after the point: decimal(12, 2)"
            names = (*SCALAR_TYPES, "decimal(precision, scale)")
            yield path, f"unknown type {spec!r}; {digits if spec.startswith('decimal') else known_values(spec, names, kind='types')}"
    elif isinstance(spec, list):
        if len(spec) != 1:
            yield path, f"a list type has exactly one element type, such as [string]; got {len(spec)}"
        else:
            yield from spec_problems(spec[0], (*path, 0))
    elif isinstance(spec, dict):
        if not spec:
            yield path, "a struct type needs at least one field"
        for name, inner in spec.items():
            if name.endswith("?") and field_name(name) in spec:
                yield (*path, name), f"the field {field_name(name)} is there twice: it may be missing or not"
            yield from spec_problems(inner, (*path, name))
    else:
        yield path, f"a type is a name, a list of one type, or a mapping of fields; got {spec!r}"


def field_name(key: str) -> str:
    """The name of the field that a key of a struct stands for: the key without the mark of a field that may be missing."""
    return key.removesuffix("?") or key


def decimal_of(name: str) -> tuple[int, int] | None:
    """Precision and scale of a decimal type; null when it is none, or not one that a column can have.

    Example:
        >>> decimal_of("decimal(12, 2)")
        (12, 2)
    """
    found = re.fullmatch(r"decimal\(\s*(\d{1,2})\s*,\s*(\d{1,2})\s*\)", name)
    precision, scale = map(int, found.groups()) if found else (0, 0)
    return (precision, scale) if 1 <= precision <= 38 and scale <= precision else None


def spec_of(annotation: Any) -> TypeSpec:
    """The spec of a Python annotation; what has no column type of its own is `json`.

    Example:
        >>> spec_of(list[int])
        ['int64']
    """
    return _spec(annotation, ())


def _spec(annotation: Any, around: tuple[type, ...], about: Sequence[Any] = ()) -> TypeSpec:
    """`about` is what `Annotated` or a pydantic field says of the value."""
    annotation = getattr(annotation, "__supertype__", annotation)  # of a NewType
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Annotated, typing.Required, typing.NotRequired):
        return _spec(arguments[0], around, (*about, *arguments[1:], *getattr(annotation, "__metadata__", ())))
    if origin in (typing.Union, types.UnionType):
        others = [argument for argument in arguments if argument is not type(None)]
        return _spec(others[0], around, about) if len(others) == 1 else "json"
    if origin is typing.Literal:
        return _of_values(arguments)
    if origin is list or (origin is tuple and arguments[1:] == (...,)):
        return [_spec(arguments[0], around)]
    if not isinstance(annotation, type) or annotation in around:  # a type within itself has no end
        return "json"
    if annotation in _OF_ANNOTATION:
        return _OF_ANNOTATION[annotation]
    if annotation is Decimal:
        return _decimal(about)
    if issubclass(annotation, Enum):
        return _of_values([each.value for each in annotation])
    fields = _fields(annotation)
    return {name: _spec(inner, (*around, annotation)) for name, inner in fields.items()} if fields else "json"


def _of_values(values: Sequence[Any]) -> TypeSpec:
    """The type of these values and null, which are all there can be."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {str}:
        return "string"
    return "int64" if kinds == {int} and all(-(2**63) <= value < 2**63 for value in values if value is not None) else "json"


def _decimal(about: Sequence[Any]) -> TypeSpec:
    """A decimal whose digits are limited, as by pydantic's `Field(max_digits=12, decimal_places=2)`; else JSON, which keeps all of them."""
    every = [*about, *(inner for each in about for inner in getattr(each, "metadata", ()))]
    digits = next((each.max_digits for each in every if getattr(each, "max_digits", None) is not None), 0)
    places = next((each.decimal_places for each in every if getattr(each, "decimal_places", None) is not None), 0)
    spec = f"decimal({digits}, {places})"
    return spec if decimal_of(spec) is not None else "json"


def _fields(annotation: Any) -> dict[str, Any] | None:
    """Field annotations of a TypedDict, dataclass or pydantic model; the name of one that may be missing ends with a question mark."""
    if hasattr(annotation, "model_fields") and hasattr(annotation, "model_dump"):
        computed = {name: field.return_type for name, field in annotation.model_computed_fields.items()}
        own = {
            name: typing.Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
            for name, field in annotation.model_fields.items()
        }
        return own | computed
    try:
        hints = typing.get_type_hints(annotation, include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError):  # names that only exist for type checkers
        return None
    if typing.is_typeddict(annotation):
        # Python takes NotRequired for required when annotations are kept as text.
        optional = {name for name, hint in hints.items() if typing.get_origin(hint) is typing.NotRequired}
        required = annotation.__required_keys__ - optional
        return {name if name in required else f"{name}?": hint for name, hint in hints.items()}
    return {field.name: hints[field.name] for field in dataclasses.fields(annotation)} if dataclasses.is_dataclass(annotation) else None
