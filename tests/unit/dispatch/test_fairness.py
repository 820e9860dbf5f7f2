"""What the dispatcher leaves to others."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import anyio
import pytest

from batchrun.core.job import Run
from batchrun.core.policies import FailurePolicy
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.nodes.python import PythonNode
from batchrun.testing.rows import RowRun


async def test_functions_that_never_wait_let_others_have_the_event_loop() -> None:
    """Async functions that never await anything hold up neither the display nor a pause that is asked for."""
    looks: list[int] = []
    done: list[int] = []

    async def busy(n: int) -> int:
        end = time.monotonic() + 0.01
        while time.monotonic() < end:
            pass
        done.append(n)
        return n

    async def look() -> None:
        while len(done) < 60:
            looks.append(len(done))
            await anyio.lowlevel.checkpoint()

    nodes = [PythonNode(id="busy", call=busy, inputs={"n": "{{ item.n }}"})]
    async with anyio.create_task_group() as group:
        group.start_soon(RowRun(nodes=nodes, run=Run(parallelism=4)).results, [{"n": n} for n in range(60)])
        group.start_soon(look)
    assert len(set(looks)) > 3


@pytest.mark.parametrize(("total_items", "is_judged"), [(None, True), (4, True), (9, False)])
async def test_the_failure_ratio_is_judged_at_the_end_of_all_items_only(total_items: int | None, is_judged: bool) -> None:
    """A run of some items of an execution does not condemn the others, which may do better."""

    def fail(n: int) -> int:
        raise TypeError(n)

    run = Run(failure_policy=FailurePolicy(max_failure_ratio=0.5))
    row_run = RowRun(nodes=[PythonNode(id="fail", call=fail, inputs={"n": "{{ item.n }}"})], run=run, total_items=total_items)
    dispatchers: list[Dispatcher[Any]] = []
    await replace(row_run, on_start=dispatchers.append).results([{"n": n} for n in range(4)])
    assert (dispatchers[0].stop_cause is not None) == is_judged
