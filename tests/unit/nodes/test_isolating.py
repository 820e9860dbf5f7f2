"""Functions that are kept away from the threads of this process."""

from __future__ import annotations

import os
from typing import Any

import pytest

from batchrun.core.job import Batch
from batchrun.nodes.placement import isolating
from batchrun.nodes.python import PythonNode
from batchrun.testing.rows import RowRun
from tests.unit.engine.small_nodes import ONCE, asking, outputs
from tests.unit.nodes import placed_functions as functions

ROWS = [{"n": n} for n in range(3)]


async def isolated(node: PythonNode) -> list[Any]:
    with isolating():
        return await RowRun(nodes=[node], run=ONCE).results(ROWS)


@pytest.mark.parametrize(
    ("call", "placement", "is_here"),
    [
        (functions.where, "auto", False),
        (functions.where, "thread", False),
        (functions.where_async, "thread", False),
        (functions.where, "loop", True),
        (functions.where_async, "auto", True),
    ],
)
async def test_what_would_run_in_a_thread_runs_in_a_process(call: Any, placement: Any, *, is_here: bool) -> None:
    """Only a process can be ended whatever it does; what waits on the event loop stays there."""
    node = PythonNode(id="f", call=call, inputs={"n": "{{ item.n }}"}, placement=placement)
    found = outputs(await isolated(node))
    assert {process == os.getpid() for process, _, _ in found} == {is_here}


async def test_a_function_that_no_process_can_have_is_not_called() -> None:
    """It may be the one that never returns: its item fails, and the reason says what stands in the way."""

    def local(n: int) -> int:
        raise AssertionError

    node = PythonNode(id="f", call=local, inputs={"n": "{{ item.n }}"})
    for each, reason in ((node, "local"), (asking(lambda _n, _context: 1, is_async=False), "its parameter 'context' is the context")):
        errors = [result.error for result in await isolated(each)]
        assert {error.type for error in errors} == {"InvalidValue"}
        assert "may hold the interpreter for ever" in errors[0].message
        assert reason in errors[0].message


async def test_calls_for_many_items_are_made_in_processes_too() -> None:
    """A batch is a call like any other."""
    node = PythonNode(id="f", call=functions.where_all, inputs={"n": "{{ item.n }}"}, batch=Batch(max_items=2))
    found = outputs(await isolated(node))
    assert [n for _, n in found] == [0, 1, 2]
    assert os.getpid() not in {process for process, _ in found}
