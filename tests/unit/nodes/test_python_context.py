"""What annotations of a function say: which parameter is its context, and what its output comes back as."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import orjson
import pytest

import batchrun
from batchrun import Context
from batchrun.core.errors import JobError
from batchrun.core.job import Workflow
from batchrun.nodes.python import PythonNode
from batchrun.workflows.compiler import Surroundings, compile_workflow
from batchrun.workflows.encoding import encode
from batchrun.workflows.plan import Step
from batchrun.workflows.scope import Scope

if TYPE_CHECKING:
    from elsewhere import OnlyForTypeCheckers  # type: ignore[import-not-found]


def step_of(call: Callable[..., Any], /, **inputs: Any) -> Step:
    node = PythonNode(id="work", call=call, inputs=inputs)
    plan = compile_workflow(Workflow(nodes=(node,)), Surroundings(columns=("name", "size"), input_field="name"))
    return plan.steps[0]


def plain(text: str, call: batchrun.Context) -> Any:
    return text, call


def optional(text: str, call: Context | None = None) -> Any:
    return text, call


def positional(text: str, call: Context, /) -> Any:
    return text, call


def keyword(*, call: Context, text: str) -> Any:
    return text, call


def beside_unknown_types(text: OnlyForTypeCheckers, call: Context) -> OnlyForTypeCheckers:
    return text, call


def fixed(size: int, text: str, call: Context) -> Any:
    return text, call


class Caller:
    def __call__(self, text: str, call: Context) -> Any:
        return text, call


@pytest.mark.parametrize("function", [plain, optional, positional, keyword, beside_unknown_types, Caller(), partial(fixed, 3)])
@pytest.mark.parametrize("inputs", [{}, {"text": "{{ item.name }}"}])
def test_a_parameter_annotated_as_the_context_gets_it(function: Callable[..., Any], inputs: dict[str, Any]) -> None:
    """It is no input: nobody has to give it, and a function of one other parameter still gets the input by itself."""
    step = step_of(function, **inputs)
    assert (step.wants_context, step.sends_call_key) == (True, True)
    scope = Scope({"name": "Bob", "size": 3}, [None])
    scope.inputs = step.inputs(scope)
    scope.context = typing.cast("Context", object())
    assert step.call(scope) == ("Bob", scope.context)


def test_functions_that_ask_for_nothing_get_nothing() -> None:
    """No context is made, and no key computed, for functions that do not want them."""

    def call(text: str, context: Any) -> None:
        pass

    step = step_of(call, text="a", context="b")
    assert (step.wants_context, step.sends_call_key) == (False, False)


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ({"text": "a", "call": "b"}, "workflow.nodes[0].inputs.call: is the context of the call, which is no input: leave it out"),
        (
            {"text": "a", "cal": "b"},
            "workflow.nodes[0].inputs.cal: the function has no parameter 'cal'; parameters: text",
        ),
    ],
)
def test_a_context_cannot_be_given(inputs: dict[str, Any], problem: str) -> None:
    """A job that gives it is told so before the first item, and it is never offered as an input."""
    with pytest.raises(JobError) as caught:
        step_of(plain, **inputs)
    assert [str(each) for each in caught.value.problems] == [problem]


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    price: Decimal


class Pair(NamedTuple):
    left: int
    right: bytes | None


class Unknown:
    pass


def returning(annotation: Any) -> Callable[..., Any]:
    def function(text: str) -> Any:
        return text

    function.__annotations__["return"] = annotation
    return function


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (bytes, b"\x00\xff raw"),
        (Decimal, Decimal("1.50")),
        (datetime, datetime(2026, 11, 1, tzinfo=UTC)),
        (timedelta, timedelta(days=1, seconds=1)),
        (UUID, UUID(int=7)),
        (Colour, Colour.RED),
        (Point, Point(1, Decimal("0.10"))),
        (list[Point], [Point(1, Decimal(2))]),
        (tuple[int, ...], (1, 2)),
        (Pair, Pair(1, None)),
        (set[int], {1, 2}),
        (dict[int, str], {1: "a"}),
        (Decimal | None, None),
        (dict[str, Any], {"a": [1]}),
        (dict, {"a": 1}),
        (list[dict[str, int | None]], [{"a": None}]),
        (typing.Dict, {"a": 1}),  # noqa: UP006 - code of users may still say it
        (Any, [1]),
        (None, None),
    ],
)
def test_outputs_are_restored_as_the_annotated_type(annotation: Any, value: Any) -> None:
    """After a crash the next node gets the same type again, whenever the function says what it returns."""
    restored = step_of(returning(annotation)).restore(orjson.loads(encode(value)))
    assert (type(restored), restored) == (type(value), value)


@pytest.mark.parametrize("annotation", [Unknown, "NoSuchName", typing.TypeVar("T")])
def test_annotations_nothing_is_known_of_change_nothing(annotation: Any) -> None:
    """An odd annotation is no reason to refuse a job: such outputs are restored as plain values."""
    assert step_of(returning(annotation)).restore({"a": [1]}) == {"a": [1]}


def test_plain_annotations_change_nothing() -> None:
    """Restorers of plain types give back the very value: no copy, no check, nothing to load."""
    value = {"a": [1]}
    for annotation in (Any, dict, dict[str, Any], list[int] | None, str):
        assert step_of(returning(annotation)).restore(value) is value
