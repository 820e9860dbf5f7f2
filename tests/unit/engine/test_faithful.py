from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

import pytest

from batchrun.engine.faithful import faithful_text


class Colour(StrEnum):
    RED = "red"


@dataclass
class Point:
    x: int


class Bag(dict[str, int]):
    pass


class Array:
    """Compares element by element, as arrays do."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> list[bool]:  # type: ignore[override]
        return [True]

    def tolist(self) -> list[int]:
        return [1]


@pytest.mark.parametrize(
    "value",
    [None, True, 0, 1.5, "text", "é", [], {}, {"a": [1, {"b": None}], "c": 2.0}, 2**63],
)
def test_what_json_gives_back_is_faithful(value: Any) -> None:
    """Plain values need no help to come back."""
    assert faithful_text(value, lambda restored: restored) is not None


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        [(1, 2)],
        {1: "a"},
        float("nan"),
        Decimal(1),
        Colour.RED,
        {"colour": Colour.RED},
        Point(1),
        Bag(a=1),
        {"bag": Bag(a=1)},
        {1, 2},
        b"raw",
        2**64,
        Array(),
        {"a": Array()},
    ],
)
def test_what_json_changes_is_not_faithful(value: Any) -> None:
    """A value that would come back as something else, however alike, must not be handed to the next node."""
    assert faithful_text(value, lambda restored: restored) is None


def test_a_restorer_brings_back_other_types() -> None:
    """What the text says is turned into what it was, when the type is known."""
    assert faithful_text(Decimal("1.50"), Decimal) == b'"1.50"'
    assert faithful_text((1, 2), tuple) == b"[1,2]"
    assert faithful_text((1, 2), tuple, b"[1,3]") is None
