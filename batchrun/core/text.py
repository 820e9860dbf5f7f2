"""Text for people: what an item, an error or a path holds can neither move a cursor nor hide what comes next."""

from __future__ import annotations

import json
import unicodedata

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
