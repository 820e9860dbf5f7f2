r"""How Python values are written down as JSON text: inputs, outputs and request bodies.

| Python value | JSON |
|---|---|
| None, bool, int, float, str, list, tuple, dict | as such; integers of any size; keys of dicts become text |
| NaN, infinity | null |
| str with lone surrogates | kept, as `\udXXX` escapes |
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
import inspect
import json
import math
from datetime import time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePath
from typing import Any

import orjson

from batchrun.core.errors import InvalidValue, OutputTooLarge

dumps = orjson.dumps
_NUMPY = orjson.OPT_SERIALIZE_NUMPY
OPTIONS = _NUMPY | orjson.OPT_APPEND_NEWLINE
CUT = slice(None, -1)
"""What `encode` is made of, for the one place where its call would cost too much."""


def encode(value: Any) -> bytes:
    """`value` as JSON text in UTF-8.

    Raises:
        InvalidValue: the value, or something in it, has no JSON form; the message names its type.

    Example:
        >>> encode({"a": Decimal("1.50")})
        b'{"a":"1.50"}'
    """
    try:
        # orjson writes into a block of 4 kB and cuts it down to size, which leaves a hole behind every text that is kept.
        # Cutting off a newline makes a copy of the right size: memory falls by half, and keeping a text is six times as fast.
        return dumps(value, encode_other, OPTIONS)[CUT]
    except TypeError:
        return encode_slowly(value)


def bounded(text: bytes, max_output_bytes: int | None) -> bytes:
    """An output as JSON text, if it is not too large; null: whatever its size.

    Raises:
        OutputTooLarge: it is.
    """
    if max_output_bytes is not None and len(text) > max_output_bytes:
        raise OutputTooLarge(len(text), max_output_bytes)
    return text


def encode_slowly(value: Any) -> bytes:
    """The same for what orjson cannot do: keys that are not text, integers above 64 bits, lone surrogates. Raises what `encode` does."""
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
        fields = {_key(key): _plain(inner) for key, inner in value.items()}
        if len(fields) < len(value):
            raise InvalidValue("a dict with keys that are the same as text, such as 1 and '1', cannot be written as JSON")
        return fields
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    try:
        return orjson.loads(dumps(value, None, _NUMPY))
    except TypeError:
        return _plain(encode_other(value))


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    plain = _plain(key)
    return plain if isinstance(plain, str) else json.dumps(plain, separators=(",", ":"))


def encode_other(value: Any) -> Any:
    """A value that JSON does not know, as one that is nearer to it.

    Raises:
        InvalidValue: there is none.
    """
    if isinstance(value, Decimal | Fraction | PurePath):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, time):
        return value.isoformat()  # one with a zone; the others never get here
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, set | frozenset):
        try:
            return sorted(value)
        except TypeError:
            return list(value)
    parts = value if isinstance(value, type) else _parts(value)
    if parts is value:
        advice = "return plain values, dataclasses or pydantic models"
        if inspect.iscoroutine(value):
            value.close()  # it would complain that nobody awaited it
            advice = "make the function that returns it async, and await it there"
        raise InvalidValue(f"a value of type {type(value).__qualname__} cannot be written as JSON; {advice}")
    return parts


def _parts(value: Any) -> Any:
    """What an object consists of; the object itself when it does not tell."""
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    # Arrays that orjson cannot read, such as a column of a matrix.
    return value.tolist() if hasattr(value, "tolist") else value
