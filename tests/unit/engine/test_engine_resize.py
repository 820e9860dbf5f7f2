"""Looking at a running engine, and changing it."""

from __future__ import annotations

import threading
from typing import Any

import anyio

from batchrun.core.executions import Stop
from batchrun.core.job import Run
from batchrun.core.policies import Backoff, Retry
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.engine.engine import Engine
from batchrun.engine.open_items import Activity
from batchrun.testing.clock import run_virtually
from batchrun.testing.rows import RowRun
from tests.unit.engine.small_nodes import node

N = {"n": "{{ item.n }}"}


def rows(count: int) -> list[dict[str, int]]:
    return [{"n": n} for n in range(count)]


class Door:
    """Functions stand in a queue before it until they are let through, in the order they came."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.came = self.let_in = self.waiting = self.most = 0
        self.last = threading.current_thread()  # who came last

    def call(self, n: int) -> int:
        with self.changed:
            number, self.came = self.came, self.came + 1
            self.last = threading.current_thread()
            self.waiting += 1
            self.most = max(self.most, self.waiting)
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: number < self.let_in, 60)
            self.waiting -= 1
            self.changed.notify_all()
        return n

    def let_through(self, count: int) -> None:
        with self.changed:
            self.let_in += count
            self.changed.notify_all()

    async def until(self, came: int, waiting: int) -> None:
        def wait() -> None:
            with self.changed:
                assert self.changed.wait_for(lambda: (self.came, self.waiting) == (came, waiting), 30)

        await anyio.to_thread.run_sync(wait)


async def test_lanes_follow_the_new_size() -> None:
    """More parallelism takes effect while items run, and less of it once the calls in flight have ended."""
    door, engines = Door(), list[Engine]()

    async def change() -> None:
        await door.until(2, 2)
        engines[0].resize(6)
        await door.until(6, 6)
        engines[0].resize(1)
        door.let_through(6)
        await door.until(7, 1)
        door.most = 0
        for came in range(8, 28):
            door.let_through(1)
            await door.until(came, 1)
        assert door.most == 1
        engines[0].resize(4)
        await door.until(30, 4)
        door.let_through(1_000)

    row_run = RowRun(nodes=[node("door", door.call, inputs=N)], run=Run(parallelism=2), on_open=engines.append)
    async with anyio.create_task_group() as group:
        group.start_soon(change)
        results = await row_run.results(rows(60))
    assert [result.status for result in results] == ["completed"] * 60


async def test_lanes_that_are_too_many_end_and_others_take_their_work() -> None:
    """A smaller engine holds on to no threads, and no item is left behind in one."""
    door, engines, ended = Door(), list[Engine](), list[bool]()

    async def change() -> None:
        await door.until(8, 8)
        lanes = [thread for thread in threading.enumerate() if thread.name.startswith("batchrun-lane-")]
        engines[0].resize(1)
        door.let_through(8)
        await door.until(9, 1)
        for thread in lanes:
            if thread is not door.last:
                await anyio.to_thread.run_sync(thread.join, 30)
                ended.append(not thread.is_alive())
        door.let_through(1_000)

    row_run = RowRun(nodes=[node("door", door.call, inputs=N)], run=Run(parallelism=8), on_open=engines.append)
    async with anyio.create_task_group() as group:
        group.start_soon(change)
        results = await row_run.results(rows(500))
    assert [result.output for result in results] == list(range(500))
    assert ended == [True] * 7


def test_activity_tells_where_items_are_and_what_they_wait_for() -> None:
    """Whoever watches sees which node holds things up, and why."""
    seen: list[Activity] = []
    engines: list[Engine] = []

    async def quick(n: int) -> int:
        await anyio.sleep(1)
        return n

    async def slow(n: int) -> int:
        await anyio.sleep(10 * n)
        if n == 1:
            raise ConnectionError("not now")
        return n

    dispatchers: list[Dispatcher[Any]] = []
    retry = Retry(backoff=Backoff(initial_seconds=1000, max_seconds=1000))
    nodes = [node("quick", quick, inputs=N), node("slow", slow, inputs={"n": "{{ nodes.quick.output }}"}, retry=retry)]
    run = Run(parallelism=3, max_open_items=3, grace_seconds=60, item_timeout_seconds=None, retry=retry)
    row_run = RowRun(nodes=nodes, run=run, on_open=engines.append, on_start=dispatchers.append)

    async def main() -> list[Any]:
        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            return await row_run.results(rows(4)[1:])

    async def watch() -> None:
        for seconds in (0.5, 5, 10):
            await anyio.sleep(seconds)
            seen.append(engines[0].activity())
        dispatchers[0].stop(Stop("user", "enough"))

    results = run_virtually(main)
    assert seen == [
        Activity({"quick": 3}, {"call": 3, "lane": 0, "backoff": 0, "resource": 0, "batch": 0}),
        Activity({"slow": 3}, {"call": 3, "lane": 0, "backoff": 0, "resource": 0, "batch": 0}),
        Activity({"slow": 3}, {"call": 2, "lane": 0, "backoff": 1, "resource": 0, "batch": 0}),
    ]
    assert [result.status for result in results] == ["cancelled", "completed", "completed"]


async def test_activity_counts_functions_in_lanes_and_items_queued_for_one() -> None:
    """Items between two nodes that wait for a free lane are told apart from those whose function runs."""
    door, engines, seen = Door(), list[Engine](), list[Activity]()

    async def first(n: int) -> int:
        return n

    async def watch() -> None:
        engines[0].resize(1)
        await door.until(1, 1)
        await anyio.wait_all_tasks_blocked()
        seen.append(engines[0].activity())
        door.let_through(100)

    nodes = [node("first", first, inputs=N), node("door", door.call, inputs={"n": "{{ nodes.first.output }}"})]
    row_run = RowRun(nodes=nodes, run=Run(parallelism=3), on_open=engines.append)
    async with anyio.create_task_group() as group:
        group.start_soon(row_run.results, rows(3))
        await anyio.lowlevel.checkpoint()
        group.start_soon(watch)
    assert seen == [Activity({"door": 3}, {"call": 1, "lane": 2, "backoff": 0, "resource": 0, "batch": 0})]


async def test_activity_of_chunks_counts_what_is_in_a_lane() -> None:
    """Items that are only queued have not begun, and are not counted."""
    door, engines, seen = Door(), list[Engine](), list[Activity]()

    async def watch() -> None:
        await door.until(2, 2)
        seen.append(engines[0].activity())
        door.let_through(100)

    nodes = [node("first", lambda n: n, inputs=N), node("door", door.call, inputs={"n": "{{ nodes.first.output }}"})]
    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await RowRun(nodes=nodes, run=Run(parallelism=2), on_open=engines.append).results(rows(50))
    assert seen == [Activity({"door": 2}, {"call": 2, "lane": 0, "backoff": 0, "resource": 0, "batch": 0})]
