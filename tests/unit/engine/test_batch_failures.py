"""Calls of many items that fail: who is tried again, who is to blame, and who is left alone."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from batchrun.core.errors import HttpStatusError
from batchrun.core.executions import Stop
from batchrun.core.job import Run
from batchrun.core.policies import Backoff, Budget, Match, Retry, RetryRule
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.engine.engine import Engine
from batchrun.flow.budget import Spending
from batchrun.testing.rows import RowRun
from tests.unit.engine.batch_functions import Function, N, batched, errors, rows, statuses, tens, tens_after, timed
from tests.unit.engine.small_nodes import SOON, node, outputs

ONCE = Retry(max_attempts=1)


def refusing(error: Callable[[str], BaseException], *bad: int) -> Callable[[list[int]], list[int]]:
    """A function that fails when one of these items is among those of the call."""

    def body(ns: list[int]) -> list[int]:
        if set(ns) & set(bad):
            raise error(f"bad: {sorted(set(ns) & set(bad))}")
        return tens(ns)

    return body


def failing(times: int, error: Callable[[], BaseException]) -> Function:
    """A function whose first calls fail."""

    def body(ns: list[int]) -> list[int]:
        if len(function.calls) <= times:
            raise error()
        return tens(ns)

    function = Function(body)
    return function


@pytest.mark.parametrize("is_async", [False, True])
async def test_one_bad_item_fails_alone(is_async: bool) -> None:
    """Of a thousand good items none may suffer for the bad one that was in its call, and finding it takes few calls."""
    function = Function(refusing(TypeError, 37))
    results = await RowRun(nodes=[batched(function.waiting if is_async else function.plain, 64)]).results(rows(64))
    assert errors(results) == [None] * 37 + ["TypeError: bad: [37]"] + [None] * 26
    assert outputs(results) == [None if n == 37 else n * 10 for n in range(64)]
    assert {result.attempts for result in results} == {1}
    assert {result.nodes[0][2] for result in results} == {1}
    assert len(function.calls) == 1 + 2 * 6


def test_several_bad_items_fail_each_with_its_own_error() -> None:
    """Whatever a call says of others, an item's error is one that it made by itself."""
    bad = {0, 1, 9, 15}
    results = RowRun(nodes=[batched(Function(refusing(TypeError, *bad)).waiting, 16)]).results_virtually(rows(16))
    assert errors(results) == [f"TypeError: bad: [{n}]" if n in bad else None for n in range(16)]


def test_without_isolation_all_items_of_a_call_share_its_failure() -> None:
    """An author whose calls are dear, or stand or fall together, can say so."""
    function = Function(refusing(TypeError, 3))
    results = RowRun(nodes=[batched(function.waiting, isolate=False)]).results_virtually(rows(16))
    assert errors(results) == ["TypeError: bad: [3]"] * 8 + [None] * 8
    assert len(function.calls) == 2


def test_a_failure_that_may_pass_sends_all_items_back_together() -> None:
    """They share the call, and so the backoff: the batch does not fall to pieces when it is tried again."""
    function = failing(2, ConnectionError)
    retry = Retry(max_attempts=3, backoff=Backoff(initial_seconds=50, max_seconds=50))
    seconds, results = timed(RowRun(nodes=[batched(function.waiting, max_wait_ms=20, retry=retry)], run=Run(parallelism=1)), rows(8))
    assert list(map(sorted, function.calls)) == [list(range(8))] * 3
    assert (statuses(results), 0 < seconds < 100) == (["completed"] * 8, True)
    assert {result.attempts for result in results} == {3}
    assert {result.nodes[0][2] for result in results} == {3}


def test_an_item_that_always_fails_is_found_in_the_last_attempt() -> None:
    """An error that might pass is tried again for all; when it does not pass, only the item that causes it fails."""
    function = Function(refusing(ValueError, 5))
    results = RowRun(nodes=[batched(function.waiting, retry=SOON)]).results_virtually(rows(8))
    assert errors(results) == [None] * 5 + ["ValueError: bad: [5]"] + [None] * 2
    assert [result.nodes[0][2] for result in results] == [3] * 8
    assert function.sizes[:3] == [8, 8, 8] and len(function.calls) == 3 + 2 * 3


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_throttled_call_costs_neither_attempts_nor_budget(is_async: bool) -> None:
    """However many items are in it, it is one call, given back once, and tried again as one; nothing is halved at a busy service."""
    function = failing(4, lambda: HttpStatusError("busy", 429, retry_after_seconds=0.001))
    spending = Spending(Budget(max_calls=1))
    nodes = [batched(function.waiting if is_async else function.plain, 64, retry=SOON)]
    results = await RowRun(nodes=nodes, spending=spending).results(rows(64))
    assert ({(result.status, result.attempts) for result in results}, spending.spent.calls) == ({("completed", 1)}, 1)
    assert function.sizes == [64] * 5


@pytest.mark.parametrize(("retry_after_seconds", "calls"), [(40, 2), (100, 1)])
def test_a_service_that_throttles_for_too_long_is_not_asked_for_each_item(retry_after_seconds: float, calls: int) -> None:
    """Narrowing down would send a busy service twice as many calls as there are items."""
    function = failing(100, lambda: HttpStatusError("busy", 429, retry_after_seconds=retry_after_seconds))
    run = Run(max_throttled_seconds=60, retry=Retry(backoff=Backoff(initial_seconds=0)))
    results = RowRun(nodes=[batched(function.waiting)], run=run).results_virtually(rows(8))
    assert (errors(results), len(function.calls)) == (["HttpStatusError: busy"] * 8, calls)


def test_a_stop_rule_stops_the_execution_and_fails_no_item() -> None:
    """A spent quota is met by all items of the call: none of them is done, and no half is tried again."""
    function = failing(100, lambda: HttpStatusError("no credit", 402))
    rules = (RetryRule(match=Match(http_status=(402,)), action="stop"),)
    dispatchers: list[Dispatcher[Any]] = []
    row_run = RowRun(nodes=[batched(function.waiting)], run=Run(retry=Retry(rules=rules)), on_start=dispatchers.append)
    results = row_run.results_virtually(rows(8))
    assert (set(statuses(results)), len(function.calls)) == ({"cancelled"}, 1)
    assert dispatchers[0].stop_cause == Stop("rule", "node many: HttpStatusError: no credit")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda ns: tens(ns)[1:], "the function of node many returned 0 outputs for 1 item; it must return a list with 1 output"),
        (lambda _ns: {"a": 1}, "the function of node many returned a dict, no list, for 1 item; it must return a list with 1 output"),
        (lambda _ns: "abcdefgh", "the function of node many returned a str, no list, for 1 item; it must return a list with 1 output"),
        (lambda _ns: None, "the function of node many returned a NoneType, no list, for 1 item; it must return a list with 1 output"),
    ],
)
def test_a_wrong_number_of_outputs_is_an_error_and_never_somebody_elses_output(body: Any, message: str) -> None:
    """With fewer or more outputs than items it cannot be known whose they are. It is not tried again: it is a mistake in the code."""
    results = RowRun(nodes=[batched(Function(body).waiting)]).results_virtually(rows(8))
    assert errors(results) == [f"InvalidValue: {message}"] * 8
    results = RowRun(nodes=[batched(Function(body).waiting, isolate=False)]).results_virtually(rows(8))
    assert all("for 8 items; it must return a list with 8 outputs, one for each item" in str(error) for error in errors(results))
    assert {result.attempts for result in results} == {1}


async def test_a_plain_function_that_returns_a_coroutine_is_told_what_to_do() -> None:
    """An `async` that was forgotten is the likeliest reason."""
    results = await RowRun(nodes=[batched(Function(tens_after(0)).plain)]).results(rows(1))
    (error,) = errors(results)
    assert error is not None and error.endswith("returned a coroutine for 1 item: make the function async, and await it there")


def test_a_bad_item_and_a_short_list_are_told_apart() -> None:
    """Too few outputs because of one item fail that item alone."""
    function = Function(lambda ns: [n * 10 for n in ns if n != 6])
    results = RowRun(nodes=[batched(function.waiting)]).results_virtually(rows(8))
    assert [result.status for result in results] == ["completed"] * 6 + ["failed", "completed"]


def test_a_call_that_takes_too_long_is_tried_again_and_its_cause_is_found() -> None:
    """`timeout_seconds` is that of the call. The item that makes it hang fails in the end, and no other."""

    async def body(ns: list[int]) -> list[int]:
        await anyio.sleep(1_000 if 2 in ns else 3)
        return tens(ns)

    function = Function(body)
    results = RowRun(nodes=[batched(function.waiting, timeout_seconds=5, retry=Retry(max_attempts=2))]).results_virtually(rows(8))
    assert errors(results) == [None, None, "Timeout: the call of 1 item ran longer than timeout_seconds: 5", *[None] * 5]
    assert function.sizes[:2] == [8, 8] and len(function.calls) == 2 + 2 * 3
    assert results[2].nodes[0][4] == pytest.approx(5_000)


async def test_a_plain_function_that_hangs_is_abandoned() -> None:
    """Its thread is left behind and the other items go on in others, with the same number of calls at once."""
    forever, engines = threading.Event(), list[Engine]()

    def body(ns: list[int]) -> list[int]:
        if 10 in ns:
            forever.wait(60)
        return tens(ns)

    nodes = [batched(Function(body).plain, 4, timeout_seconds=0.8, retry=ONCE)]
    try:
        results = await RowRun(nodes=nodes, run=Run(parallelism=1), on_open=engines.append).results(rows(40))
        assert engines[0].abandoned_count == 3
    finally:
        forever.set()
    assert [result.item.ordinal for result in results if result.status != "completed"] == [10]


async def test_too_many_hung_functions_pause_the_execution() -> None:
    """Threads that cannot be ended must not pile up without limit."""
    forever, dispatchers = threading.Event(), list[Dispatcher[Any]]()
    nodes = [batched(lambda n: forever.wait(60) and n, 2, timeout_seconds=0.02, retry=ONCE, isolate=False)]
    try:
        await RowRun(nodes=nodes, run=Run(parallelism=4, grace_seconds=0.1), on_start=dispatchers.append).results(rows(200))
    finally:
        forever.set()
    cause = dispatchers[0].stop_cause
    assert cause is not None
    assert (cause.reason, cause.message) == ("stuck", "9 calls hang, the last one in node many; their threads cannot be ended")


def waiting_items(item_timeout_seconds: float, call_seconds: float) -> tuple[Function, float, list[str | None]]:
    """Four items, of which the first has used 11 seconds when they are called together, and the others 3, 2 and 1."""
    function = Function(tens_after(call_seconds))

    async def first(n: int) -> int:
        await anyio.sleep(8 if n == 0 else 1)
        return n

    nodes = [node("first", first, inputs=N), batched(function.waiting, 4, needs=("first",))]
    run = Run(parallelism=1, item_timeout_seconds=item_timeout_seconds)
    seconds, results = timed(RowRun(nodes=nodes, run=run), rows(4))
    return function, seconds, errors(results)


def test_the_deadline_of_an_item_takes_it_out_of_a_call_that_goes_on_for_the_others() -> None:
    """An item that has used up its time elsewhere fails at its deadline; those it shares the call with get their outputs."""
    function, seconds, found = waiting_items(14, 5)
    assert (function.calls, seconds) == ([[0, 1, 2, 3]], 16)
    assert found == ["Timeout: the item ran longer than item_timeout_seconds: 14", None, None, None]


def test_the_deadline_of_an_item_takes_it_out_of_the_queue() -> None:
    """No call is made for an item that has failed, and nobody waits for it."""
    function, seconds, found = waiting_items(10, 5)
    assert (function.calls, seconds) == ([[1, 2, 3]], 16)
    assert found == ["Timeout: the item ran longer than item_timeout_seconds: 10", None, None, None]


def test_a_call_that_nobody_waits_for_any_more_is_cancelled() -> None:
    """When the time of all its items is up, the call must not go on for ever."""
    function, seconds, found = waiting_items(14, 1e6)
    assert (function.calls, seconds) == ([[0, 1, 2, 3]], 24)
    assert found == ["Timeout: the item ran longer than item_timeout_seconds: 14"] * 4


def test_the_time_of_an_item_stands_still_while_its_batch_waits_for_its_turn() -> None:
    """A backlog of slow calls fails no item: its time runs while others join, and while its own call runs."""
    function = Function(tens_after(8))
    run = Run(parallelism=1, max_open_items=100, item_timeout_seconds=10)
    seconds, results = timed(RowRun(nodes=[batched(function.waiting, 2, max_wait_ms=20)], run=run), rows(12))
    assert (statuses(results), seconds) == (["completed"] * 12, 48)


def test_an_item_that_is_cut_off_does_not_cut_off_the_call_of_the_others() -> None:
    """The failure of another node ends the item, and nothing else."""
    function = Function(tens_after(5))

    async def refused(n: int) -> int:
        await anyio.sleep(2)
        if n == 1:
            raise TypeError(n)
        return n

    nodes = [batched(function.waiting, 4), node("refused", refused, inputs=N)]
    results = RowRun(nodes=nodes, run=Run(parallelism=4)).results_virtually(rows(4))
    assert statuses(results) == ["completed", "failed", "completed", "completed"]
    assert function.calls == [[0, 1, 2, 3]]


def test_items_keep_what_they_use_up_apart() -> None:
    """Items that come to a failing call with different histories are each judged by their own."""
    tried = Counter[int]()

    def body(ns: list[int]) -> list[int]:
        tried.update(ns)
        if any(tried[n] < 3 for n in ns if n < 4):
            raise ConnectionError(ns)
        return tens(ns)

    function = Function(body)
    retry = Retry(max_attempts=3, backoff=Backoff(initial_seconds=1))
    results = RowRun(nodes=[batched(function.waiting, 4, max_wait_ms=500, retry=retry)], run=Run(parallelism=1)).results_virtually(rows(40))
    assert statuses(results) == ["completed"] * 40
    assert outputs(results) == [n * 10 for n in range(40)]


async def test_functions_that_share_a_call_with_a_grave_error_survive_it() -> None:
    """Whatever a function raises, also what ends programs elsewhere, is narrowed down like any other failure."""
    for error in (SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit):
        function = Function(refusing(error, 2))
        results = await RowRun(nodes=[batched(function.plain)]).results(rows(8))
        assert statuses(results) == ["completed"] * 2 + ["failed"] + ["completed"] * 5, error
    for odd in (SystemExit, GeneratorExit, asyncio.CancelledError):
        results = await RowRun(nodes=[batched(Function(refusing(odd, 2)).waiting)]).results(rows(8))
        assert statuses(results) == ["completed"] * 2 + ["failed"] + ["completed"] * 5, odd
