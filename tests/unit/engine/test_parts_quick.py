"""Async functions that Python workflows call: those that wait and those that do not are the same to whoever looks at the result."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import batchrun
from batchrun.core.items import ItemResult
from batchrun.core.policies import Backoff, Retry
from batchrun.testing.rows import ListJournal
from batchrun.workflows.functions import node, workflow
from tests.unit.engine.flow_runs import ONCE, flow, given, names, ran, statuses

WAITS = pytest.mark.parametrize("seconds", [0, 1])


async def waited(seconds: float) -> None:
    if seconds:
        await anyio.sleep(seconds)


def told(result: ItemResult) -> list[tuple[Any, ...]]:
    """All of the node executions but their times."""
    return [(*each[:3], *each[5:]) for each in result.nodes]


def test_a_call_is_recorded_the_same_whether_it_waits_or_not() -> None:
    """Also in its place: calls are shown in the order in which they began, not in that in which they ended."""

    async def slept(n: int, seconds: float) -> int:
        await waited(seconds)
        return n

    def results(*seconds: float) -> list[ItemResult]:
        @node
        async def step(n: int) -> int:
            return await slept(n, seconds[n])

        @workflow
        async def run(n: int) -> list[int]:
            gathered = await batchrun.gather(step(0), step(1), step(2))
            return [*gathered, await step(2)]

        return ran(flow(run), journal=ListJournal())

    (at_once,), (slow,) = results(0, 0, 0), results(3, 0, 1)
    assert given(at_once) == given(slow) == [0, 1, 2, 2]
    assert told(at_once) == told(slow)


@WAITS
def test_a_call_that_fails_is_made_again_by_its_own_rules(seconds: float) -> None:
    """Its first call needs no run, the ones after it do; each is counted."""
    calls: list[int] = []

    @node(retry=Retry(max_attempts=3, backoff=Backoff(initial_seconds=1, max_seconds=1)))
    async def moody(n: int) -> int:
        await waited(seconds)
        calls.append(n)
        if len(calls) < 3:
            raise ConnectionError("not now")
        return len(calls)

    @workflow
    async def run(n: int) -> int:
        return await moody(n)

    (result,) = ran(flow(run, retry=ONCE))
    assert given(result) == 3 == len(calls)
    assert statuses(result) == [(-1, "completed", 3), (0, "completed", 1)]


@WAITS
def test_what_it_raises_reaches_the_workflow(seconds: float) -> None:
    """A workflow may catch what a call of its own raises, and go on."""

    @node(retry=ONCE)
    async def broken(n: int) -> int:
        await waited(seconds)
        raise LookupError("nothing there")

    @workflow
    async def run(n: int) -> str:
        try:
            return str(await broken(n))
        except LookupError as error:
            return str(error)

    (result,) = ran(flow(run))
    assert given(result) == "nothing there"
    assert statuses(result) == [(-1, "failed", 1), (0, "completed", 1)]


def test_a_call_that_waits_has_its_deadline_and_leaves_the_next_one_alone() -> None:
    """One that is late fails with it; the scope that ended it ends nothing else."""

    @node(retry=ONCE, timeout_seconds=5)
    async def slow(n: int) -> int:
        await anyio.sleep(100 if n == 1 else 1)
        return n

    @workflow
    async def run(n: int) -> int:
        with anyio.move_on_after(50) as scope:
            await slow(n)
        await slow(0)
        return int(scope.cancelled_caught)

    results = ran(flow(run), count=3)
    assert names(results) == ["completed", "failed", "completed"]
    assert results[1].error is not None and (results[1].error.type, results[1].error.node_id) == ("Timeout", "flow.slow")
    assert [result.duration_ms for result in results] == [pytest.approx(2_000), pytest.approx(5_000), pytest.approx(2_000)]


@WAITS
def test_a_function_may_change_its_arguments(seconds: float) -> None:
    """What it was called with is what the workflow gave it: an item that is tried again calls it with the same."""
    calls: list[int] = []

    @node(retry=ONCE)
    async def grows(values: list[int]) -> int:
        values.append(1)
        await waited(seconds)
        return len(values)

    @workflow
    async def run(n: int) -> int:
        length = await grows([n])
        calls.append(n)
        if len(calls) == 1:
            raise ConnectionError("not now")
        return length

    (result,) = ran(flow(run), journal=ListJournal())
    assert given(result) == 2 and len(calls) == 2
