"""Classes as nodes: made once, set up, called for all items, taken down."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from batchrun.core.errors import ExecutionError
from batchrun.nodes.python import PythonNode
from batchrun.testing.rows import RowRun
from tests.unit.engine.small_nodes import ONCE, outputs
from tests.unit.nodes import placed_functions as functions
from tests.unit.workflow.probe import compiled

ROWS = [{"n": n} for n in range(4)]
PLACES = ("auto", "loop", "process")


def node(call: Any, placement: Any = "auto", **options: Any) -> PythonNode:
    return PythonNode(id="model", call=call, inputs={"n": "{{ item.n }}"}, placement=placement, **options)


@pytest.mark.parametrize("placement", PLACES)
@pytest.mark.parametrize("kind", [functions.Counter, functions.AsyncCounter])
async def test_an_instance_is_made_once_in_each_process(kind: type, placement: str, tmp_path: Path) -> None:
    """A model that takes a minute to load is loaded once, before its first call, and goes after the last."""
    log = tmp_path / "log"
    options = {"init": {"start": 10, "log": str(log)}, **({"workers": 1} if placement == "process" else {})}
    found = outputs(await RowRun(nodes=[node(kind, placement, **options)], run=ONCE).results(ROWS))
    assert sorted(count for _, count in found) == [11, 12, 13, 14]
    ((process, _), *_) = found
    assert (process == os.getpid()) == (placement != "process")
    assert log.read_text().splitlines() == [f"setup {process}", f"teardown {process}"]


async def test_a_class_can_be_named_in_the_job_and_use_vars() -> None:
    """`module:Class` and `init` say it all, in a file, too; numbers stay numbers."""
    call = "tests.unit.nodes.placed_functions:Counter"
    nodes = [node(call, "process", workers=1, init={"start": "{{ vars.start }}"})]
    found = outputs(await RowRun(nodes=nodes, vars={"start": 5}).results(ROWS))
    assert sorted(count for _, count in found) == [6, 7, 8, 9]


async def test_a_class_whose_instances_cannot_be_called_is_a_function() -> None:
    """Making a value is what calling such a class means."""
    nodes = [PythonNode(id="point", call=functions.Point, inputs={"x": "{{ item.n }}", "y": 0})]
    assert outputs(await RowRun(nodes=nodes).results(ROWS[:1])) == [{"x": 0, "y": 0}]


def test_the_annotation_of_the_call_types_the_output() -> None:
    """A class is no worse than a function: its output column has a type."""
    assert compiled(node(functions.BadEnd, init={}), columns=("n",)).output_type == "int64"


@pytest.mark.parametrize("placement", ["auto", "loop"])
async def test_a_setup_that_fails_keeps_the_items_from_beginning(placement: str) -> None:
    """Without its model no item can end well: the run says so instead of failing a million of them."""
    with pytest.raises(
        ExecutionError, match=r"node model: setting up Broken failed: FileNotFoundError: no weights in models/ \(.*\.py:\d+\)"
    ):
        await RowRun(nodes=[node(functions.Broken, placement)]).results(ROWS)


async def test_a_setup_that_fails_in_workers_pauses_the_execution() -> None:
    """A worker that cannot start fails an item or two; when the next ones cannot either, it is no fault of the items."""
    found: list[Any] = []
    rows = [{"n": n} for n in range(20)]
    results = await RowRun(nodes=[node(functions.Broken, "process", workers=1)], run=ONCE, on_start=found.append).results(rows)
    failed = [result.error for result in results if result.error]
    assert {error.type for error in failed} == {"WorkerNotStarted"}
    assert len(failed) == 2
    assert "a worker process of node model did not start: FileNotFoundError: no weights in models/" in failed[0].message
    assert failed[0].traceback is not None
    assert "placed_functions.py" in failed[0].traceback
    assert found[0].stop_cause is not None
    assert found[0].stop_cause.status == "paused"


@pytest.mark.parametrize("placement", PLACES)
async def test_a_teardown_that_fails_costs_no_item(
    placement: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The outputs are there already; it is told and nothing else."""
    with caplog.at_level(logging.WARNING):
        assert outputs(await RowRun(nodes=[node(functions.BadEnd, placement)]).results(ROWS)) == [0, 1, 2, 3]
    assert "the device is gone" in caplog.text + capfd.readouterr().err
