"""References: plain lookups, written in templates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.errors import UndefinedReference
from batchrun.workflows.references import lookup, parse_reference
from batchrun.workflows.scope import Scope


class Pair(NamedTuple):
    left: int
    right: int | None


@dataclass(frozen=True, slots=True)
class Point:
    x: int


class Model(pydantic.BaseModel):
    label: str


@pytest.mark.parametrize(
    ("expression", "parts"),
    [
        ("item", ("item",)),
        (" nodes . clean . output ['first name'] [ 0 ] ", ("nodes", "clean", "output", "first name", 0)),
        ('item["it\'s"][-1]', ("item", "it's", -1)),
        ("item.größe", ("item", "größe")),
        ("item['']", ("item", "")),
        ("item.name.upper()", None),
        ("item.name | upper", None),
        ("item[other]", None),
        ("item.0", None),
        ('item["a\\"b"]', None),
        ("1", None),
        ("", None),
    ],
)
def test_plain_references_are_told_from_expressions(expression: str, parts: tuple[str | int, ...] | None) -> None:
    """What is only a reference becomes a lookup; everything else is left to the template language."""
    assert parse_reference(expression) == parts


keys = st.text(st.characters(codec="utf-8", exclude_characters='"\\'), max_size=5)
trees = st.recursive(st.integers() | st.none(), lambda inner: st.lists(inner, min_size=1) | st.dictionaries(keys, inner, min_size=1))


@given(trees, st.data())
def test_every_value_can_be_reached(tree: Any, data: st.DataObject) -> None:
    """Whatever keys the columns and outputs have, a reference leads to each value and gives the value itself."""
    value, text = tree, "item"
    while isinstance(value, dict | list) and data.draw(st.booleans()):
        step = data.draw(st.sampled_from(sorted(value) if isinstance(value, dict) else [-1, *range(len(value))]))
        text += f'["{step}"]' if isinstance(step, str) else f"[{step}]"
        value = value[step]
    parts = parse_reference(text)
    assert parts is not None
    assert lookup(lambda scope: scope.item, parts[1:], "item")(Scope(tree, [])) is value


@pytest.mark.parametrize(
    ("value", "steps", "found"),
    [
        (Pair(1, None), ("left",), 1),
        (Pair(1, None), (-2,), 1),
        (Pair(1, None), ("right", "further", 3), None),
        (Point(3), ("x",), 3),
        (Model(label="good"), ("label",), "good"),
        (None, ("any", 0, "thing"), None),
        ({"a": None}, ("a", "b"), None),
        ({1: "one"}, (1,), "one"),
        ("text", (0,), "t"),
    ],
    ids=range(9),
)
def test_lookups_read_what_functions_return(value: Any, steps: tuple[str | int, ...], found: Any) -> None:
    """Dataclasses, named tuples and pydantic models have fields like dicts do, and every field of null is null."""
    assert lookup(lambda _scope: value, steps, "x")(Scope({}, [])) == found


@pytest.mark.parametrize(
    ("value", "steps", "message"),
    [
        ({"city": {"name": "Bonn"}}, ("city", "nmae"), 'x.city has no field "nmae"; did you mean "name"?'),
        ({"tags": [1, 2]}, ("tags", 2), "x.tags has no element 2; it is a list of 2"),
        ({"tags": [1, 2]}, ("tags", -3), "x.tags has no element -3; it is a list of 2"),
        ({"tags": [[]]}, ("tags", 0, "a"), 'x.tags[0] has no field "a"; it is a list of 0'),
        (3, ("a",), 'x has no field "a"; it is of type int'),
        (Point(3), ("y",), 'x has no field "y"; it is of type Point'),
        (Point(3), ("__class__",), 'x has no field "__class__"; it is of type Point'),
        ("text", ("upper",), 'x has no field "upper"; it is of type str'),
        ({1, 2}, (0,), "x has no element 0; it is of type set"),
    ],
    ids=range(9),
)
def test_lookups_say_where_they_end(value: Any, steps: tuple[str | int, ...], message: str) -> None:
    """A field that is not there fails the item with the place and the nearest name; methods and inner parts are no fields."""
    with pytest.raises(UndefinedReference) as caught:
        lookup(lambda _scope: value, steps, "x")(Scope({}, []))
    assert str(caught.value) == message
