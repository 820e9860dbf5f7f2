"""Items with fallbacks that run out of time."""

from __future__ import annotations

import threading

import anyio

from batchrun.core.job import FallbackOnFailure, Run
from batchrun.testing.rows import RowRun
from tests.unit.engine.small_nodes import node

N = {"n": "{{ item.n }}"}


def to(fallback: str) -> FallbackOnFailure:
    return FallbackOnFailure(fallback=fallback)


def test_an_item_that_is_out_of_time_gets_no_fallback() -> None:
    """Its deadline is not put off by failing."""
    made: list[str] = []

    async def slow() -> None:
        await anyio.sleep(9)

    policy = Run(item_timeout_seconds=5)
    (result,) = RowRun(nodes=[node("n", slow, on_failure=to("f")), node("f", lambda: made.append("f"))], run=policy).results_virtually([{}])
    assert result.error is not None
    assert (result.status, result.error.node_id, made) == ("failed", "n", [])


async def test_the_node_that_an_item_was_late_for_is_one_it_was_on_the_way_to() -> None:
    """An item whose time is up in the queue for a lane is not said to have failed in a fallback that it never needed."""
    forever, is_blocked = threading.Event(), threading.Event()

    async def first(n: int) -> int:
        if n == 0:  # so that the other item, which began later, holds the only lane
            await anyio.to_thread.run_sync(is_blocked.wait)
        return n

    def reader(n: int) -> None:
        is_blocked.set()
        forever.wait()

    nodes = [
        node("first", first, inputs=N, on_failure=to("spare")),
        node("spare", lambda: None),
        node("reader", reader, inputs={"n": "{{ nodes.first.output }}"}),
    ]
    policy = Run(parallelism=2, item_timeout_seconds=1.5)
    row_run = RowRun(nodes=nodes, run=policy, on_open=lambda engine: engine.resize(1))
    try:
        late, blocked = await row_run.results([{"n": 0}, {"n": 1}])
    finally:
        forever.set()
    assert [result.status for result in (late, blocked)] == ["failed", "failed"]
    assert late.error is not None
    assert (late.error.type, late.error.node_id) == ("Timeout", "reader")
    assert [(record[0], record[1]) for record in late.nodes] == [(0, "completed"), (1, "skipped"), (2, "failed")]
