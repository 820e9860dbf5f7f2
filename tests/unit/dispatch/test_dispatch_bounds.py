from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any

import anyio
import pytest

from batchrun.core.executions import Stop
from batchrun.core.job import Run
from batchrun.core.policies import Backoff, FailurePolicy, Retry
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.nodes.python import PythonNode
from batchrun.testing.rows import RowRun


def node(id: str, call: Any, source: str = "item.n") -> PythonNode:
    return PythonNode(id=id, call=call, inputs={"n": f"{{{{ {source} }}}}"})


def rows(count: int) -> list[dict[str, int]]:
    return [{"n": n} for n in range(count)]


async def test_functions_that_all_fail_are_bounded_by_max_open_items() -> None:
    """Thousands may be queued for lanes, yet only a few begin while those that began wait to be tried again."""
    begun: set[int] = set()
    loop = asyncio.get_running_loop()
    dispatchers: list[Dispatcher[Any]] = []

    def call(n: int) -> None:
        begun.add(n)
        heard = threading.Event()  # where the event loop is held up, lanes would go on with what they have
        loop.call_soon_threadsafe(heard.set)
        heard.wait(60)
        raise ConnectionError("down")

    async def stop_when_no_more_begin() -> None:
        before = 0
        while len(begun) > before or before < 7:
            before = len(begun)
            await asyncio.sleep(0.2)
        dispatchers[0].stop(Stop("user", "enough"))

    retry = Retry(max_attempts=5, backoff=Backoff(initial_seconds=1e6, max_seconds=1e6))
    run = Run(parallelism=2, max_open_items=7, item_timeout_seconds=None, retry=retry)
    row_run = RowRun(nodes=[node("down", call)], run=run, window=3_000, on_start=dispatchers.append)
    stopping = asyncio.create_task(stop_when_no_more_begin())
    results = await row_run.results(rows(6_000))
    await stopping
    assert len(begun) < 7 + 2 * 256  # what the two lanes had in hand
    assert Counter(result.status for result in results) == {"cancelled": dispatchers[0].loaded_items}
    assert Counter(result.attempts > 0 for result in results)[True] == len(begun)


async def test_items_held_back_are_run_when_there_is_room() -> None:
    """What is taken back from the lanes keeps its turn: nothing is lost, and nothing runs too often."""
    calls = Counter[int]()

    def call(n: int) -> int:
        calls[n] += 1
        if calls[n] < 3:
            raise ConnectionError("again")
        return n

    run = Run(parallelism=3, max_open_items=3, retry=Retry(max_attempts=3, backoff=Backoff(initial_seconds=0)))
    with anyio.fail_after(30):
        results = await RowRun(nodes=[node("again", call)], run=run, window=150).results(rows(500))
    assert {result.status for result in results} == {"completed"}
    assert (len(results), set(calls.values())) == (500, {3})


def test_the_failure_ratio_is_judged_as_soon_as_there_are_min_items() -> None:
    """The item that makes them enough may well be one that completed."""

    async def call(n: int) -> None:
        if n < 5:
            raise TypeError(n)

    run = Run(parallelism=1, failure_policy=FailurePolicy(max_failure_ratio=0.2, min_items=10))
    results = RowRun(nodes=[node("call", call)], run=run, window=5).results_virtually(rows(40))
    assert Counter(result.status for result in results) == {"failed": 5, "completed": 5}


@pytest.mark.parametrize("is_mixed", [False, True])
async def test_no_item_is_lost_when_the_grace_period_ends_in_the_middle_of_everything(is_mixed: bool) -> None:
    """Calls hang in lanes and on the loop, others are queued, sent back or just done: each item has one row, and the run ends."""
    forever = threading.Event()
    calls = Counter[int]()
    dispatchers: list[Dispatcher[Any]] = []

    def call(n: int) -> int:
        calls[n] += 1
        if n % 7 == 3:
            forever.wait()
        if n % 5 == 1 and calls[n] < 3:
            raise ConnectionError("again")
        return n

    async def waits(n: int) -> int:
        if n % 11 == 5:
            await anyio.sleep_forever()
        return n

    def stop_soon(dispatcher: Dispatcher[Any]) -> None:
        dispatchers.append(dispatcher)
        asyncio.get_running_loop().call_later(0.05, dispatcher.stop, Stop("user", "enough"))

    nodes = [node("call", call)]
    if is_mixed:
        nodes = [node("first", waits), node("call", call, "nodes.first.output"), node("last", waits, "nodes.call.output")]
    run = Run(parallelism=8, grace_seconds=0.03, retry=Retry(backoff=Backoff(initial_seconds=0.01)))
    try:
        with anyio.fail_after(60):
            results = await RowRun(nodes=nodes, run=run, window=50, on_start=stop_soon).results(rows(3_000))
    finally:
        forever.set()
    assert [result.item.ordinal for result in results] == list(range(dispatchers[0].loaded_items))


@pytest.mark.parametrize("parallelism", [2, 5000])
def test_no_more_workers_begin_than_there_are_items(parallelism: int) -> None:
    """A parallelism of very many, from the start or by `tune`, costs nothing: with a worker for each, nothing else would happen."""
    tasks: list[int] = []

    async def call(n: int) -> int:
        tasks.append(len(asyncio.all_tasks()))
        await anyio.sleep(10)
        return n

    def on_start(dispatcher: Dispatcher[Any]) -> None:
        asyncio.get_running_loop().call_later(5, dispatcher.resize, 6000)

    run = RowRun(nodes=[node("wait", call)], run=Run(parallelism=parallelism), total_items=4, on_start=on_start)
    assert [result.output for result in run.results_virtually(rows(4))] == [0, 1, 2, 3]
    assert max(tasks) < 20
