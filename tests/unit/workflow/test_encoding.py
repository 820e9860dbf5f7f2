"""How Python values are written down as JSON text."""

from __future__ import annotations

import array
import json
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.errors import InvalidValue
from batchrun.workflows.encoding import encode


class Colour(Enum):
    RED = 'r"d'


class Word(StrEnum):
    YES = "yes"


class Level(IntEnum):
    HIGH = 3


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass(frozen=True, slots=True)
class Point:
    x: Any
    y: Any = None


class Model(pydantic.BaseModel):
    when: date
    tags: set[str]
    inner: Model | None = None


class OwnZone(tzinfo):
    def utcoffset(self, _when: datetime | None) -> timedelta:
        return timedelta(hours=1)

    def dst(self, _when: datetime | None) -> None:
        return None

    def tzname(self, _when: datetime | None) -> str:
        return "own"


class Text(str):
    __slots__ = ()


JUST_AS_SUCH = [
    None,
    True,
    0,
    -1,
    2**63,
    2**64,
    -(2**63) - 1,
    10**50,
    0.1,
    -0.0,
    1e300,
    "",
    "tëxt 😀\x00\n",
    [],
    [1, [2]],
    {},
    {"a": {"b": 1}},
]
TABLE = [
    *((value, value) for value in JUST_AS_SUCH),
    ((1, 2), [1, 2]),
    (OrderedDict(a=1), {"a": 1}),
    (defaultdict(int, a=1), {"a": 1}),
    (Text("x"), "x"),
    ({Text("k"): 1}, {"k": 1}),
    (float("nan"), None),
    ([float("inf"), -float("inf"), 2**70], [None, None, 2**70]),
    ("\ud800 \udfff", "\ud800 \udfff"),
    ({"\ud800": ["\udfff"]}, {"\ud800": ["\udfff"]}),
    (Decimal("1.50"), "1.50"),
    (Decimal("12345678901234567890123456789.10"), "12345678901234567890123456789.10"),
    (Fraction(1, 3), "1/3"),
    (datetime(2026, 11, 1, 9, 30, 0, 5), "2026-11-01T09:30:00.000005"),
    (datetime(2026, 11, 1, 9, 30, tzinfo=UTC), "2026-11-01T09:30:00+00:00"),
    (datetime(2026, 11, 1, 9, 30, tzinfo=timezone(timedelta(hours=-3, minutes=-30))), "2026-11-01T09:30:00-03:30"),
    (datetime(2026, 11, 1, 9, 30, tzinfo=OwnZone()), "2026-11-01T09:30:00+01:00"),
    (date(2026, 11, 1), "2026-11-01"),
    (time(9, 30), "09:30:00"),
    (time(9, 30, tzinfo=UTC), "09:30:00+00:00"),
    (timedelta(days=1, milliseconds=500), 86400.5),
    (b"\x00\xff", "AP8="),
    (bytearray(b"\x00\xff"), "AP8="),
    (memoryview(b"\x00x\xffx")[::2], "AP8="),
    (Colour.RED, 'r"d'),
    ([Word.YES, Level.HIGH, 2**70], ["yes", 3, 2**70]),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (Path("a/b"), "a/b"),
    (PurePosixPath("a/b"), "a/b"),
    (Point(1, [Point(2)]), {"x": 1, "y": [{"x": 2, "y": None}]}),
    (Point(2**70, Decimal(1)), {"x": 2**70, "y": "1"}),
    (Pair(1, Pair(2, {3})), [1, [2, [3]]]),
    (Model(when=date(2026, 11, 1), tags={"a"}), {"when": "2026-11-01", "tags": ["a"], "inner": None}),
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset({"b", "a"}), ["a", "b"]),
    (array.array("d", [1.5, 2.5]), [1.5, 2.5]),
    ({1: "a", 2.5: "b", None: "c", False: "d"}, {"1": "a", "2.5": "b", "null": "c", "false": "d"}),
    ({2**70: 1, date(2026, 11, 1): 2, Colour.RED: 3}, {str(2**70): 1, "2026-11-01": 2, 'r"d': 3}),
    ({(1, "a"): 1, Word.YES: 2, b"\x00\xff": 3}, {'[1,"a"]': 1, "yes": 2, "AP8=": 3}),
]


@pytest.mark.parametrize(("value", "plain"), TABLE, ids=range(len(TABLE)))
def test_every_value_has_the_form_the_table_gives_it(value: Any, plain: Any) -> None:
    """What a node returns stands in the result as the documentation says, alone and within other values."""
    for wrapped, expected in ((value, plain), ([value], [plain]), ({"k": Point(value)}, {"k": {"x": plain, "y": None}})):
        found = json.loads(encode(wrapped))
        assert found == expected
        assert repr(found) == repr(expected)  # 1 is not 1.0, and True is not 1


# With lone surrogates, except for those that would become one character with the one before.
texts = st.text(st.characters(max_codepoint=0xDBFF) | st.characters(min_codepoint=0xE000))
json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
)


@given(json_like)
def test_json_like_values_come_back_equal(value: Any) -> None:
    """Nothing is lost or rounded on the way into the result: big integers, odd texts and keys included."""
    text = encode(value)
    assert json.loads(text) == value
    text.decode("utf-8")


def self_containing(kind: str) -> Any:
    if kind == "dict":
        mapping: dict[str, Any] = {}
        mapping["self"] = mapping
        return mapping
    values: list[Any] = []
    values.append(Point(values) if kind == "dataclass" else values)
    return values


@pytest.mark.parametrize("kind", ["list", "dict", "dataclass"])
def test_values_that_contain_themselves_are_refused(kind: str) -> None:
    """They fail their item; the process goes on."""
    with pytest.raises(InvalidValue, match="contains itself, or is nested too deeply"):
        encode(self_containing(kind))


def test_deeply_nested_values_are_written() -> None:
    """A limit of the fast encoder is not a limit of results."""
    value: list[Any] = []
    for _ in range(400):
        value = [value]
    assert encode(value) == b"[" * 401 + b"]" * 401


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (object(), "object"),
        (1j, "complex"),
        (range(3), "range"),
        (iter([]), "list_iterator"),
        (encode, "function"),
        (Point, "type"),
        (Model, "Model"),
    ],
    ids=["object", "complex", "range", "iterator", "function", "class", "model class"],
)
def test_values_without_a_json_form_are_refused_by_type(value: Any, name: str) -> None:
    """The message tells which type to change, wherever in the value it is: as a key, in a list, in a set or dataclass."""
    for wrapped in (value, [value], {value: 1}, {"a": {value}}, Point(value), [2**70, value]) if value.__hash__ else (value, [value]):
        with pytest.raises(InvalidValue, match=rf"^a value of type \w*{name}\w* cannot be written as JSON") as caught:
            encode(wrapped)
        assert not caught.value.retryable


def test_sets_without_an_order_are_written() -> None:
    """Elements that cannot be compared are no reason to lose a result."""
    assert sorted(json.loads(encode({1, "a", None})), key=str) == [1, None, "a"]


def test_keys_that_would_become_one_are_refused() -> None:
    """A value is never lost because two keys have the same text."""
    with pytest.raises(InvalidValue, match="the same as text"):
        encode({1: "a", "1": "b"})
