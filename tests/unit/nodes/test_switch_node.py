"""The `switch` node."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

import pytest

from batchrun.config import load_job
from batchrun.core.errors import JobError
from batchrun.core.job import Workflow
from batchrun.nodes.switch import SwitchNode
from batchrun.nodes.template import TemplateNode
from batchrun.testing.rows import RowRun
from batchrun.workflows.compiler import Surroundings, compile_workflow
from batchrun.workflows.scope import Scope
from tests.unit.engine.small_nodes import ONCE, node, outputs

ENDS = tuple(TemplateNode(id=id, template=id) for id in ("a", "b"))


class Colour(Enum):
    RED = "red"
    TWO = 2


class Word(StrEnum):
    RED = "red"


class Text(str):
    __slots__ = ()


@dataclass
class Point:
    x: int


def chosen(value: Any, *cases: str, default: str | None = "b", on: Any = "{{ item.x }}") -> Any:
    """What a switch gives for a value: a when it is one of the cases."""
    switch = SwitchNode(id="s", on=on, cases=dict.fromkeys(cases, "a"), default=default)
    plan = compile_workflow(Workflow(nodes=(switch, *ENDS)), Surroundings(columns=("x", "y")))
    step = plan.steps[0]
    scope = Scope({"x": value, "y": "other"}, [None] * 3)
    scope.inputs = step.inputs(scope)
    return step.call(scope)


@pytest.mark.parametrize(
    ("value", "case"),
    [
        ("refund", "refund"),
        ("", ""),
        ("a b: {{ c }}", "a b: {{ c }}"),
        ("münchen \N{WRAPPED PRESENT}", "münchen \N{WRAPPED PRESENT}"),
        ("\ud800", "\ud800"),
        (Text("text"), "text"),
        ("true", "true"),
        (True, "true"),
        (False, "false"),
        (None, "null"),
        (3, "3"),
        (-(2**70), str(-(2**70))),
        (3.0, "3.0"),
        (0.1, "0.1"),
        (float("nan"), "null"),
        (Decimal("1.50"), "1.50"),
        (date(2026, 11, 1), "2026-11-01"),
        (datetime(2026, 11, 1, 9, 30, tzinfo=UTC), "2026-11-01T09:30:00+00:00"),
        (timedelta(minutes=1), "60.0"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Colour.RED, "red"),
        (Colour.TWO, "2"),
        (Word.RED, "red"),
        (Path("a") / "b", "a/b"),
        (b"\x00", "AA=="),
        ([1, "x"], '[1,"x"]'),
        ({"a": None}, '{"a":null}'),
        (Point(1), '{"x":1}'),
    ],
    ids=repr,
)
def test_a_value_is_looked_up_as_the_text_it_is_in_the_result(value: Any, case: str) -> None:
    """Whoever sees a value in the result can write it down as a case; what is text in JSON needs no quotes."""
    assert chosen(value, case) == "a"
    assert chosen(value, f"not {case}") == "b"
    assert chosen(value, f"not {case}", default=None) is None


@pytest.mark.parametrize(
    ("on", "case"),
    [
        ("{{ item.x }}", "5"),
        ("{{ item.x > 3 }}", "true"),
        ("{{ item.x }}/{{ item.y }}", "5/other"),
        ("{{ 'big' if item.x > 3 else 'small' }}", "big"),
        ("plain", "plain"),
        (7, "7"),
        (["{{ item.x }}"], "[5]"),
    ],
)
def test_on_is_a_template_of_any_kind(on: Any, case: str) -> None:
    """An expression keeps its type until it is looked up; text and lists are filled in first."""
    assert chosen(5, case, on=on) == "a"


def test_cases_are_exact() -> None:
    """Neither case nor space nor the kind of a number is guessed at."""
    assert [chosen(value, "Yes", "3") for value in ("Yes", "yes", " Yes", 3, 3.0, "3", "3.0")] == ["a", "b", "b", "a", "b", "a", "b"]


async def test_items_take_the_way_that_is_chosen_for_them() -> None:
    """The chosen node runs and the others are skipped; without a case, the default runs, or nothing does."""
    switch = SwitchNode(id="s", on="{{ item.x }}", cases={"refund": "give", "true": "keep", "3": "keep"}, default="ask")
    ways = [node(id, lambda x, id=id: f"{id} {x}", inputs={"x": "{{ item.x }}"}) for id in ("give", "keep", "ask")]
    output = {"s": "{{ nodes.s.output }}", **{way.id: f"{{{{ nodes.{way.id}.output }}}}" for way in ways}}
    rows = [{"x": "refund"}, {"x": True}, {"x": 3}, {"x": None}]
    results = await RowRun(workflow=Workflow(nodes=(switch, *ways), output=output)).results(rows)
    assert outputs(results) == [
        {"s": "give", "give": "give refund", "keep": None, "ask": None},
        {"s": "keep", "give": None, "keep": "keep True", "ask": None},
        {"s": "keep", "give": None, "keep": "keep 3", "ask": None},
        {"s": "ask", "give": None, "keep": None, "ask": "ask None"},
    ]
    results = await RowRun(nodes=(replace(switch, default=None), *ways[:2])).results(rows)
    assert [result.status for result in results] == ["completed", "completed", "completed", "skipped"]
    assert [record[1] for record in results[3].nodes] == ["completed", "skipped", "skipped"]


async def test_a_switch_can_look_at_its_inputs_and_at_other_nodes() -> None:
    """What it decides by is in its record like the inputs of any other node."""
    switch = SwitchNode(id="s", inputs={"label": "{{ nodes.ask.output.label }}"}, on="{{ inputs.label }}", cases={"x": "a"}, default="b")
    ask = node("ask", lambda label: {"label": label}, inputs={"label": "{{ item.x }}"})
    results = await RowRun(nodes=(switch, ask, *ENDS)).results([{"x": "x"}, {"x": "y"}])
    assert outputs(results) == [{"a": "a", "b": None}, {"a": None, "b": "b"}]
    assert [record[5:7] for record in results[0].nodes if record[0] == 0] == [(b'{"label":"x"}', b'"a"')]


async def test_a_value_that_cannot_be_written_down_fails_the_switch() -> None:
    """The item says where and why; the others go on."""
    make = node("make", lambda x: object() if x else "x", inputs={"x": "{{ item.x }}"})
    switch = SwitchNode(id="s", on="{{ nodes.make.output }}", cases={"x": "a"})
    # Recorded in short: nothing else would write the value down.
    results = await RowRun(nodes=(make, switch, ENDS[0]), run=ONCE, recording="summary").results([{"x": 0}, {"x": 1}])
    assert [result.status for result in results] == ["completed", "failed"]
    error = results[1].error
    assert error is not None
    assert (error.node_id, error.type) == ("s", "InvalidValue")


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("on: x, cases: {true: a}", '4:44 workflow.nodes[0].cases: a key must be text; quote it: "true"'),
        ("on: x, cases: {3: a}", '4:44 workflow.nodes[0].cases: a key must be text; quote it: "3"'),
        ('on: x, cases: {"3": [a]}', "4:49 workflow.nodes[0].cases.3: must be text, got a list"),
        ("on: x, cases: [a]", "4:43 workflow.nodes[0].cases: must be a mapping, got a list"),
        ("cases: {x: a}", "4:7 workflow.nodes[0].on: is missing"),
        ("on: x, default: 3", "4:45 workflow.nodes[0].default: must be text, got 3"),
    ],
)
def test_a_job_file_that_does_not_fit_is_told_so_at_the_word(tmp_path: Path, keys: str, problem: str) -> None:
    """Words that YAML takes for other things must be quoted, and the message says so."""
    job = tmp_path / "job.yaml"
    job.write_text(f"dataset: x.csv\nworkflow:\n  nodes:\n    - {{type: switch, id: s, {keys}}}\n")
    with pytest.raises(JobError) as caught:
        load_job(job)
    assert [str(each).removeprefix(f"{job}:") for each in caught.value.problems] == [problem]
