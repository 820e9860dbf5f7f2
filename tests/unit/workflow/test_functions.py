"""Functions that are nodes, and functions that are workflows."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

import batchrun
from batchrun.core.errors import InvalidValue
from batchrun.core.policies import Retry
from batchrun.workflows.functions import node, workflow
from tests.unit.engine.flow_runs import flow, given, names, ran


@node
def double(n: int) -> int:
    return 2 * n


def test_outside_of_a_workflow_they_are_the_functions() -> None:
    """Tests and notebooks call them as they are."""

    @workflow
    async def run(n: int) -> list[int]:
        return await batchrun.gather(asyncio.sleep(0, double(n)), asyncio.sleep(0, 1))

    assert double(2) == 4
    assert anyio.run(run, 2) == [4, 1]
    assert (double.__name__, double.name) == ("double", "double")


def test_options_are_checked_where_they_are_written() -> None:
    """With the names there are."""
    with pytest.raises(InvalidValue, match="there is no option 'retries'"):
        node(retries=3)
    with pytest.raises(InvalidValue, match="retry: "):
        double.with_options(retry={"attempts": 3})
    with pytest.raises(InvalidValue, match="takes arguments by their names"):

        @node
        def wrong(*numbers: int) -> int:
            return sum(numbers)


def test_retry_rules_may_be_written_as_in_a_job_file() -> None:
    """Lists become what the options of a job have in their place."""
    rules = [{"match": {"http_status": [429]}, "action": "throttle"}]
    retry = double.with_options(retry={"max_attempts": 2, "backoff": {"initial_seconds": 1}, "rules": rules}).options.retry
    assert isinstance(retry, Retry)
    assert retry.rules[0].match.http_status == (429,)
    assert hash(retry) == hash(retry)


def test_a_function_with_equal_options_is_the_same() -> None:
    """`with_options` may be written where the function is called: for each call, nothing must be made anew."""
    assert double.with_options(timeout_seconds=1) == double.with_options(timeout_seconds=1)
    assert double.with_options(timeout_seconds=1) != double
    assert hash(double.with_options(timeout_seconds=1)) == hash(double)
    engines: list[Any] = []

    @workflow
    async def run(n: int) -> Any:
        return await double.with_options(timeout_seconds=60)(n)

    results = ran(flow(run), count=50, on_open=engines.append)
    assert [given(result) for result in results] == [2 * n for n in range(50)]
    assert len(engines[0].plan.steps) == 1


def test_a_limit_of_a_gather_must_be_a_number_of_calls() -> None:
    """In and outside of a workflow."""

    @workflow
    async def run(n: int) -> Any:
        return await batchrun.gather(double(n), limit=n - 1)  # type: ignore[arg-type]

    results = ran(flow(run), count=3)
    assert names(results) == ["failed", "failed", "completed"]
    assert results[1].error is not None and results[1].error.message == "limit must be ≥ 1, got 0"


def test_a_gather_of_nothing_gives_nothing() -> None:
    """As lists of a row may be empty."""

    @workflow
    async def run(n: int) -> Any:
        return [await batchrun.gather(), await double(n)]

    assert [given(result) for result in ran(flow(run), count=2)] == [[[], 0], [[], 2]]


def test_arguments_are_taken_as_the_function_takes_them() -> None:
    """By position or by name; what is wrong is said as Python says it."""

    @node
    def pair(a: int, b: int = 5) -> list[int]:
        return [a, b]

    @workflow
    def run(n: int) -> Any:
        return [pair(n), pair(n, 1), pair(b=2, a=n)]

    @workflow
    def wrong(n: int) -> Any:
        return pair(n, 2, 3)  # type: ignore[call-arg]

    assert given(ran(flow(run))[0]) == [[0, 5], [0, 1], [0, 2]]
    (failed,) = ran(flow(wrong))
    assert failed.error is not None and failed.error.type == "TypeError"


def test_a_call_that_was_not_awaited_is_named() -> None:
    """Else a coroutine would be an argument."""

    @workflow
    async def run(n: int) -> Any:
        return await double(double(n))

    (failed,) = ran(flow(run))
    assert failed.error is not None
    assert failed.error.message == "argument 'n' of double is a call that was not awaited: write await before it"
