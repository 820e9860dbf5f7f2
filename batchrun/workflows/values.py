"""Checking a node's output against the type of the output column.

A value that does not fit fails its own item, with the field named, before it can reach the table.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation
from enum import Enum
from pathlib import PurePath
from typing import Any, TypeAlias
from uuid import UUID

from batchrun.core.errors import InvalidValue, known_values
from batchrun.workflows.encoding import encode
from batchrun.workflows.types import TypeSpec, decimal_of, field_name

_DATE_CHARS = len("2026-11-01")
_EXACT = Context(prec=80, traps=[InvalidOperation, Inexact])

Check: TypeAlias = Callable[[Any], Any]
"""Gives the value back in plain form (dicts, lists, scalars). Null passes. Raises `InvalidValue`."""


def checker(spec: TypeSpec, name: str = "output") -> Check:
    """Compile a spec into a check.

    Args:
        spec: a valid spec.
        name: what the value is called in error messages.

    Example:
        >>> checker({"label": "string"})({"label": 3})
        Traceback (most recent call last):
        batchrun.core.errors.InvalidValue: output.label must be string, got int: 3
    """
    if isinstance(spec, dict):
        fields = {field_name(key): checker(inner, f"{name}.{field_name(key)}") for key, inner in spec.items()}
        return _struct(name, fields, frozenset(field_name(key) for key in spec if key != field_name(key)))
    if isinstance(spec, list):
        return _list(name, checker(spec[0], f"{name}[]"))
    return _scalar(name, spec)


def _struct(name: str, fields: dict[str, Check], optional: frozenset[str]) -> Check:
    def check(value: Any) -> Any:
        if value is None:
            return None
        values = value if isinstance(value, dict) else _as_mapping(value)
        if values is None:
            raise _mismatch(name, "an object with " + ", ".join(fields), value)
        if values.keys() != fields.keys():
            if not (optional and values.keys() <= fields.keys() and fields.keys() - values.keys() <= optional):
                raise _wrong_fields(name, fields, optional, values)
            return {field: inner(values.get(field)) for field, inner in fields.items()}
        return {field: inner(values[field]) for field, inner in fields.items()}

    return check


def _list(name: str, inner: Check) -> Check:
    def check(value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, list | tuple):
            raise _mismatch(name, "a list", value)
        return [inner(element) for element in value]

    return check


def _scalar(name: str, kind: str) -> Check:
    digits = decimal_of(kind)
    convert = _CONVERTERS[kind] if digits is None else _decimal(*digits)

    def check(value: Any) -> Any:
        if value is None:
            return None
        try:
            return convert(value)
        except InvalidValue as error:
            raise InvalidValue(f"{name}: {error}") from None
        except (TypeError, ValueError, OverflowError):
            raise _mismatch(name, kind, value) from None

    return check


def _as_mapping(value: Any) -> Mapping[str, Any] | None:
    if isinstance(value, Mapping):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    kind = type(value)
    if hasattr(kind, "model_fields") and hasattr(kind, "model_dump"):
        return {name: getattr(value, name) for name in (*kind.model_fields, *kind.model_computed_fields)}
    return None


def _mismatch(name: str, wanted: str, value: Any) -> InvalidValue:
    shown = repr(value)
    return InvalidValue(f"{name} must be {wanted}, got {type(value).__qualname__}: {shown[:80]}{'…' if len(shown) > 80 else ''}")


def _wrong_fields(name: str, fields: Mapping[str, Any], optional: frozenset[str], values: Mapping[str, Any]) -> InvalidValue:
    missing = [field for field in fields if field not in values and field not in optional]
    if missing:
        return InvalidValue(f"{name}.{missing[0]} is missing; the type has {', '.join(fields)}")
    extra = next(str(field) for field in values if field not in fields)
    return InvalidValue(f"{name}.{extra} is not in the type; {known_values(extra, fields, kind='fields')}")


def _text(value: Any) -> str:
    text = value if type(value) is str else _as_text(_content(value))
    if not text.isascii():
        text.encode()  # lone surrogates have no UTF-8 form
    return text


def _as_text(value: Any) -> str:
    if isinstance(value, str | UUID | PurePath):
        return str(value)
    raise TypeError


def _content(value: Any) -> Any:
    """What the member of an enumeration stands for; other values as they are."""
    return value.value if isinstance(value, Enum) else value


def _bool(value: Any) -> bool:
    if isinstance(value, bool) or type(value).__name__ in {"bool_", "bool"}:
        return bool(value)
    raise TypeError


def _binary(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise TypeError


def _float(value: Any) -> float:
    if isinstance(value, float):
        return value
    if isinstance(value, bool | str | bytes):
        raise TypeError
    return float(value)


def _float32(value: Any) -> float:
    number = _float(value)
    if math.isfinite(number) and abs(number) > 3.4028235e38:
        raise OverflowError
    return number


def _integer(low: int, high: int) -> Check:
    def convert(value: Any) -> int:
        if isinstance(value, bool):
            raise TypeError
        number = value if type(value) is int else operator.index(_content(value))
        if not low <= number <= high:
            raise OverflowError
        return number

    return convert


def _decimal(precision: int, scale: int) -> Check:
    def convert(value: Any) -> Decimal:
        if isinstance(value, bool) or not isinstance(value, Decimal | int | float | str):
            raise TypeError
        try:
            exact = Decimal(str(value)).quantize(Decimal(1).scaleb(-scale), context=_EXACT)
        except DecimalException:
            raise ValueError from None
        if not exact.is_finite() or len(exact.as_tuple().digits) > precision:
            raise ValueError
        return exact

    return convert


def _date(value: Any) -> date:
    if isinstance(value, str):
        return date.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise TypeError


def _time(value: Any) -> time:
    if isinstance(value, str):
        value = time.fromisoformat(value)
    if isinstance(value, time) and value.tzinfo is None:
        return value
    raise TypeError


def _timestamp(value: Any) -> datetime:
    if isinstance(value, str):
        if len(value) <= _DATE_CHARS:  # a day is no moment
            raise ValueError
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        raise TypeError
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return timedelta(seconds=value)


_CONVERTERS: dict[str, Check] = {
    "string": _text,
    "bool": _bool,
    "binary": _binary,
    "date": _date,
    "time": _time,
    "timestamp": _timestamp,
    "duration": _duration,
    "json": lambda value: encode(value).decode(),
    "float32": _float32,
    "float64": _float,
    **{f"int{bits}": _integer(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": _integer(0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}
