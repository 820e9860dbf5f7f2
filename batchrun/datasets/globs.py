"""Patterns of paths, where there is no file system to ask."""

from __future__ import annotations

import fnmatch
import re

WILDCARDS = frozenset("*?[")
"""Characters that make a part of a path a pattern."""


def is_pattern(text: str) -> bool:
    """Whether a text has wildcards."""
    return bool(set(text) & WILDCARDS)


def path_pattern(pattern: str) -> re.Pattern[str]:
    """What matches whole paths with forward slashes: `*` stays in one part, `**` is any number of parts.

    Example:
        >>> bool(path_pattern("a/**/*.pdf").fullmatch("a/b/c/d.pdf")), bool(path_pattern("*.pdf").fullmatch("a/d.pdf"))
        (True, False)
    """
    parts = pattern.split("/")
    steps = []
    for at, part in enumerate(parts):
        is_last = at == len(parts) - 1
        if part == "**":
            steps.append(".*" if is_last else "(?:[^/]+/)*")
        else:
            steps.append(_inner(part) + ("" if is_last else "/"))
    return re.compile("".join(steps), re.DOTALL)


def _inner(part: str) -> str:
    """One part of a pattern as a regular expression without its anchors."""
    return "".join(_one(piece) for piece in re.findall(r"\[!?\]?[^\]]*\]|.", part, re.DOTALL))


def _one(piece: str) -> str:
    if piece == "*":
        return "[^/]*"
    if piece == "?":
        return "[^/]"
    return re.escape(piece) if len(piece) == 1 else fnmatch.translate(piece).removeprefix("(?s:").removesuffix(r")\Z").removesuffix(r")\z")
