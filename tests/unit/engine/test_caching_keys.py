"""What makes two calls the same, as far as the cache is concerned."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from batchrun.core.errors import JobError
from batchrun.core.job import Run, Workflow
from batchrun.core.policies import Retry
from batchrun.nodes.switch import SwitchNode
from batchrun.nodes.template import TemplateNode
from batchrun.testing.rows import RowRun
from tests.unit.engine.cached_runs import ROWS, Counted, N, Runs
from tests.unit.engine.small_nodes import node, outputs


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(home=tmp_path)


def first(n: int) -> int:
    return n


def second(n: int) -> int:
    return n


CHANGES: dict[str, Callable[[RowRun], RowRun]] = {
    "another function": lambda run: replace(run, nodes=[replace(run.nodes[0], call=second)]),
    "another option": lambda run: replace(run, nodes=[replace(run.nodes[0], when="{{ item.n >= 0 }}")]),
    "another input": lambda run: replace(run, nodes=[replace(run.nodes[0], inputs={"n": "{{ item.n + 1 }}"})]),
    "another variable": lambda run: replace(run, vars={"model": "large"}),
}
SAME: dict[str, Callable[[RowRun], RowRun]] = {
    "nothing": lambda run: run,
    "label": lambda run: replace(run, nodes=[replace(run.nodes[0], label="First")]),
    "id": lambda run: replace(run, nodes=[replace(run.nodes[0], id="renamed")]),
    "patience": lambda run: replace(run, nodes=[replace(run.nodes[0], timeout_seconds=9.0, retry=Retry(max_attempts=9))]),
    "another node": lambda run: replace(run, nodes=[*run.nodes, TemplateNode(id="more", template="{{ item.n }}")]),
    "another run": lambda run: replace(run, run=Run(parallelism=2), recording="summary"),
}


@pytest.mark.parametrize(
    ("change", "is_hit"),
    [*((change, False) for change in CHANGES.values()), *((change, True) for change in SAME.values())],
    ids=[*CHANGES, *SAME],
)
def test_outputs_are_those_of_the_node_as_it_is(runs: Runs, change: Callable[[RowRun], RowRun], is_hit: bool) -> None:
    """Whatever may change an output makes its node be called again; whatever may not costs no call."""
    row_run = RowRun(
        nodes=[node("first", first, inputs={**N, "n": "{{ item.n + (0 if vars.model else 0) }}"}, cache=True)], vars={"model": "s"}
    )
    runs.results(row_run, ROWS)
    assert runs.hits(change(row_run), ROWS) == [is_hit] * 5


@pytest.mark.parametrize(
    ("one", "other"), [(1, True), (1, 1.0), (1, "1"), (None, "null"), (date(2026, 11, 1), "2026-11-01"), (b"YQ", "YQ"), (0.0, -0.0)]
)
def test_inputs_of_other_types_are_others(runs: Runs, one: Any, other: Any) -> None:
    """A column that is read as another type gets outputs of its own, though it looks the same as JSON."""
    counted = Counted(lambda n: type(n).__name__)
    row_run = RowRun(nodes=[node("kind", counted.function(is_async=False), inputs=N, cache=True)])
    assert runs.hits(row_run, [{"n": one}]) == [False]
    assert runs.hits(row_run, [{"n": other}]) == [False]
    assert runs.hits(row_run, [{"n": one}, {"n": other}]) == [True, True]


def make_lock() -> Any:
    return threading.Lock()


def test_inputs_that_cannot_be_compared_make_a_call_each_time(runs: Runs) -> None:
    """An object that nobody can look into is given to the function as ever; people are told once."""
    counted, notes = Counted(lambda n: 1), list[str]()
    nodes = [
        node("make", make_lock),
        node("use", counted.function(is_async=False), inputs={"n": "{{ nodes.make.output }}"}, cache=True),
    ]
    results = runs.results(RowRun(nodes=nodes, recording="none"), ROWS, notes)
    assert outputs(results) == [1] * 5
    assert len(counted.calls) == 5
    assert notes == ["node use: some inputs have a type that cannot be compared, and their calls are always made"]


@pytest.mark.parametrize("wish", ["cache", "dedupe"])
@pytest.mark.parametrize(
    "cheap", [TemplateNode(id="n", template="{{ item.n }}"), SwitchNode(id="n", on="{{ item.n }}", cases={"1": "other"})]
)
async def test_what_is_cheap_is_not_looked_up(cheap: Any, wish: str) -> None:
    """A wish that would only cost time is refused, with the reason."""
    workflow = Workflow(nodes=(replace(cheap, **{wish: True}), node("other", lambda: 1)))
    with pytest.raises(JobError, match=rf"nodes\[0\]\.{wish}: a \w+ node takes less time than to look whether its output is known"):
        await RowRun(workflow=workflow).results(ROWS)
