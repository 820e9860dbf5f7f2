"""Changing the parallelism of a dispatcher while it runs."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.executions import Stop
from batchrun.core.job import Run
from batchrun.core.policies import Backoff, Retry
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.dispatch.slots import Slots
from batchrun.nodes.python import PythonNode
from batchrun.testing.rows import RowRun

FOREVER = Retry(max_attempts=5, backoff=Backoff(initial_seconds=1e6, max_seconds=1e6))


def node(call: Any) -> PythonNode:
    return PythonNode(id="node", call=call, inputs={"n": "{{ item.n }}"})


def rows(count: int) -> list[dict[str, int]]:
    return [{"n": n} for n in range(count)]


def at(*steps: tuple[float, Callable[[Dispatcher[Any]], object]]) -> Callable[[Dispatcher[Any]], None]:
    """Do things with the dispatcher some seconds after its start."""

    def on_start(dispatcher: Dispatcher[Any]) -> None:
        for seconds, step in steps:
            asyncio.get_running_loop().call_later(seconds, step, dispatcher)

    return on_start


def test_more_begin_at_once_and_fewer_only_as_others_end() -> None:
    """Nothing in flight is cut off, and no free slot waits for the next item to end."""
    active: set[int] = set()
    seen: list[int] = []

    async def call(n: int) -> int:
        active.add(n)
        await anyio.sleep(10)
        active.remove(n)
        return n

    def look(_dispatcher: Dispatcher[Any]) -> None:
        seen.append(len(active))

    steps = at(
        *((5, lambda dispatcher: dispatcher.resize(6)), (5.5, look)),
        *((7, lambda dispatcher: dispatcher.resize(3)), (7.5, look), (10.5, look), (15.5, look)),
        *((16, lambda dispatcher: dispatcher.resize(2)), (17, lambda dispatcher: dispatcher.resize(5)), (17.5, look), (25.5, look)),
    )
    results = RowRun(nodes=[node(call)], run=Run(parallelism=2), window=7, on_start=steps).results_virtually(rows(40))
    assert seen == [6, 6, 4, 3, 5, 5]
    assert [(result.status, result.output) for result in results] == [("completed", n) for n in range(40)]


@given(
    parallelism=st.integers(1, 6),
    resizes=st.lists(st.tuples(st.floats(0, 40), st.integers(1, 9)), max_size=6),
    failing=st.sets(st.integers(0, 39), max_size=20),
    window=st.integers(1, 50),
)
def test_no_call_begins_above_the_limit_of_the_moment_and_every_item_ends_once(
    parallelism: int, resizes: list[tuple[float, int]], failing: set[int], window: int
) -> None:
    """Also for items that come back from a backoff, whatever became of the limit while they waited."""
    limit, active, calls = parallelism, 0, Counter[int]()
    breaches: list[str] = []

    async def call(n: int) -> int:
        nonlocal active
        calls[n] += 1
        active += 1
        if active > limit:
            breaches.append(f"{active} at work, {limit} allowed")
        await anyio.sleep(1)
        active -= 1
        if n in failing and calls[n] < 3:
            raise ConnectionError("again")
        return n

    def resize(to: int) -> Callable[[Dispatcher[Any]], None]:
        def step(dispatcher: Dispatcher[Any]) -> None:
            nonlocal limit
            limit = to
            dispatcher.resize(to)

        return step

    run = Run(parallelism=parallelism, retry=Retry(max_attempts=3, backoff=Backoff(initial_seconds=5)))
    steps = at(*((seconds, resize(to)) for seconds, to in resizes))
    results = RowRun(nodes=[node(call)], run=run, window=window, on_start=steps).results_virtually(rows(40))
    assert breaches == []
    assert [result.status for result in results] == ["completed"] * 40
    assert calls.total() == 40 + 2 * len(failing)


def test_the_work_is_shared_by_all_new_slots_to_the_end() -> None:
    """Slots must not fall asleep after changes back and forth while items wait to be tried again."""
    calls = Counter[int]()
    ended: list[float] = []

    async def call(n: int) -> int:
        calls[n] += 1
        await anyio.sleep(1)
        if n % 10 == 0 and calls[n] == 1:
            raise ConnectionError("again")
        ended.append(anyio.current_time())
        return n

    steps = at(*((seconds, lambda dispatcher, to=to: dispatcher.resize(to)) for seconds, to in [(0.5, 2), (0.6, 9), (3.5, 1), (6.5, 10)]))
    run = Run(parallelism=4, retry=Retry(backoff=Backoff(initial_seconds=1e-9, max_seconds=1e-9)))
    RowRun(nodes=[node(call)], run=run, on_start=steps).results_virtually(rows(100))
    # Of 110 calls 31 begin until 3.5 s, one a second until 6.5 s, then ten a second.
    assert max(ended) <= 15.5


@pytest.mark.parametrize(("max_open_items", "expected"), [(None, [8, 12, 12, 12, 16]), (9, [9, 9, 9, 9, 9])])
def test_items_held_follow_the_parallelism_unless_the_job_says_how_many(max_open_items: int | None, expected: list[int]) -> None:
    """More slots with too few seats would stand empty; a number the user gave stays what it is."""
    seen: list[int] = []

    async def call(n: int) -> None:
        raise ConnectionError(n)

    def look(dispatcher: Dispatcher[Any]) -> None:
        seen.append(dispatcher.open_items)

    resizes = [(seconds, lambda dispatcher, to=to: dispatcher.resize(to)) for seconds, to in ((2, 3), (3, 1), (4, 2), (5, 4))]
    looks = [(seconds, look) for seconds in (1.5, 2.5, 3.5, 4.5, 5.5)]
    stop = (6, lambda dispatcher: dispatcher.stop(Stop("user", "enough")))
    run = Run(parallelism=2, max_open_items=max_open_items, item_timeout_seconds=None, retry=FOREVER)
    RowRun(nodes=[node(call)], run=run, on_start=at(*resizes, *looks, stop)).results_virtually(rows(100))
    assert seen == expected


class BusyError(ConnectionError):
    """What a service answers that wants to be left alone for a while."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__("busy")
        self.retry_after_seconds = retry_after_seconds


def test_surplus_seats_are_given_up_as_their_items_end() -> None:
    """An item that comes back and ends makes no room for another one while too many are held."""
    calls = Counter[int]()
    seen: list[int] = []

    async def call(n: int) -> int:
        calls[n] += 1
        await anyio.sleep(1)
        if n >= 8 or calls[n] == 1:
            raise BusyError(50 + 5 * n if n < 8 else 1e6)
        return n

    def look(dispatcher: Dispatcher[Any]) -> None:
        seen.append(dispatcher.open_items)

    steps = at(
        *((10, look), (20, lambda dispatcher: dispatcher.resize(1)), (200, look)),
        (201, lambda dispatcher: dispatcher.stop(Stop("user", "enough"))),
    )
    run = Run(parallelism=2, item_timeout_seconds=None, retry=Retry(backoff=Backoff(initial_seconds=0)))
    RowRun(nodes=[node(call)], run=run, on_start=steps).results_virtually(rows(50))
    assert seen == [8, 4]


async def test_functions_in_lanes_are_held_back_by_the_new_number_of_seats() -> None:
    """In chunks, too, more items may wait to be tried again when there is more parallelism."""
    begun: set[int] = set()
    loop = asyncio.get_running_loop()
    dispatchers: list[Dispatcher[Any]] = []

    def call(n: int) -> None:
        begun.add(n)
        if len(begun) == 8:
            loop.call_soon_threadsafe(loop.call_later, 0.05, dispatchers[0].resize, 400)
        if len(begun) == 4 * 400:
            loop.call_soon_threadsafe(dispatchers[0].stop, Stop("user", "enough"))
        raise ConnectionError("down")

    run = Run(parallelism=2, item_timeout_seconds=None, retry=FOREVER)
    row_run = RowRun(nodes=[node(call)], run=run, window=3_000, on_start=dispatchers.append)
    with anyio.fail_after(30):
        results = await row_run.results(rows(6_000))
    assert len(begun) >= 4 * 400
    assert len(results) == dispatchers[0].loaded_items


async def test_functions_that_block_run_side_by_side_in_the_new_number_of_threads() -> None:
    """The engine is told, too: more slots without more lanes would change nothing."""
    loop = asyncio.get_running_loop()
    dispatchers: list[Dispatcher[Any]] = []
    begun: list[int] = []
    all_four = threading.Barrier(4)

    def call(n: int) -> int:
        begun.append(n)
        if len(begun) == 2:
            loop.call_soon_threadsafe(dispatchers[0].resize, 4)
        all_four.wait(20)
        return n

    row_run = RowRun(nodes=[node(call)], run=Run(parallelism=2), window=1, on_start=dispatchers.append)
    results = await row_run.results(rows(4))
    assert [result.status for result in results] == ["completed"] * 4


def test_a_run_may_be_resized_before_it_begins() -> None:
    """A request that came while the dataset was being read counts from the first item on."""
    active: list[int] = []
    seen: list[int] = []

    async def call(n: int) -> int:
        active.append(n)
        seen.append(len(active))
        await anyio.sleep(1)
        active.remove(n)
        return n

    row_run = RowRun(nodes=[node(call)], run=Run(parallelism=2), on_start=lambda dispatcher: dispatcher.resize(5))
    assert len(row_run.results_virtually(rows(12))) == 12
    assert max(seen) == 5


def test_an_impossible_parallelism_is_refused_and_changes_nothing() -> None:
    """A slip of whoever tunes a run must not end it."""
    messages: list[str] = []

    async def call(n: int) -> int:
        await anyio.sleep(1)
        return n

    def refused(dispatcher: Dispatcher[Any]) -> None:
        for parallelism in (0, 8):
            with pytest.raises(ValueError, match="must be ≥") as raised:
                dispatcher.resize(parallelism)
            messages.append(str(raised.value))

    run = Run(parallelism=2, max_open_items=7)
    results = RowRun(nodes=[node(call)], run=run, on_start=at((0.5, refused))).results_virtually(rows(10))
    assert messages == ["parallelism: must be ≥ 1, got 0", "max_open_items: must be ≥ parallelism (8), got 7"]
    assert [result.status for result in results] == ["completed"] * 10


async def test_fewer_slots_are_lent_again_only_when_the_surplus_is_back() -> None:
    """The limit is a promise; whoever waits gets a slot in turn, as soon as there is one."""
    slots = Slots(3)
    for _ in range(3):
        await slots.acquire()
    first, second = asyncio.create_task(slots.acquire()), asyncio.create_task(slots.acquire())
    await asyncio.sleep(0)
    slots.resize(1)
    slots.release()
    slots.release()
    await asyncio.sleep(0)
    assert (slots.free, first.done()) == (0, False)
    slots.release()
    await first
    assert not second.done()
    slots.resize(2)
    await second
    assert (slots.free, [*slots.waiters]) == (0, [])


async def test_a_slot_given_back_just_after_a_waiter_was_cancelled_goes_to_the_next() -> None:
    """The cancelled one leaves quietly, although it has left the line already."""
    slots = Slots(1)
    await slots.acquire()
    first, second = asyncio.create_task(slots.acquire()), asyncio.create_task(slots.acquire())
    await asyncio.sleep(0)
    first.cancel()
    slots.release()  # before the first one can notice
    await asyncio.wait([first, second])
    assert first.cancelled()
    assert not second.cancelled()
    assert (slots.free, [*slots.waiters]) == (0, [])
