"""Text for terminals: whatever an item, an error or a path holds, it can neither move the cursor nor hide what comes next."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import datetime
from typing import Literal

_JOINERS = "\u200c\u200d"  # inside Persian words and emoji; they do nothing else


def safe(text: str) -> str:
    r"""The text with control characters, and others that do not show, written as in JSON: `\u001b`. Line breaks and tabs stay."""
    if text.isprintable():
        return text
    return "".join(character if _is_harmless(character) else json.dumps(character)[1:-1] for character in text)


def one_line(text: str, most_chars: int | None = None) -> str:
    """The text in one line, cut off at `most_chars` characters."""
    line = safe(" ".join(text.split()))
    return line if most_chars is None or len(line) <= most_chars else f"{line[:most_chars]}…"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines with cells under one another, after an empty line."""
    lines = [[one_line(cell) for cell in row] for row in (header, *rows)]
    widths = [max(_width(line[column]) for line in lines) for column in range(len(header))]
    yield ""
    for line in lines:
        yield "  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)).rstrip()


def local_time(text: object, *, to: Literal["seconds", "milliseconds"] = "seconds") -> str:
    """A time as it was written down, as people read it: local, without its zone."""
    with suppress(ValueError, OverflowError):
        return datetime.fromisoformat(str(text)).astimezone().replace(tzinfo=None).isoformat(" ", to)
    return one_line(str(text))


def duration(seconds: float) -> str:
    """A duration as people say it: `0.7 s`, `2 min 5 s`, `3 h 12 min`."""
    if seconds < 60:
        return f"{seconds:,.1f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60} min {int(seconds) % 60} s"
    return f"{int(seconds) // 3600:,} h {int(seconds) % 3600 // 60} min"


def counted(count: int, noun: str) -> str:
    """A number of things: `1 item`, `2 items`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _is_harmless(character: str) -> bool:
    return character.isprintable() or character in "\n\t" or unicodedata.category(character) == "Zs" or character in _JOINERS


def _width(text: str) -> int:
    """How many columns of a terminal it takes."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else unicodedata.combining(character) == 0 for character in text)


@contextmanager
def prints_aside(*, as_json: bool) -> Iterator[None]:
    """While functions of users run: with `as_json`, what they print goes to standard error, as standard output is for programs."""
    if not as_json:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield
