"""Types of output columns, from annotations and from job files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, NamedTuple, NewType, NotRequired, Required, TypedDict, TypeVar
from uuid import UUID

import pydantic
import pytest

from batchrun.workflows.types import SCALAR_TYPES, spec_of, spec_problems

if TYPE_CHECKING:
    from elsewhere import OnlyForTypeCheckers  # type: ignore[import-not-found]

T = TypeVar("T")


class Place(TypedDict):
    lat: float
    town: Required[str | None]


class Partial(TypedDict, total=False):
    lat: float


class HalfPartial(TypedDict):
    lat: float
    town: NotRequired[str]


@dataclass
class Point:
    x: int
    place: Place
    kind: ClassVar[str] = "point"


@dataclass
class Spot:
    x: int


@dataclass
class Tree:
    value: int
    children: list[Tree]


@dataclass
class Unresolvable:
    other: OnlyForTypeCheckers


class Model(pydantic.BaseModel):
    label: Literal["good", "bad"]
    at: datetime | None = pydantic.Field(default=None, alias="when")
    spots: list[Spot] = []

    @pydantic.computed_field
    def size(self) -> int:
        return len(self.spots)


class Linked(pydantic.BaseModel):
    inner: Linked | None = None
    other: Model


class Pair(NamedTuple):
    left: int


class Box(pydantic.BaseModel, Generic[T]):
    content: T


class Colour(Enum):
    RED = 1


class Level(Enum):
    LOW = "low"
    NONE = None


class Mixed(Enum):
    ONE = 1
    TWO = "two"


class Bill(pydantic.BaseModel):
    total: Decimal = pydantic.Field(max_digits=10, decimal_places=2)
    tax: Annotated[Decimal | None, pydantic.Field(max_digits=5, decimal_places=0)] = None
    rate: Decimal


class Empty(TypedDict):
    pass


PLACE = {"lat": "float64", "town": "string"}
POINT = {"x": "int64", "place": PLACE}
MODEL = {"label": "string", "at": "timestamp", "spots": [{"x": "int64"}], "size": "int64"}


@pytest.mark.parametrize(
    ("annotation", "spec"),
    [
        *zip([str, bool, int, float, bytes], ["string", "bool", "int64", "float64", "binary"], strict=True),
        *zip([date, datetime, time], ["date", "timestamp", "time"], strict=True),
        (int | None, "int64"),
        (list[int | None], ["int64"]),
        (list[list[str]] | None, [["string"]]),
        (tuple[float, ...], ["float64"]),
        (Annotated[int, ["metres"]], "int64"),
        (list[Annotated[int, "metres"]], ["int64"]),
        (Literal["a", "b"], "string"),
        (Place, PLACE),
        (Point, POINT),
        (list[Model | None], [MODEL]),
        (Box[int], {"content": "int64"}),
        (Tree, {"value": "int64", "children": ["json"]}),
        (Linked, {"inner": "json", "other": MODEL}),
        *zip([timedelta, UUID, Path, NewType("Id", int)], ["duration", "string", "string", "int64"], strict=True),
        *zip([Colour, Level, Literal[1, 2], Literal["a"] | None], ["int64", "string", "int64", "string"], strict=True),
        (Annotated[Decimal, pydantic.Field(max_digits=10, decimal_places=2)], "decimal(10, 2)"),
        (Bill, {"total": "decimal(10, 2)", "tax": "decimal(5, 0)", "rate": "json"}),
        (Partial, {"lat?": "float64"}),
        (HalfPartial, {"lat": "float64", "town?": "string"}),
        *((other, "json") for other in (Empty, Unresolvable, Pair, Mixed, Decimal, T, object, Literal[2**70])),
        *(
            (other, "json")
            for other in (Any, None, type(None), int | str, list, dict, dict[str, int], set[int], tuple[int, str], Literal[1, "a"])
        ),
        *((other, "json") for other in ("Model", [1], Ellipsis)),
    ],
    ids=str,
)
def test_annotations_become_column_types(annotation: Any, spec: Any) -> None:
    """What an annotation says for every value becomes a typed column; whatever else people write is JSON and never an error."""
    assert spec_of(annotation) == spec
    assert list(spec_problems(spec)) == []


@pytest.mark.parametrize(
    ("spec", "problems"),
    [
        *((name, []) for name in SCALAR_TYPES),
        ({"a": ["string"], "b": {"c": "json"}}, []),
        ("sting", [((), "unknown type 'sting'; did you mean \"string\"?")]),
        (["string", "int64"], [((), "a list type has exactly one element type, such as [string]; got 2")]),
        ([], [((), "a list type has exactly one element type, such as [string]; got 0")]),
        ({}, [((), "a struct type needs at least one field")]),
        ("decimal(38, 2)", []),
        (
            "decimal(2, 3)",
            [((), "unknown type 'decimal(2, 3)'; a decimal has 1 to 38 digits, and so many of them after the point: decimal(12, 2)")],
        ),
        ({"a?": "string"}, []),
        ({"a": "string", "a?": "string"}, [(("a?",), "the field a is there twice: it may be missing or not")]),
        (None, [((), "a type is a name, a list of one type, or a mapping of fields; got None")]),
        (
            {"a": {"b": [{"c": "imt64"}]}, "d": 3},
            [
                (("a", "b", 0, "c"), "unknown type 'imt64'; did you mean \"int64\"?"),
                (("d",), "a type is a name, a list of one type, or a mapping of fields; got 3"),
            ],
        ),
    ],
    ids=str,
)
def test_wrong_output_schemas_are_told_with_their_places(spec: Any, problems: list[Any]) -> None:
    """Every mistake in a schema of the job file is found before anything runs."""
    assert list(spec_problems(spec)) == problems
