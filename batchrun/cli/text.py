"""Text for terminals: whatever an item, an error or a path holds, it can neither move the cursor nor hide what comes next."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import datetime
from typing import Literal

from batchrun.core.text import counted, duration, one_line, safe

__all__ = ["counted", "duration", "local_time", "one_line", "prints_aside", "safe", "table"]


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
