from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Any, Literal

import anyio
import pytest

from batchrun.core.job import Run
from batchrun.core.policies import Match, Retry, RetryRule
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.testing.rows import RowRun
from tests.unit.engine.small_nodes import ONCE, SOON, node, outputs

ROWS = [{"n": n} for n in range(4)]
N = {"n": "{{ item.n }}"}


class OddError(Exception):
    """Everything anybody asks of it raises."""

    @property
    def http_status(self) -> int:
        raise RuntimeError("no status")

    def __str__(self) -> str:
        raise SystemExit(1)


class TrueStatusError(Exception):
    http_status = True


class OddValue:
    """Neither has a truth value nor can it be written down."""

    def __bool__(self) -> bool:
        raise SystemExit(2)

    def model_dump(self) -> Any:
        raise SystemExit(3)


@pytest.mark.parametrize("recording", ["full", "none"])
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("poison", [OddError, TrueStatusError, SystemExit, OddValue])
async def test_whatever_code_of_users_does_fails_its_item_alone(poison: type, is_async: bool, recording: Literal["full", "none"]) -> None:
    """No exception and no value can kill the run, end a thread, or keep another item from its end."""

    def call(n: int) -> Any:
        if n != 1:
            return n
        value = poison()
        if isinstance(value, BaseException):
            raise value
        return value

    async def call_async(n: int) -> Any:
        return call(n)

    odd = node("odd", call_async if is_async else call, inputs=N)
    with anyio.fail_after(60):
        results = await RowRun(nodes=[odd], run=Run(parallelism=1, retry=Retry(max_attempts=1)), recording=recording).results(ROWS)
    assert [result.status for result in results] == ["completed", "failed", "completed", "completed"]
    error = results[1].error
    assert error is not None
    assert (error.type, error.http_status) == ("SystemExit" if poison is OddValue else poison.__name__, None)


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_condition_that_raises_anything_fails_its_item_alone(is_async: bool) -> None:
    """Conditions ask values of users for their truth, which runs code of users."""

    async def pass_on(n: int) -> int:
        return n

    nodes = [
        node("value", lambda n: OddValue() if n == 1 else n + 1, inputs=N),
        node("asks", pass_on if is_async else lambda n: n, inputs=N, when="{{ nodes.value.output }}"),
    ]
    with anyio.fail_after(60):
        results = await RowRun(nodes=nodes, run=ONCE, recording="none").results(ROWS)
    assert [result.status for result in results] == ["completed", "failed", "completed", "completed"]


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_stop_rule_stops_the_run_wherever_the_call_was_made(is_async: bool) -> None:
    """Functions fail in threads, from where nothing of the event loop may be touched; and nothing begins after it."""
    calls: list[int] = []

    def call(n: int) -> int:
        calls.append(n)
        if n == 2:
            raise LookupError("quota")
        return n

    async def call_async(n: int) -> int:
        return call(n)

    rules = (RetryRule(match=Match(error_type="LookupError"), action="stop"),)
    dispatchers: list[Dispatcher[Any]] = []
    row_run = RowRun(
        nodes=[node("quota", call_async if is_async else call, inputs=N)],
        run=Run(parallelism=1, retry=Retry(rules=rules)),
        on_start=dispatchers.append,
    )
    with anyio.fail_after(60):
        results = await row_run.results([{"n": n} for n in range(50)])
    assert dispatchers[0].stop_cause is not None
    assert dispatchers[0].stop_cause.reason == "rule"
    assert Counter(result.status for result in results) == {"completed": 2, "cancelled": 48}
    assert calls == [0, 1, 2]
    assert (results[2].attempts, results[3].attempts, results[3].started_at) == (1, 0, None)


def test_a_call_that_swallows_its_cancellation_fails_at_its_deadline() -> None:
    """An `except` in a loop must not keep its item, and with it the run, for ever."""

    async def call(n: int) -> int:
        while n == 1:
            with suppress(asyncio.CancelledError):
                await anyio.sleep(3600)
        return n

    stubborn = node("stubborn", call, inputs=N, timeout_seconds=5)
    results = RowRun(nodes=[stubborn], run=Run(parallelism=1, retry=Retry(max_attempts=1))).results_virtually(ROWS)
    assert [result.status for result in results] == ["completed", "failed", "completed", "completed"]
    assert results[1].error is not None
    assert results[1].error.type == "Timeout"


def test_timeouts_that_a_call_sets_for_itself_are_its_own_business() -> None:
    """Only cancellations of the whole call count towards giving it up: a service may be polled hundreds of times."""

    async def call(n: int) -> int:
        for _ in range(500):
            with anyio.move_on_after(1):
                await anyio.sleep_forever()
        return n

    results = RowRun(nodes=[node("patient", call, inputs=N, timeout_seconds=3600)], run=ONCE).results_virtually(ROWS)
    assert outputs(results) == [0, 1, 2, 3]


def test_an_item_that_has_failed_does_not_wait_for_a_sibling_that_is_sent_back() -> None:
    """Of two nodes that wait together, one fails for good: no backoff of the other may put off or change that."""

    async def fails(n: int) -> None:
        raise TypeError("for good")

    async def again(n: int) -> None:
        await anyio.lowlevel.checkpoint()
        raise ConnectionError("not now")

    nodes = [node("fails", fails, inputs=N), node("again", again, inputs=N, retry=SOON)]
    results = RowRun(nodes=nodes).results_virtually(ROWS[:1])
    assert results[0].error is not None
    assert (results[0].status, results[0].error.type, results[0].attempts) == ("failed", "TypeError", 1)
