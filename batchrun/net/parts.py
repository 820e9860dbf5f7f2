"""Values written down as the parts of a request: text, query strings, forms, headers, JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from batchrun.core.errors import InvalidValue
from batchrun.workflows.encoding import encode

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def text_of(value: Any, what: str) -> str:
    """A single value as text, the way JSON would write it: `true`, `1.5`, `2026-11-01`.

    Args:
        value: text, a number, a date, ….
        what: names the value in error messages.

    Raises:
        InvalidValue: the value is null, not finite, a list, an object, or text that has no UTF-8 form.
    """
    if isinstance(value, str):
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise InvalidValue(f"{what} has a lone surrogate, which has no UTF-8 form") from None
        return value
    if value is None:
        raise InvalidValue(f"{what} is null")
    written = encode(value)
    if written[:1] in b"[{":
        raise InvalidValue(f"{what} must be a single value, got {type(value).__qualname__}")
    if written == b"null":
        raise InvalidValue(f"{what} is not a finite number")
    return str(orjson.loads(written)) if written[:1] == b'"' else written.decode()


def query_string(values: Mapping[str, Any], what: str) -> str:
    """`a=1&b=x%20y`. Nulls are left out, a list repeats its key.

    Raises:
        InvalidValue: a value that `text_of` refuses.
    """
    written = []
    for name, value in values.items():
        if type(value) is int:
            written.append(f"{quoted(name)}={value}")
        else:
            written += [f"{quoted(name)}={quoted(text)}" for text in _texts(value, name, what)]
    return "&".join(written)


def quoted(text: str) -> str:
    """Text percent-encoded, slashes included."""
    return text if text.isalnum() and text.isascii() else quote(text, safe="")  # the former is three times faster


def form_body(values: Mapping[str, Any], what: str) -> bytes:
    """The body of an HTML form. Nulls are left out, a list repeats its key.

    Raises:
        InvalidValue: a value that `text_of` refuses.
    """
    return urlencode([(name, text) for name, value in values.items() for text in _texts(value, name, what)]).encode("ascii")


def _texts(value: Any, name: str, what: str) -> Iterator[str]:
    for one in value if isinstance(value, list | tuple) else (value,):
        if one is not None:
            yield text_of(one, f"{what} {name!r}")


def header_value(value: Any, name: str) -> str:
    """A header's value as text.

    Raises:
        InvalidValue: a value that `text_of` refuses, or a line break or another control character in it.
    """
    text = text_of(value, f"header {name!r}")
    if _CONTROL.search(text):
        raise InvalidValue(f"header {name!r} has a line break or another control character in it")
    return text


def json_body(value: Any) -> bytes:
    """A JSON body.

    Raises:
        InvalidValue: there is a value without a JSON form in it, NaN and infinity included.
    """
    written = encode(value)
    # Looking for NaN costs more than writing; only a null in the text can be one.
    if b"null" in written and _has_nan(value):
        raise InvalidValue("the JSON body has NaN or infinity in it, for which JSON has no form; replace it, for example with null")
    return written


def _has_nan(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_nan, value.values()))
    return isinstance(value, list | tuple) and any(map(_has_nan, value))
