"""Checking outputs against the type of the output column."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.core.errors import InvalidValue
from batchrun.workflows.types import TypeSpec, spec_of
from batchrun.workflows.values import checker

FLOAT32_MAX = (2 - 2**-23) * 2.0**127
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(),
    "bool": st.booleans(),
    "binary": st.binary(),
    "date": st.dates(),
    "time": st.times(),
    "timestamp": st.datetimes(timezones=st.just(UTC)),
    "duration": st.timedeltas(),
    "decimal(9, 3)": st.decimals(-999_999, 999_999, places=3),
    "decimal(38, 38)": st.decimals("-0.9", "0.9", places=38),
    "float32": st.floats(width=32, allow_nan=False),
    "float64": st.floats(allow_nan=False),
    **{f"int{bits}": st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}


def specs(scalar: str) -> st.SearchStrategy[TypeSpec]:
    """Types made of one scalar type."""
    return st.recursive(
        st.just(scalar),
        lambda inner: inner.map(lambda spec: [spec]) | st.dictionaries(st.text(max_size=3), inner, min_size=1, max_size=3),
        max_leaves=4,
    )


def values(spec: TypeSpec) -> st.SearchStrategy[Any]:
    """Values of a type, null included."""
    if isinstance(spec, dict):
        return st.none() | st.fixed_dictionaries({name: values(inner) for name, inner in spec.items()})
    if isinstance(spec, list):
        return st.none() | st.lists(values(spec[0]), max_size=3)
    return st.none() | SCALARS[spec]


@pytest.mark.parametrize("scalar", sorted(SCALARS))
@given(st.data())
@settings(max_examples=30)
def test_values_of_a_type_pass_unchanged(scalar: str, data: st.DataObject) -> None:
    """Whatever the type, what fits it reaches the table as it is."""
    spec = data.draw(specs(scalar))
    value = data.draw(values(spec))
    assert checker(spec)(value) == value


@dataclass(frozen=True)
class Point:
    x: float
    tags: tuple[str, ...] = ()


class Model(pydantic.BaseModel):
    label: str
    points: list[Point] = pydantic.Field(default=[], exclude=True)
    score: float | None = pydantic.Field(default=None, serialization_alias="Score")

    @pydantic.computed_field
    def is_good(self) -> bool:
        return self.label == "good"

    @pydantic.field_serializer("label")
    def in_capitals(self, label: str) -> str:
        return label.upper()


class Answer(Enum):
    GOOD = "good"
    COUNT = 3


def test_dataclasses_and_models_become_plain_values() -> None:
    """A function may return what it says it returns; how a model writes itself as JSON does not matter for columns."""
    value = [Model(label="good", points=[Point(1, ("a",))]), {"label": "bad", "points": [], "score": 1, "is_good": None}]
    assert checker(spec_of(list[Model]))(value) == [
        {"label": "good", "points": [{"x": 1.0, "tags": ["a"]}], "score": None, "is_good": True},
        {"label": "bad", "points": [], "score": 1.0, "is_good": None},
    ]
    assert checker({"a": "int8"})(MappingProxyType({"a": 1})) == {"a": 1}


@pytest.mark.parametrize(
    ("spec", "value", "plain"),
    [
        ("float64", 3, 3.0),
        ("float64", Decimal("1.5"), 1.5),
        ("float32", float("inf"), math.inf),
        ("float32", FLOAT32_MAX, FLOAT32_MAX),
        ("binary", memoryview(b"ab"), b"ab"),
        ("bool", type("bool_", (), {})(), True),  # named like that of NumPy
        ("timestamp", datetime(2026, 11, 1, 9), datetime(2026, 11, 1, 9, tzinfo=UTC)),
        ("timestamp", datetime(2026, 11, 1, 9, tzinfo=timezone(timedelta(hours=2))), datetime(2026, 11, 1, 7, tzinfo=UTC)),
        (["int64"], (1, 2), [1, 2]),
        ("json", {"b": [1, None]}, '{"b":[1,null]}'),
        ({"any": "json"}, {"any": 2**70}, {"any": str(2**70)}),
        ("date", "2026-11-01", date(2026, 11, 1)),
        ("time", "09:30", time(9, 30)),
        ("timestamp", "2026-11-01T09:30:00Z", datetime(2026, 11, 1, 9, 30, tzinfo=UTC)),
        ("timestamp", "2026-11-01T09:30:00+02:00", datetime(2026, 11, 1, 7, 30, tzinfo=UTC)),
        ("duration", timedelta(days=1), timedelta(days=1)),
        ("duration", 1.5, timedelta(seconds=1.5)),
        ("decimal(5, 2)", 1, Decimal("1.00")),
        ("decimal(5, 2)", 0.1, Decimal("0.10")),
        ("decimal(5, 2)", "-1.5", Decimal("-1.50")),
        ("decimal(5, 2)", Decimal("1.500"), Decimal("1.50")),
        ("string", Answer.GOOD, "good"),
        ("int64", Answer.COUNT, 3),
        ("string", UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ("string", PurePosixPath("a/b"), "a/b"),
        ({"a": "string", "b?": "int8"}, {"a": "x"}, {"a": "x", "b": None}),
        ({"a": "string", "b?": "int8"}, {"a": "x", "b": 1}, {"a": "x", "b": 1}),
    ],
    ids=range(27),
)
def test_values_that_mean_the_same_are_converted(spec: TypeSpec, value: Any, plain: Any) -> None:
    """A whole number is a float, a naive time is UTC: what cannot be misunderstood does not fail."""
    found = checker(spec)(value)
    assert found == plain
    assert type(found) is type(plain)


@pytest.mark.parametrize(
    ("spec", "value", "message"),
    [
        ("string", 3, "output must be string, got int: 3"),
        ("string", "\ud800", r"output must be string, got str: '\ud800'"),
        ("bool", 1, "output must be bool, got int: 1"),
        ("binary", "text", "output must be binary, got str: 'text'"),
        ("date", "1.11.2026", "output must be date, got str: '1.11.2026'"),
        ("int64", True, "output must be int64, got bool: True"),
        ("int64", 3.0, "output must be int64, got float: 3.0"),
        ("int8", 128, "output must be int8, got int: 128"),
        ("uint64", -1, "output must be uint64, got int: -1"),
        ("float64", "3", "output must be float64, got str: '3'"),
        ("float64", True, "output must be float64, got bool: True"),
        ("float64", 10**400, "output must be float64, got int: 1"),
        ("float32", 1e39, "output must be float32, got float: 1e+39"),
        ("date", datetime(2026, 11, 1, tzinfo=UTC), "output must be date, got datetime: datetime.datetime(2026, 11, 1"),
        ("time", time(1, tzinfo=UTC), "output must be time, got time: datetime.time(1"),
        ("timestamp", date(2026, 11, 1), "output must be timestamp, got date: datetime.date(2026, 11, 1)"),
        ("timestamp", datetime.min.replace(tzinfo=timezone(timedelta(hours=2))), "output must be timestamp, got datetime"),
        (["int64"], "ab", "output must be a list, got str: 'ab'"),
        (["int64"], [1, "x"], "output[] must be int64, got str: 'x'"),
        ({"a": {"b": ["bool"]}}, {"a": {"b": [None, 2]}}, "output.a.b[] must be bool, got int: 2"),
        ({"label": "string"}, "good", "output must be an object with label, got str: 'good'"),
        ({"label": "string"}, Model, "output must be an object with label, got ModelMetaclass"),
        ({"label": "string", "score": "float64"}, {"label": "a"}, "output.score is missing; the type has label, score"),
        ({"label": "string"}, {"label": "a", "lable": "b"}, 'output.lable is not in the type; did you mean "label"?'),
        ({"any": "json"}, {"any": {1j}}, "output.any: a value of type complex cannot be written as JSON"),
        ("timestamp", "2026-11-01", "output must be timestamp, got str: '2026-11-01'"),
        ("time", "01:02+02:00", "output must be time, got str: '01:02+02:00'"),
        ("decimal(5, 2)", "1.234", "output must be decimal(5, 2), got str: '1.234'"),
        ("decimal(5, 2)", 1000, "output must be decimal(5, 2), got int: 1000"),
        ("decimal(5, 2)", Decimal("NaN"), "output must be decimal(5, 2), got Decimal: Decimal('NaN')"),
        ("decimal(5, 2)", True, "output must be decimal(5, 2), got bool: True"),
        ("duration", "1 s", "output must be duration, got str: '1 s'"),
        ("duration", 1e300, "output must be duration, got float: 1e+300"),
        ("string", Answer.COUNT, "output must be string, got Answer: <Answer.COUNT: 3>"),
        ({"a": "string", "b?": "int8"}, {"b": 1}, "output.a is missing; the type has a, b"),
        ({"a": "string", "b?": "int8"}, {"a": "", "c": 1}, "output.c is not in the type; fields: a, b"),
        ({"a": "string", "b?": "int8"}, {"a": "", "b": "x"}, "output.b must be int8, got str: 'x'"),
        ("string", list(range(100)), f"output must be string, got list: {str(list(range(100)))[:80]}…"),
    ],
    ids=range(38),
)
def test_values_that_do_not_fit_fail_their_item_with_the_field_named(spec: TypeSpec, value: Any, message: str) -> None:
    """One wrong value costs one row, and its error says which field, which type and which value."""
    with pytest.raises(InvalidValue) as caught:
        checker(spec)(value)
    assert str(caught.value).startswith(message)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_columns_take_anything(value: Any) -> None:
    """Where the type is not known, the text of the value is the column's value; null stays null."""
    text = checker("json")(value)
    assert text is None if value is None else json.loads(text) == value
