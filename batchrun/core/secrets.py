"""Secrets: told to services, and to nobody else.

What is written down or shown of an execution goes through a `Mask` first, which knows the secrets of its job in the forms
that they take on their way: as they are, percent-encoded, in base64, as JSON and in tracebacks.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, cast
from urllib.parse import quote, quote_plus

from batchrun.core.errors import ErrorRecord
from batchrun.core.items import ItemResult, NodeRecord, Told

MASKED = "***"
"""What stands in the place of a secret."""

SHORTEST = 6
"""A secret must have so many characters: others are part of ordinary words, which would be masked as well."""

_LONGEST_LINE = 16  # of a secret of many lines, one this long is a secret too
_CUT = 8  # the first characters of a secret are masked where a text was cut off within it, if they are so many
_ESCAPED = re.compile("%[0-9A-F]{2}")


class Mask:
    """Takes secrets out of texts and values.

    Args:
        secrets: their values.

    Example:
        >>> Mask(["s3cr3t!"]).text("Authorization: Basic dXNlcjpzM2NyM3Qh, or s3cr3t%21")
        'Authorization: Basic dXNlcjp***, or ***'
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        found = {form for secret in secrets for form in _forms(secret)}
        self._forms = sorted(found, key=len, reverse=True)  # one may be the beginning of another
        self._bytes = [form.encode() for form in self._forms]
        self._pattern = re.compile("|".join(map(re.escape, self._forms)))

    def __bool__(self) -> bool:
        """Whether there are any secrets."""
        return bool(self._forms)

    def is_in(self, data: bytes) -> bool:
        """Whether there is a secret in a text in UTF-8."""
        return any(form in data for form in self._bytes)

    def text(self, text: str) -> str:
        """A text without its secrets, also where it was cut off within one."""
        if any(form in text for form in self._forms):
            text = self._pattern.sub(MASKED, text)
        for form in self._forms:
            if form[:_CUT] in text:
                text = _without_beginnings(text, form)
        return text

    def json(self, data: bytes) -> bytes:
        """A JSON text without its secrets; still JSON."""
        if not self.is_in(data):
            return data
        return json.dumps(self.value(json.loads(data)), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")

    def value(self, value: Any) -> Any:
        """A plain value without its secrets. A number that is one becomes null."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bytes):
            return self.text(value.decode("latin-1")).encode("latin-1") if self.is_in(value) else value
        if isinstance(value, dict):
            return {self.value(key): self.value(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            inner = map(self.value, value)
            return list(inner) if isinstance(value, list) else tuple(inner)
        if isinstance(value, int | float) and self.is_in(str(value).encode()):
            return None
        return value

    def error(self, error: ErrorRecord) -> ErrorRecord:
        """The record of an error without secrets."""
        traceback = None if error.traceback is None else self.text(error.traceback)
        return error._replace(message=self.text(error.message), traceback=traceback)

    def node(self, record: NodeRecord) -> NodeRecord:
        """A node execution without secrets."""
        position, status, *rest = record
        return cast("NodeRecord", (position, status, *map(self._field, rest)))

    def result(self, result: ItemResult) -> ItemResult:
        """The result of an item without secrets."""
        output = self.json(result.output) if isinstance(result.output, bytes) else self.value(result.output)
        error = None if result.error is None else self.error(result.error)
        return result._replace(output=output, error=error, nodes=[self.node(record) for record in result.nodes])

    def _field(self, value: Any) -> Any:
        """What a record says: JSON, an error, a text, or something else."""
        if isinstance(value, bytes):
            return self.json(value)
        if isinstance(value, ErrorRecord):
            return self.error(value)
        if isinstance(value, Told):
            return Told.of(value, *(None if text is None else self.text(text) for text in (value.prompt, value.external_id)))
        return self.text(value) if isinstance(value, str) else value


def _forms(secret: str) -> Iterator[str]:
    """The forms in which a secret may stand in a text."""
    lines = {line.strip() for line in secret.splitlines()}
    for plain in {secret, *(line for line in lines if len(line) >= _LONGEST_LINE)}:
        written = {plain, json.dumps(plain)[1:-1], json.dumps(plain, ensure_ascii=False)[1:-1], repr(plain)[1:-1], html.escape(plain)}
        data = plain.encode("utf-8", "surrogateescape")
        written |= {repr(data)[2:-1], *_percent_encoded(data), *_in_base64(data)}
        yield from (form for form in written if (len(form) >= SHORTEST and form.isprintable()) or form == plain)


def _percent_encoded(data: bytes) -> Iterator[str]:
    for form in (quote(data, safe=""), quote(data), quote_plus(data)):
        yield from (form, _ESCAPED.sub(lambda found: found[0].lower(), form))


def _in_base64(data: bytes) -> Iterator[str]:
    """What base64 makes of it, whatever stands before and after it: of what is encoded together, parts of characters are left out."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data).decode()
        core = encoded[-(-8 * before // 6) : 8 * (before + len(data)) // 6]
        yield from (core, core.replace("+", "-").replace("/", "_"))


def _without_beginnings(text: str, form: str) -> str:
    """Mask what begins like a secret and then ends, at the end of a line or where the text was cut off."""
    at = text.find(form[:_CUT])
    while at >= 0:
        size = next((size for size in range(_CUT, len(form)) if text[at + size : at + size + 1] != form[size]), len(form))
        end = at + size
        if size == len(form) or end == len(text) or text[end] in "…\n":
            text = text[:at] + MASKED + text[end:]
            end = at
        at = text.find(form[:_CUT], end)
    return text
