"""Values that survive being written down as JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from batchrun.workflows.encoding import encode


def faithful_text(value: Any, restore: Callable[[Any], Any], text: bytes | None = None) -> bytes | None:
    """`value` as JSON text from which `restore` makes an equal value of the same type; null when it does not.

    May run code of users, which may raise anything.

    Args:
        value: what is written down.
        restore: makes a value from what the text says.
        text: `value` as JSON, when it is known.

    Example:
        >>> faithful_text({"a": [1, None]}, lambda value: value)
        b'{"a":[1,null]}'
        >>> faithful_text((1, 2), lambda value: value)  # would come back as a list
    """
    text = encode(value) if text is None else text
    return text if _is_same(restore(orjson.loads(text)), value) else None


def _is_same(restored: Any, value: Any) -> bool:
    # Equality alone would take 1 for True, and an array of one number for that number.
    if type(restored) is not type(value):
        return False
    if isinstance(value, dict):
        return restored.keys() == value.keys() and all(_is_same(restored[key], inner) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return len(restored) == len(value) and all(map(_is_same, restored, value))
    return bool(restored == value)
