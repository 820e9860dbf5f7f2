from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.errors import ExecutionError
from batchrun.core.executions import Stop
from batchrun.core.items import Item
from batchrun.core.job import Run
from batchrun.core.policies import Backoff, FailurePolicy, Retry
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.dispatch.feed import Feed
from batchrun.dispatch.slots import Slots
from batchrun.nodes.python import PythonNode
from batchrun.testing.clock import VirtualLoop
from batchrun.testing.rows import ListSink, RowRun

NO_RETRY = Retry(max_attempts=1)


def node(call: Any, **options: Any) -> PythonNode:
    return PythonNode(id="node", call=call, inputs={"n": "{{ item.n }}"}, **options)


def rows(count: int) -> list[dict[str, int]]:
    return [{"n": n} for n in range(count)]


class Gauge:
    """Counts calls under way, and the most there ever were."""

    def __init__(self) -> None:
        self.now = self.most = self.calls = 0

    async def hold(self, seconds: float) -> None:
        self.calls += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await anyio.sleep(seconds)
        finally:
            self.now -= 1


@given(
    parallelism=st.integers(1, 6),
    extra_seats=st.integers(0, 6),
    failing=st.sets(st.integers(0, 29), max_size=15),
    window=st.integers(1, 40),
)
def test_parallelism_is_reached_and_never_exceeded_and_every_item_ends_once(
    parallelism: int, extra_seats: int, failing: set[int], window: int
) -> None:
    """Whatever fails and is tried again: one result per item, and never more items at work than allowed."""
    gauge, calls = Gauge(), Counter[int]()

    async def call(n: int) -> int:
        calls[n] += 1
        await gauge.hold(1)
        if n in failing and calls[n] < 3:
            raise ConnectionError("again")
        return n

    run = Run(
        parallelism=parallelism, max_open_items=parallelism + extra_seats, retry=Retry(max_attempts=3, backoff=Backoff(initial_seconds=5))
    )
    results = RowRun(nodes=[node(call)], run=run, window=window).results_virtually(rows(30))
    assert [result.item.ordinal for result in results] == list(range(30))
    assert {result.status for result in results} == {"completed"}
    assert gauge.most == min(parallelism, 30)


def test_an_item_that_has_ended_is_handed_over_soon_whatever_others_wait_for() -> None:
    """Results are held back so that the writer is woken up seldom, but a crash must cost no more than the last fraction of a second."""
    sink, seen = ListSink(), list[list[int]]()

    async def call(n: int) -> int:
        if n < 6:
            await anyio.sleep(n)
        else:  # ends last, and looks on
            for _ in range(5):
                await anyio.sleep(1.03)
                seen.append([result.item.ordinal for result in sink.taken])
        return n

    run = RowRun(nodes=[node(call)], run=Run(parallelism=7))
    results = anyio.run(run.results, rows(7), sink, backend_options={"loop_factory": VirtualLoop})
    assert seen == [list(range(n + 2)) for n in range(5)]
    assert len(results) == 7


def test_a_backoff_gives_its_slot_to_other_items() -> None:
    """While an item waits to be tried again its slot works: the run takes as long as the work, not as the waits."""
    calls = Counter[int]()
    ended: list[float] = []

    async def call(n: int) -> int:
        calls[n] += 1
        await anyio.sleep(1)
        if n % 10 == 0 and calls[n] == 1:
            raise ConnectionError("again")
        ended.append(anyio.current_time())
        return n

    run = Run(parallelism=10, retry=Retry(backoff=Backoff(initial_seconds=1e-9, max_seconds=1e-9)))
    RowRun(nodes=[node(call)], run=run).results_virtually(rows(100))
    assert max(ended) <= 12  # 110 calls of a second, ten at a time


def test_items_that_wait_are_bounded_by_max_open_items() -> None:
    """A service that fails everything must not make the dispatcher load the whole dataset into backoffs."""
    started: set[int] = set()

    async def call(n: int) -> int:
        started.add(n)
        raise ConnectionError("down")

    seen: list[int] = []

    async def watch(dispatcher: Dispatcher[Any]) -> None:
        await anyio.sleep(1)
        seen.append(dispatcher.open_items)
        dispatcher.stop(Stop("user", "enough"))

    tasks: list[asyncio.Task[None]] = []
    run = Run(
        parallelism=2,
        max_open_items=7,
        item_timeout_seconds=None,
        retry=Retry(max_attempts=5, backoff=Backoff(initial_seconds=1e6, max_seconds=1e6)),
    )
    row_run = RowRun(nodes=[node(call)], run=run, on_start=lambda dispatcher: tasks.append(asyncio.create_task(watch(dispatcher))))
    results = row_run.results_virtually(rows(50))
    assert (len(started), seen) == (7, [7])
    assert {result.status for result in results} == {"cancelled"}


def test_a_stop_lets_calls_in_flight_end_and_starts_no_more() -> None:
    """After a stop, items at work complete within the grace period; the others become cancelled rows."""

    async def call(n: int) -> int:
        await anyio.sleep(10 if n != 2 else 1000)
        return n

    def stop_soon(dispatcher: Dispatcher[Any]) -> None:
        asyncio.get_running_loop().call_later(5, dispatcher.stop, Stop("user", "enough"))

    run = Run(parallelism=4, grace_seconds=60)
    results = RowRun(nodes=[node(call)], run=run, window=6, on_start=stop_soon).results_virtually(rows(20))
    assert [result.status for result in results[:6]] == ["completed", "completed", "cancelled", "completed", "cancelled", "cancelled"]
    assert len(results) == 6  # what was never loaded is written from the scan


async def test_a_stop_in_the_middle_of_sync_work_leaves_one_result_for_every_loaded_item() -> None:
    """Chunks that were queued are withdrawn; nothing is lost and nothing runs twice."""
    calls = Counter[int]()
    dispatchers: list[Dispatcher[Any]] = []
    loop = asyncio.get_running_loop()

    def call(n: int) -> int:
        calls[n] += 1
        if n == 500:
            loop.call_soon_threadsafe(dispatchers[0].stop, Stop("user", "enough"))
        return n

    row_run = RowRun(nodes=[node(call)], on_start=dispatchers.append, window=700)
    results = await row_run.results(rows(50_000))
    ordinals = [result.item.ordinal for result in results]
    assert ordinals == list(range(dispatchers[0].loaded_items))
    assert len(ordinals) < 50_000
    assert {result.item.ordinal for result in results if result.status == "completed"} == set(calls)
    assert set(calls.values()) == {1}


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_call_that_hangs_cannot_hold_up_a_stop(is_async: bool) -> None:
    """When the grace period is over the run ends, whether the call in flight is a coroutine or hangs in a thread."""
    forever = threading.Event()

    def hang(n: int) -> None:
        forever.wait()

    async def sleep(n: int) -> None:
        await anyio.sleep_forever()

    def stop_soon(dispatcher: Dispatcher[Any]) -> None:
        asyncio.get_running_loop().call_later(0.05, dispatcher.stop, Stop("user", "enough"))

    try:
        results = await RowRun(
            nodes=[node(sleep if is_async else hang)], run=Run(parallelism=2, grace_seconds=0.05), on_start=stop_soon
        ).results(rows(5))
    finally:
        forever.set()
    assert [result.status for result in results] == ["cancelled"] * 5


@pytest.mark.parametrize("is_async", [False, True])
async def test_the_failure_policy_stops_the_run(is_async: bool) -> None:
    """When too much fails, no more items are burned and the cause is told."""

    def fail(n: int) -> None:
        raise ValueError(n)

    async def fail_async(n: int) -> None:
        raise ValueError(n)

    dispatchers: list[Dispatcher[Any]] = []
    run = Run(parallelism=1, retry=NO_RETRY, failure_policy=FailurePolicy(max_failures=10))
    row_run = RowRun(nodes=[node(fail_async if is_async else fail)], run=run, on_start=dispatchers.append, window=100)
    results = await row_run.results(rows(5_000))
    cause = dispatchers[0].stop_cause
    assert cause is not None
    assert (cause.reason, cause.status) == ("failure_policy", "failed")
    assert 11 <= Counter(result.status for result in results)["failed"] < 5_000


def test_the_failure_ratio_is_judged_at_the_end_however_few_items_there_are() -> None:
    """A run of five items with three failures has failed a policy of 50 %, although min_items was never reached."""

    async def call(n: int) -> None:
        if n < 3:
            raise ValueError(n)

    dispatchers: list[Dispatcher[Any]] = []
    run = Run(retry=NO_RETRY, failure_policy=FailurePolicy(max_failure_ratio=0.5))
    RowRun(nodes=[node(call)], run=run, on_start=dispatchers.append).results_virtually(rows(5))
    assert dispatchers[0].stop_cause is not None
    assert "3 of 5 items failed (60.0%)" in dispatchers[0].stop_cause.message


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_broken_result_writer_ends_the_run_with_its_error(is_async: bool) -> None:
    """When results cannot be written, running on would only waste calls."""

    async def waits(n: int) -> int:
        return n

    sink = ListSink(breaks_after=100)
    with pytest.raises(ExecutionError, match="disk is full"):
        await RowRun(nodes=[node(waits if is_async else lambda n: n)]).results(rows(20_000), sink)
    assert len(sink.taken) < 20_000


async def test_a_dataset_that_breaks_off_ends_the_run_with_its_error() -> None:
    """An error of the reader arrives as it is, after the windows before it."""

    def windows() -> Iterator[list[Item]]:
        yield []
        yield [Item(0, 0, 0, {}, None, 0)]  # type: ignore[arg-type]
        raise ExecutionError("page 3 of a.parquet is damaged")

    feed = Feed(windows())
    try:
        assert len(await feed.next() or ()) == 1
        with pytest.raises(ExecutionError, match="page 3"):
            await feed.next()
    finally:
        feed.close()


async def test_slots_go_to_whoever_waits_longest_and_survive_cancellation() -> None:
    """A slot handed to a task that is cancelled in that moment is not lost."""
    slots = Slots(1)
    await slots.acquire()
    first, second = asyncio.create_task(slots.acquire()), asyncio.create_task(slots.acquire())
    await asyncio.sleep(0)
    assert slots.waiters
    slots.release()
    first.cancel()  # it was given the slot, and has not yet run
    await asyncio.wait([first, second])
    assert first.cancelled()
    assert not second.cancelled()
    slots.release()
    await slots.acquire()
