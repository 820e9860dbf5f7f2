"""Values as text that is the same for equal values of the same types, and for no others.

JSON alone will not do: in it a date looks like its text, bytes look like text, a tuple like a list, and NaN like null. What
JSON has no type for is written down with the name of its type.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from typing import Any
from uuid import UUID

import orjson

from batchrun.core.errors import InvalidValue

_TYPED = "\0"  # the only key of what stands for a value with the name of its type
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1
_PLAIN = {str, bool, type(None)}
_EXACT = {date, datetime, time, timedelta, Decimal, Fraction, UUID, complex}  # their repr says everything


def canonical(value: Any) -> bytes:
    """`value` as text. May run code of users, which may raise anything.

    Raises:
        InvalidValue: there is a value in it that cannot be told apart from others.

    Example:
        >>> canonical({"b": 1.0, "a": [True, None]}) == canonical({"a": [True, None], "b": 1.0})
        True
        >>> canonical((1, 2)) == canonical([1, 2])
        False
    """
    written = _written(value)
    try:
        return orjson.dumps(written, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # lone surrogates, deep nesting
        return json.dumps(written, sort_keys=True).encode()


def _written(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN or (kind is int and _SMALLEST <= value <= _LARGEST) or (kind is float and math.isfinite(value)):
        return value
    if kind is list:
        return [_written(inner) for inner in value]
    if kind is dict and _TYPED not in value and all(type(key) is str for key in value):
        return {key: _written(inner) for key, inner in value.items()}
    return {_TYPED: [f"{kind.__module__}.{kind.__qualname__}", _parts(value, kind)]}


def _parts(value: Any, kind: type) -> Any:
    """What tells a value from others of its type."""
    if kind in _EXACT:
        return repr(value)
    for kinds, write in _WRITERS:
        if isinstance(value, kinds):
            return write(value)
    return _fields(value, kind)


_WRITERS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (Enum, lambda value: value.name),
    (int, hex),
    (float, float.__repr__),
    (str, str.__str__),  # not what a class of users shows in its place
    (PurePath, str),
    ((bytes, bytearray, memoryview), lambda value: bytes(value).decode("latin-1")),
    (Mapping, lambda value: sorted([canonical(key).decode(), _written(inner)] for key, inner in value.items())),
    ((list, tuple), lambda value: [_written(inner) for inner in value]),
    ((set, frozenset), lambda value: sorted(canonical(inner).decode() for inner in value)),
)


def _fields(value: Any, kind: type) -> Any:
    if dataclasses.is_dataclass(kind):
        return {field.name: _written(getattr(value, field.name)) for field in dataclasses.fields(kind)}
    if hasattr(kind, "model_dump"):
        return _written(value.model_dump())
    if hasattr(kind, "tolist") and hasattr(kind, "dtype"):  # arrays and numbers of NumPy
        return [str(value.dtype), list(value.shape), _written(value.tolist())]
    raise InvalidValue(f"a value of type {kind.__qualname__} cannot be told apart from others of its type")
