"""How many items are at work while parts of their calls run together, wait for others, or back off."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any, ClassVar

import pytest

import batchrun
from batchrun.core.executions import Stop
from batchrun.core.job import Batch, Run
from batchrun.core.policies import Backoff, Retry
from batchrun.engine.engine import Engine
from batchrun.nodes.python import PythonNode
from batchrun.nodes.workflow import WorkflowNode
from batchrun.testing.rows import RowRun
from batchrun.workflows.functions import node, workflow
from tests.unit.engine.flow_runs import flow, given, names, ran, rows, sub


class Meter:
    """Counts the items that are in a call at the same time."""

    def __init__(self) -> None:
        self.at_work: dict[int, int] = {}
        self.most = 0

    async def __call__(self, n: int, seconds: float) -> None:
        self.at_work[n] = self.at_work.get(n, 0) + 1
        self.most = max(self.most, len(self.at_work))
        await asyncio.sleep(seconds)
        self.at_work[n] -= 1
        if not self.at_work[n]:
            del self.at_work[n]


@pytest.mark.parametrize("parallelism", [1, 2, 3])
@pytest.mark.parametrize("max_open_items", [None, 3])
def test_never_more_items_are_at_work_than_parallelism(parallelism: int, max_open_items: int | None) -> None:
    """Calls back off in two gathers, one in the other: the slot is given back while all of them wait, and taken again first."""
    meter, tried = Meter(), set[tuple[int, int]]()

    @node
    async def work(n: int, k: int) -> int:
        await meter(n, 0.1)
        if (n, k) not in tried and (n + k) % 2:
            tried.add((n, k))
            raise ConnectionError("again")
        return k

    @workflow
    async def run(n: int) -> Any:
        inner = batchrun.gather(*[work(n, k) for k in range(3)], limit=2)
        return await batchrun.gather(work(n, 10), inner, work(n, 11))

    job = Run(parallelism=parallelism, max_open_items=max_open_items, retry=Retry(backoff=Backoff(initial_seconds=1, max_seconds=1)))
    results = ran(flow(run), run=job, count=9)
    assert [given(result) for result in results] == [[10, [0, 1, 2], 11]] * 9
    assert meter.most == parallelism


def test_a_gather_in_each_element_of_a_mapped_workflow() -> None:
    """At parallelism 1 with a single seat, where anything that waits for a slot of its own would wait for ever."""
    meter = Meter()

    @node
    async def work(n: int, k: int) -> int:
        await meter(n, 0.1)
        return k

    async def each(n: int, input: int) -> Any:  # noqa: A002
        return await batchrun.gather(*[work(n, input + k) for k in range(2)])

    inner = PythonNode(id="each", call=workflow(each), inputs={"n": "{{ item.n }}", "input": "{{ item.input }}"})
    mapped = sub(inner, map="{{ [1, 2, 3] }}", parallelism=2)
    results = ran(mapped, run=Run(parallelism=1, max_open_items=1), count=3)
    assert [given(result) for result in results] == [[[1, 2], [2, 3], [3, 4]]] * 3
    assert meter.most == 1


def test_calls_in_tasks_of_the_user_give_the_slot_back_once() -> None:
    """`asyncio.gather` is no way to be recommended; it must not lend a slot twice."""
    meter, tried = Meter(), set[tuple[int, int]]()

    @node
    async def work(n: int, k: int) -> int:
        await meter(n, 0.1)
        if (n, k) not in tried:
            tried.add((n, k))
            raise ConnectionError("again")
        return k

    @workflow
    async def run(n: int) -> Any:
        return await asyncio.gather(*[work(n, k) for k in range(3)])

    results = ran(flow(run), run=Run(parallelism=2, retry=Retry(backoff=Backoff(initial_seconds=1, max_seconds=1))), count=6)
    assert names(results) == ["completed"] * 6
    assert meter.most == 2


@pytest.mark.parametrize("parallelism", [1, 4])
def test_batches_are_filled_across_items_and_none_waits_for_items_that_cannot_come(parallelism: int) -> None:
    """The node waits for 64 items, for an hour; there are seven, and they may be held one at a time."""
    sizes: list[int] = []

    async def many(n: list[int]) -> list[int]:
        sizes.append(len(n))
        return [each * 2 for each in n]

    inner = flow(many, "many", batch=Batch(max_items=64, max_wait_ms=3_600_000))
    results = ran(sub(inner), run=Run(parallelism=parallelism, max_open_items=7), count=7)
    assert [given(result) for result in results] == [2 * n for n in range(7)]
    assert sizes == [7]
    assert sum(result.duration_ms for result in results) == 0


def test_a_batch_in_each_branch_of_a_gather() -> None:
    """An item whose branches all wait for others waits itself."""
    sizes: list[int] = []

    async def many(n: list[int]) -> list[int]:
        sizes.append(len(n))
        return n

    mapped = WorkflowNode(
        id="sub",
        workflow=batchrun_workflow(flow(many, "many", batch=Batch(max_items=100, max_wait_ms=3_600_000))),
        inputs={"n": "{{ item.n }}"},
        map="{{ [1, 2, 3] }}",
        parallelism=3,
    )
    results = ran(mapped, run=Run(parallelism=2, max_open_items=4), count=4)
    assert [given(result) for result in results] == [[n] * 3 for n in range(4)]
    assert sizes == [12]


def batchrun_workflow(*nodes: Any) -> Any:
    return sub(*nodes).workflow


def test_equal_calls_in_parts_are_made_once() -> None:
    """Of different items, and of branches of the same one."""
    calls: list[int] = []

    @node(dedupe=True)
    async def same(k: int) -> int:
        calls.append(k)
        await asyncio.sleep(1)
        return k

    @workflow
    async def run(n: int) -> Any:
        return await batchrun.gather(same(1), same(1), same(2))

    results = ran(flow(run), run=Run(parallelism=2), count=2)
    assert [given(result) for result in results] == [[1, 1, 2]] * 2
    assert calls == [1, 2]


def test_an_engine_of_parts_that_begins_late_knows_what_others_do() -> None:
    """The execution is being stopped when the second node is called for the first time: it must not back off."""

    @node
    async def slow(n: int) -> int:
        await asyncio.sleep(2)
        return n

    @node
    async def fail(n: int) -> int:
        raise ConnectionError(n)

    @workflow
    async def run(n: int) -> Any:
        return await fail(await slow(n))

    runs = RowRun(
        nodes=[flow(run)],
        run=Run(grace_seconds=1_000, item_timeout_seconds=None, retry=Retry(backoff=Backoff(initial_seconds=10_000, max_seconds=10_000))),
        on_start=lambda dispatcher: asyncio.get_running_loop().call_later(1, dispatcher.stop, Stop("user", "enough")) and None,
    )
    (result,) = runs.results_virtually(rows(1))
    assert (result.status, round(result.duration_ms)) == ("cancelled", 2_000)


class _Held:
    """Something that an item holds on to."""

    alive: ClassVar[weakref.WeakSet[_Held]] = weakref.WeakSet()

    def __init__(self) -> None:
        self.alive.add(self)


@pytest.mark.parametrize("is_async", [True, False])
def test_items_that_ended_leave_nothing_behind(is_async: bool) -> None:
    """The garbage collector runs rarely: what an item held on to must go with it, also when it fails or is tried again."""
    engines: list[Engine] = []
    most, retry = [0], Retry(max_attempts=2, backoff=Backoff(initial_seconds=0, max_seconds=0))

    def body(n: int) -> int:
        held = _Held()
        most[0] = max(most[0], len(_Held.alive))
        if n % 3 == 1:
            raise ConnectionError(n)
        return n if held else 0

    async def body_async(n: int) -> int:
        return body(n)

    plain, called = node(name="body", retry=retry)(body), node(name="body", retry=retry)(body_async)

    async def run_async(n: int) -> Any:
        held = _Held()
        try:
            if n % 2:
                return await batchrun.gather(called(n), called(n + 1), *([batchrun.pause()] if n % 4 == 1 else []))
            return await called(n)
        finally:
            del held

    def run(n: int) -> Any:
        held = _Held()
        return plain(n) if held else None

    runs = RowRun(nodes=[flow(workflow(run_async if is_async else run))], run=Run(parallelism=4), on_open=engines.append)
    gc.collect()
    gc.disable()
    try:
        results = runs.results_virtually(rows(2_000))
    finally:
        gc.enable()
    assert {"completed", "failed"} <= {result.status for result in results}
    assert most[0] < 600  # what is at work and not handed over, a chunk of 512 items at most: it does not grow with the items
    assert len(_Held.alive) < 20
