"""Python functions that are called for many items at once."""

from __future__ import annotations

import functools
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from batchrun import Context
from batchrun.core.errors import JobError
from batchrun.core.job import Batch
from batchrun.nodes.python import PythonNode
from batchrun.nodes.template import TemplateNode
from batchrun.testing.rows import ListJournal, RowRun
from tests.unit.engine.small_nodes import outputs
from tests.unit.workflow.probe import compiled, problems_of

ROWS = [{"name": "a", "size": 1}, {"name": "b", "size": 2}, {"name": "c", "size": 3}]
BOTH = {"name": "{{ item.name }}", "size": "{{ item.size }}"}


@dataclass
class Label:
    """What a classifier says."""

    name: str
    score: float


def many(call: Callable[..., Any], inputs: dict[str, Any] | None = None) -> PythonNode:
    return PythonNode(id="many", call=call, inputs=inputs or {}, batch=Batch(max_items=8))


def positional(name: list[str], size: list[int], /) -> list[str]:
    return [f"{name[at]}{size[at]}" for at in range(len(name))]


def named(name: list[str], size: list[int], end: str = "") -> list[str]:
    return [f"{a}{b}{end}" for a, b in zip(name, size, strict=True)]


@pytest.mark.parametrize("call", [named, positional, functools.partial(named, end=""), lambda **values: positional(*values.values())])
async def test_each_parameter_gets_a_list_with_a_value_for_each_item(call: Callable[..., Any]) -> None:
    """The values of one item are at the same place in all lists, whatever kind of function it is."""
    assert outputs(await RowRun(nodes=[many(call, BOTH)]).results(ROWS)) == ["a1", "b2", "c3"]


async def test_a_function_without_inputs_gets_the_list_of_items() -> None:
    """As with one item, the short form will do."""

    async def names(items: list[dict[str, Any]]) -> list[str]:
        return [item["name"] for item in items]

    assert outputs(await RowRun(nodes=[many(names)]).results(ROWS)) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("annotation", "output_type"),
    [
        (list[float], "float64"),
        (list[Label], {"name": "string", "score": "float64"}),
        (Sequence[list[int]], ["int64"]),
        (Iterable[str], "string"),
        (tuple[bool, ...], "bool"),
        (Sequence[complex], None),
        (list, None),
        (tuple[int, str], None),
        (pl.Series, None),
        (Any, None),
        (None, None),
    ],
)
def test_the_element_of_the_returned_list_is_the_type_of_the_output_column(annotation: Any, output_type: Any) -> None:
    """The column holds one output per row, not lists."""

    def call(name):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        return name

    if annotation is not None:
        call.__annotations__["return"] = annotation
    assert compiled(many(call, {"name": "{{ item.name }}"})).output_type == output_type


async def test_outputs_are_kept_and_restored_as_the_type_of_the_element() -> None:
    """What a resume reads back is what the function returned for the item."""

    def amounts(size: list[int]) -> list[Decimal]:
        return [Decimal(each) / 10 for each in size]

    def refuse(amount: Decimal) -> None:
        raise TypeError(amount)

    def take(amount: Decimal) -> None:
        seen.append(amount)

    journal, seen = ListJournal(), list[Any]()
    first = many(amounts, {"size": "{{ item.size }}"})
    last = {"id": "last", "inputs": {"amount": "{{ nodes.many.output }}"}}
    await RowRun(nodes=[first, PythonNode(call=refuse, **last)], journal=journal).results(ROWS)
    await RowRun(nodes=[first, PythonNode(call=take, **last)], restored=journal.restored()).results(ROWS)
    assert sorted(seen) == [Decimal("0.1"), Decimal("0.2"), Decimal("0.3")]
    assert all(isinstance(each, Decimal) for each in seen)


@pytest.mark.parametrize("kind", [functools.partial(array, "q"), pl.Series, pa.array, tuple])
async def test_arrays_and_columns_are_lists_too(kind: Callable[[list[int]], Any]) -> None:
    """What libraries return for many items can be returned as it is; outputs are plain numbers."""

    def call(size: list[int]) -> Any:
        return kind([n * 2 for n in size])

    results = await RowRun(nodes=[many(call, {"size": "{{ item.size }}"})]).results(ROWS)
    assert [result.output for result in results] == [b"2", b"4", b"6"]


async def test_a_list_that_the_function_uses_again_does_not_change_outputs() -> None:
    """The outputs are those of the moment the function returned."""
    scratch: list[int] = []

    async def call(size: list[int]) -> list[int]:
        scratch[:] = [n * 2 for n in size]
        return scratch

    assert outputs(
        await RowRun(nodes=[PythonNode(id="many", call=call, inputs={"size": "{{ item.size }}"}, batch=Batch(max_items=1))]).results(ROWS)
    ) == [2, 4, 6]


def with_context(name: list[str], context: Context) -> list[str]:
    return name


def with_one_value(name: str) -> list[str]:
    return [name]


def with_one_mapping(name: dict[str, int]) -> list[str]:
    return [*name]


def with_one_output(name: list[str]) -> str:
    return name[0]


def without_parameters() -> list[str]:
    return []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (with_context, "with batch, a call is made for many items and has no context: remove the parameter 'context', or batch"),
        (with_one_value, "with batch, the parameter 'name' gets a list: one value for each item; it is annotated str"),
        (with_one_mapping, "with batch, the parameter 'name' gets a list: one value for each item; it is annotated dict[str, int]"),
        (with_one_output, "with batch, the function returns a list: one output for each item; it is annotated str"),
        (without_parameters, "with batch, the function needs a parameter: without one it cannot know the items it is called for"),
    ],
)
def test_a_function_that_is_not_made_for_many_items_is_refused(call: Callable[..., Any], message: str) -> None:
    """It would fail for every batch, and then for every half of it: better said before the first item."""
    assert problems_of(many(call)) == [f"workflow.nodes[0].call: {message}"]


def test_only_nodes_that_can_make_one_call_for_many_items_are_batched() -> None:
    """A batch that is silently ignored would look like a slow service."""
    with pytest.raises(JobError) as caught:
        compiled(TemplateNode(id="note", template="Dear {{ item.name }}", batch=Batch()))
    assert [str(problem) for problem in caught.value.problems] == [
        "workflow.nodes[0].batch: a template node makes one call for each item; remove it"
    ]
