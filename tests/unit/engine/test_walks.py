"""Async nodes one after another: what does not wait costs a call, and what waits has its deadline, scopes and errors as ever."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import anyio
import pytest

from batchrun.core.items import ItemResult
from batchrun.core.job import Run
from batchrun.core.policies import Retry
from batchrun.testing.rows import ListJournal, RowRun
from tests.unit.engine.small_nodes import node, outputs

N = {"n": "{{ item.n }}"}
ONCE = Retry(max_attempts=1)
ROWS = [{"n": n} for n in range(6)]


def statuses(results: list[ItemResult]) -> list[str]:
    return [result.status for result in results]


def test_what_has_opened_a_scope_before_it_waits_can_leave_it() -> None:
    """A call that begins without a scope of its own may have entered others by the time it waits, in the same task."""

    async def nested(n: int) -> list[int]:
        with anyio.move_on_after(2) as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, n)
        async with asyncio.timeout(20):
            await anyio.sleep(1)
        return [n, int(scope.cancelled_caught)]

    rows = [{"n": n} for n in (0, 1, 3, 4)]
    results = RowRun(nodes=[node("nested", nested, inputs=N)], run=Run(parallelism=2)).results_virtually(rows)
    assert outputs(results) == [[0, 0], [1, 0], [3, 1], [4, 1]]


def test_a_late_call_ends_its_own_item_and_no_other() -> None:
    """Items share the scope of their worker: one that is used up must not reach into the next item."""

    async def waits(n: int) -> int:
        await anyio.sleep(100 if n % 2 else 1)
        return n

    results = RowRun(nodes=[node("waits", waits, inputs=N, timeout_seconds=5, retry=ONCE)], run=Run(parallelism=1)).results_virtually(ROWS)
    assert statuses(results) == ["completed", "failed"] * 3
    assert {result.error.type for result in results if result.error is not None} == {"Timeout"}
    assert [result.duration_ms for result in results] == [pytest.approx(1_000), pytest.approx(5_000)] * 3
    assert all(result.nodes[0][6] is None and result.error.traceback is None for result in results if result.error is not None)


def test_a_call_that_swallows_its_deadline_is_given_up() -> None:
    """One function that catches everything must not hold its worker for ever."""

    async def stubborn(n: int) -> int:
        while n == 1:
            with suppress(asyncio.CancelledError):
                await anyio.sleep(50)
        await anyio.sleep(1)
        return n

    results = RowRun(nodes=[node("stubborn", stubborn, inputs=N, timeout_seconds=5, retry=ONCE)], run=Run(parallelism=1)).results_virtually(
        ROWS
    )
    assert statuses(results) == ["completed", "failed", *["completed"] * 4]


def test_a_call_that_gives_its_output_in_spite_of_its_deadline_has_given_it() -> None:
    """Work that was done counts, though it was done late."""

    async def late(n: int) -> int:
        with suppress(asyncio.CancelledError):
            await anyio.sleep(50)
        return n

    results = RowRun(nodes=[node("late", late, inputs=N, timeout_seconds=5, retry=ONCE)], run=Run(parallelism=1)).results_virtually(ROWS)
    assert outputs(results) == list(range(6))


def test_the_deadline_counts_what_the_call_did_before_it_waited() -> None:
    """The clock of an attempt starts with the call, not with its first wait; and the time of the item is what is left of it."""

    async def first(n: int) -> int:
        await anyio.sleep(4)
        return n

    async def second(n: int) -> int:
        await anyio.sleep(4)
        return n

    run = Run(parallelism=3, item_timeout_seconds=7)
    nodes = [node("first", first, inputs=N), node("second", second, inputs={"n": "{{ nodes.first.output }}"})]
    results = RowRun(nodes=nodes, run=run).results_virtually(ROWS)
    assert statuses(results) == ["failed"] * 6
    assert [record[1] for record in results[0].nodes] == ["completed", "failed"]
    assert [result.duration_ms for result in results] == [pytest.approx(7_000)] * 6


@pytest.mark.parametrize("waits", [False, True])
def test_a_retried_node_goes_on_where_it_failed(waits: bool) -> None:
    """What ended before the failure is not called again, and the records count the attempts."""
    calls = {"first": 0, "second": 0}

    async def first(n: int) -> int:
        calls["first"] += 1
        if waits:
            await anyio.sleep(1)
        return n

    async def second(n: int) -> int:
        calls["second"] += 1
        if waits:
            await anyio.sleep(1)
        if calls["second"] == 1:
            raise ConnectionError(n)
        return n + 1

    nodes = [node("first", first, inputs=N), node("second", second, inputs={"n": "{{ nodes.first.output }}"}, retry=Retry(max_attempts=3))]
    (result,) = RowRun(nodes=nodes, journal=ListJournal()).results_virtually(ROWS[:1])
    assert (result.status, result.attempts, calls) == ("completed", 2, {"first": 1, "second": 2})
    assert [record[1:3] for record in result.nodes] == [("completed", 1), ("completed", 2)]


async def test_what_a_call_raises_without_waiting_is_the_failure_of_its_item() -> None:
    """Also a cancellation that nobody asked for."""

    async def raises(n: int) -> int:
        raise [asyncio.CancelledError, KeyError, StopIteration, ValueError, TypeError, OSError][n]

    results = await RowRun(nodes=[node("raises", raises, inputs=N)], run=Run(parallelism=2)).results(ROWS)
    errors = [result.error.type for result in results if result.error is not None]
    assert errors == ["CancelledError", "KeyError", "RuntimeError", "ValueError", "TypeError", "OSError"]


async def test_results_of_one_turn_are_handed_over_together_and_none_is_left() -> None:
    """Items that never wait all end in a turn or two; the last of them must arrive, too."""

    async def same(n: int) -> int:
        return n

    rows = [{"n": n} for n in range(1_000)]
    assert outputs(await RowRun(nodes=[node("same", same, inputs=N)], run=Run(parallelism=7)).results(rows)) == list(range(1_000))
