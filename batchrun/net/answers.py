"""What answers are read as, and what is taken out of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import httpx
import pydantic_core

from batchrun.core.errors import ResponseError, UndefinedReference
from batchrun.net.client import HttpAnswer
from batchrun.net.failures import describe, excerpt
from batchrun.workflows.references import field_of, parse_reference

_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE)

Read: TypeAlias = Callable[[httpx.Request, HttpAnswer], Any]
"""What an answer is read as. Raises `ResponseError`."""

Steps: TypeAlias = tuple[str | int, ...]


def read_json(request: httpx.Request, answer: HttpAnswer) -> Any:
    """The JSON value of an answer; null when it is empty.

    Raises:
        ResponseError: it is not JSON.
    """
    if not answer.body:
        return None
    try:
        return pydantic_core.from_json(answer.body)
    except ValueError:
        pass
    try:
        # Slower, and the only one to take lone surrogates, a byte order mark and UTF-16, which services do send.
        return json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        kind = answer.headers.get("content-type", "no content type")
        raise ResponseError(
            f"{describe(request)} answered {answer.status} with a body that is not JSON ({kind}): {excerpt(answer.body)}"
        ) from error


def read_text(request: httpx.Request, answer: HttpAnswer) -> str:
    """The text of an answer, in the encoding it names, else UTF-8.

    Raises:
        ResponseError: it is not text in this encoding.
    """
    charset = _CHARSET.search(answer.headers.get("content-type", ""))
    encoding = charset[1] if charset else "utf-8"
    try:
        return answer.body.decode(encoding)
    except (LookupError, ValueError) as error:
        raise ResponseError(
            f"{describe(request)} answered {answer.status} with a body that is not {encoding} text: {excerpt(answer.body)}"
        ) from error


def read_bytes(_request: httpx.Request, answer: HttpAnswer) -> bytes:
    """The body of an answer as it is."""
    return answer.body


READERS: Mapping[str, Read] = {"json": read_json, "text": read_text, "bytes": read_bytes}
"""What reads an answer, by what it is read as."""


def steps_of(path: str) -> Steps | None:
    """The steps of a path into a JSON value; null when it is none.

    Example:
        >>> steps_of("data.items[0].id")
        ('data', 'items', 0, 'id')
        >>> steps_of("[1]['first name']")
        (1, 'first name')
    """
    found = parse_reference(f"answer{'' if path.startswith('[') else '.'}{path}")
    return None if found is None else found[1:]


def taken(value: Any, steps: Steps, request: httpx.Request) -> Any:
    """What is at a path in a JSON answer; null below null.

    Raises:
        ResponseError: there is no such field.
    """
    at = "the answer"
    try:
        for step in steps:
            value = field_of(value, step, at)
            at += f"[{step}]" if isinstance(step, int) else f".{step}"
    except UndefinedReference as error:
        raise ResponseError(f"{describe(request)}: {error}") from None
    return value
