"""How Python values are written down as JSON text: inputs, outputs and request bodies.

| Python value | JSON |
|---|---|
| None, bool, int, float, str, list, tuple, dict | as such; integers of any size; keys of dicts become text |
| NaN, infinity | null |
| str with lone surrogates | kept, as `\\udXXX` escapes |
| Decimal, Fraction | text, all digits kept |
| datetime, date, time | text, ISO 8601 |
| timedelta | seconds |
| bytes, bytearray, memoryview | text, base64 |
| Enum, UUID, Path | its value; text; text |
| dataclass, NamedTuple | object; list |
| pydantic model | object |
| set, frozenset | list, sorted when possible |
| NumPy scalar, array | number; list |
| anything else | refused: `InvalidValue` |
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePath
from typing import Any

import orjson

from batchrun.core.errors import InvalidValue

_dumps = orjson.dumps
_NUMPY = orjson.OPT_SERIALIZE_NUMPY


def encode(value: Any) -> bytes:
    """`value` as JSON text in UTF-8.

    Raises:
        InvalidValue: the value, or something in it, has no JSON form; the message names its type.

    Example:
        >>> encode({"a": Decimal("1.50")})
        b'{"a":"1.50"}'
    """
    try:
        return _dumps(value, _encode_other, _NUMPY)
    except TypeError:
        return _encode_slowly(value)


def _encode_slowly(value: Any) -> bytes:
    """What orjson cannot do: keys that are not text, integers above 64 bits, lone surrogates."""
    try:
        return json.dumps(_plain(value), separators=(",", ":")).encode()
    except RecursionError:
        raise InvalidValue("a value that contains itself, or is nested too deeply, cannot be written as JSON") from None


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_key(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    try:
        return orjson.loads(_dumps(value, None, _NUMPY))
    except TypeError:
        return _plain(_encode_other(value))


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    return _dumps(key, _encode_other, _NUMPY).decode().strip('"')


def _encode_other(value: Any) -> Any:
    if isinstance(value, Decimal | Fraction | PurePath):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, set | frozenset):
        try:
            return sorted(value)
        except TypeError:
            return list(value)
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise InvalidValue(
        f"a value of type {type(value).__qualname__} cannot be written as JSON; return plain values, dataclasses or pydantic models"
    )
