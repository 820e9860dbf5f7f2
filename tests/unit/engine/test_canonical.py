"""Values as text that tells them apart."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections import OrderedDict, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.errors import InvalidValue
from batchrun.engine.canonical import canonical

Pair = namedtuple("Pair", "a b")  # noqa: PYI024


class Level(enum.IntEnum):
    ONE = 1


class Masked(str):
    """Shows something else than it is."""

    __slots__ = ()

    def __str__(self) -> str:
        return "***"


@dataclasses.dataclass
class Point:
    x: Any


@dataclasses.dataclass
class OtherPoint:
    x: Any


class Model(pydantic.BaseModel):
    x: Any


class Array:
    """Numbers as NumPy has them."""

    def __init__(self, dtype: str, shape: tuple[int, ...], numbers: Any) -> None:
        self.dtype, self.shape, self._numbers = dtype, shape, numbers

    def tolist(self) -> Any:
        return self._numbers


Array.dtype = Array.shape = None  # type: ignore[attr-defined]

TEXTS = ["", "1", "null", "nan", "\ud800", "\\ud800", "\0", "***", "MQ==", "2026-11-01", "01:00:00", str(UUID(int=1)), "a"]
NUMBERS = [0, 1, 1.0, 0.0, -0.0, math.nan, math.inf, -math.inf, 2**63, 2**64, -(2**63), -(2**63) - 1, float(2**64), True, False, Level.ONE]
SEQUENCES = [[], [[]], (), ((),), [1], (1,), {1}, frozenset([1]), Pair(1, 2), (1, 2), [1, 2], b"", b"1", b"MQ==", bytearray(b"1")]
MAPPINGS = [
    {},
    {"1": 1},
    {1: 1},
    {1.5: 1},
    {None: 1},
    {"a": None},
    OrderedDict(a=None),
    {"\0": 1},
    {"\0": ["builtins.tuple", [1]]},
    {"x": 1},
]
MOMENTS = [
    *(date(2026, 11, 1), datetime(2026, 11, 1), datetime(2026, 11, 1, tzinfo=UTC)),
    *(datetime(2026, 11, 1, tzinfo=timezone(timedelta(hours=1))), time(1), time(1, tzinfo=UTC), timedelta(1), timedelta(seconds=1)),
]
EXACT = [Decimal(1), Decimal("1.0"), Fraction(1), 1 + 0j, UUID(int=1), PurePosixPath("a"), Masked("a"), Masked("b")]
OBJECTS = [Point(1), OtherPoint(1), Point("1"), Point((1,)), Model(x=1), Model(x="1")]
ARRAYS = [
    Array("int64", (2,), [1, 2]),
    Array("int32", (2,), [1, 2]),
    Array("float64", (1,), [math.nan]),
    Array("float64", (1,), [math.inf]),
]
EMPTY_ARRAYS = [Array("int64", (0, 2), []), Array("int64", (0,), []), Array("int64", (), 1)]
DIFFERENT = [None, *TEXTS, *NUMBERS, *SEQUENCES, *MAPPINGS, *MOMENTS, *EXACT, *OBJECTS, *ARRAYS, *EMPTY_ARRAYS]


def test_different_values_have_different_texts() -> None:
    """Nothing that a function could tell apart is taken for something else, however alike the two look as JSON."""
    texts: dict[bytes, Any] = {}
    for value in DIFFERENT:
        text = canonical(value)
        assert text not in texts, (value, texts[text])
        texts[text] = value
        assert canonical([value]) not in texts


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": [True, 1.5]}, {"b": [True, 1.5], "a": 1}),
        ({"b": {"d": 1, "c": 2}}, {"b": {"c": 2, "d": 1}}),
        ({3: "x", 1: "y", None: "z"}, {None: "z", 1: "y", 3: "x"}),
        ({"a", "b", "c", "d"}, {"d", "c", "b", "a"}),
        (math.nan, float("-nan")),
        (Point({"a": 1, "b": 2}), Point({"b": 2, "a": 1})),
        ("é", "\u00e9"),
    ],
)
def test_equal_values_have_one_text(one: Any, other: Any) -> None:
    """The order of keys and of the elements of a set has no meaning."""
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize("value", [object(), Exception("x"), print, [object()], {"a": {1: object()}}, Point(object())])
def test_what_cannot_be_told_apart_is_refused(value: Any) -> None:
    """An object that nobody can look into is never taken for another one."""
    with pytest.raises(InvalidValue, match="cannot be told apart"):
        canonical(value)


def test_a_value_that_contains_itself_is_refused() -> None:
    """It ends in an error, not in a crash."""
    value: list[Any] = []
    value.append(value)
    with pytest.raises(RecursionError):
        canonical(value)


def test_deep_values_have_a_text() -> None:
    """Values may be nested deeper than orjson goes."""
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    assert canonical(deep) != canonical([deep])


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3) | st.binary(max_size=2)
KEYS = st.text(max_size=2) | st.integers(0, 2)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal and of the same types, all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        keys = {(type(key), key) for key in one}
        return keys == {(type(key), key) for key in other} and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) and repr(one) == repr(other)


@given(one=VALUES, other=VALUES)
def test_texts_are_the_same_where_values_are(one: Any, other: Any) -> None:
    """Two values have the same text if, and only if, they are equal and of the same types."""
    assert (canonical(one) == canonical(other)) is same(one, other)
