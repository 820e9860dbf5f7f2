"""Calls of many items that are made as one: how they are put together, and what the items have of it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anyio
import pytest

from batchrun.core.executions import Stop
from batchrun.core.job import Run, Workflow
from batchrun.core.policies import Backoff, Budget, Retry
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.engine.batches import BatchSizes
from batchrun.engine.engine import Engine
from batchrun.flow.budget import Spending
from batchrun.testing.rows import ListJournal, RowRun
from tests.unit.engine.batch_functions import Function, N, batched, rows, statuses, tens, tens_after, timed
from tests.unit.engine.small_nodes import node, outputs


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("parallelism", [1, 3])
async def test_items_share_calls_and_each_gets_its_own_output(is_async: bool, parallelism: int) -> None:
    """The whole point: few calls, full ones, also with less parallelism than a batch has items, and nobody's output is mixed up."""
    function, engines = Function(), list[Engine]()
    nodes = [batched(function.waiting if is_async else function.plain)]
    row_run = RowRun(nodes=nodes, run=Run(parallelism=parallelism), window=50, on_open=engines.append)
    assert outputs(await row_run.results(rows(100))) == [n * 10 for n in range(100)]
    assert sorted(n for call in function.calls for n in call) == list(range(100))
    assert sorted(function.sizes) == [4, *[8] * 12]
    assert engines[0].batches.sizes == {"many": BatchSizes(calls=13, items=100)}


def test_each_item_is_recorded_as_if_it_had_been_called_alone() -> None:
    """The result shows the item's own input and output, and how long the call took that it was in."""
    results = RowRun(nodes=[batched(Function(tens_after(3)).waiting)]).results_virtually(rows(4))
    assert [result.nodes[0][1:3] for result in results] == [("completed", 1)] * 4
    assert [result.nodes[0][5:7] for result in results] == [(b'{"n":%d}' % n, b"%d" % (n * 10)) for n in range(4)]
    assert [result.nodes[0][4] for result in results] == [pytest.approx(3_000)] * 4


@pytest.mark.parametrize("fails", [False, True])
def test_the_duration_is_that_of_the_call_whatever_the_item_waits_for_afterwards(fails: bool) -> None:
    """Items that wait for their slot when the call has ended do not make the node look slow."""

    async def body(ns: list[int]) -> list[int]:
        await anyio.sleep(3)
        if fails:
            raise TypeError(ns)
        return ns

    async def slow(n: int) -> int:
        await anyio.sleep(100)
        return n

    many = batched(Function(body).waiting, on_failure="continue", isolate=False)
    nodes = [many, node("slow", slow, inputs=N, needs=("many",))]
    results = RowRun(nodes=nodes, run=Run(parallelism=1, item_timeout_seconds=None)).results_virtually(rows(8))
    assert [result.nodes[0][4] for result in results] == [pytest.approx(3_000)] * 8


@pytest.mark.parametrize(("max_wait_ms", "calls"), [(2_500, [[0, 1, 2], [3, 4, 5], [6]]), (0, [[n] for n in range(7)])])
def test_nobody_waits_for_others_longer_than_max_wait_ms(max_wait_ms: float, calls: list[list[int]]) -> None:
    """A slow stream of items is called in small batches rather than late."""
    function = Function()

    async def arrive(n: int) -> int:
        await anyio.sleep(n)
        return n

    nodes = [node("arrive", arrive, inputs=N), batched(function.waiting, 100, max_wait_ms=max_wait_ms, needs=("arrive",))]
    RowRun(nodes=nodes).results_virtually(rows(7))
    assert function.calls == calls


@pytest.mark.parametrize("open_items", [10, 3])
def test_nobody_waits_when_nothing_else_can_run(open_items: int) -> None:
    """The last items of a dataset, or all that may be held at once, wait for no others: none can come."""
    function = Function()
    run = Run(parallelism=min(open_items, 3), max_open_items=open_items)
    seconds, results = timed(RowRun(nodes=[batched(function.waiting, 64)], run=run, window=4), rows(10))
    assert (seconds, statuses(results)) == (0, ["completed"] * 10)
    assert function.sizes == ([10] if open_items == 10 else [3, 3, 3, 1])


def test_the_last_items_do_not_wait_for_a_call_of_the_same_node() -> None:
    """Its items cannot join any more: with no others to come, the rest is called beside it."""
    function = Function(tens_after(10))
    seconds, _ = timed(RowRun(nodes=[batched(function.waiting)], run=Run(parallelism=2, max_open_items=100)), rows(12))
    assert (seconds, function.sizes) == (10, [8, 4])


def test_batches_are_full_again_after_a_disturbance() -> None:
    """While a call makes room for other items, those that wait do not go in a smaller batch: else all later ones were as small."""

    async def body(ns: list[int]) -> list[int]:
        await anyio.sleep(1 + max(ns) % 3)
        if 2 in ns:
            raise TypeError(ns)
        return ns

    function = Function(body)
    run = Run(parallelism=4, max_open_items=24)
    results = RowRun(nodes=[batched(function.waiting)], run=run).results_virtually(rows(400))
    assert statuses(results).count("failed") == 1
    assert set(function.sizes[20:-1]) == {8}


def test_nobody_waits_for_items_that_back_off() -> None:
    """A backoff may be long, and whether the item comes to the node at all is not known."""
    function, tried = Function(), list[int]()

    async def first(n: int) -> int:
        tried.append(n)
        if n == 0 and tried.count(0) == 1:
            raise ConnectionError("not now")
        return n

    retry = Retry(backoff=Backoff(initial_seconds=1_000, max_seconds=1_000))
    nodes = [node("first", first, inputs=N, retry=retry), batched(function.waiting, 64, needs=("first",))]
    RowRun(nodes=nodes, run=Run(item_timeout_seconds=None)).results_virtually(rows(5))
    assert function.calls == [[1, 2, 3, 4], [0]]


def test_items_wait_for_those_that_are_on_their_way() -> None:
    """A batch does not start half empty because others are still in a call of an earlier node."""
    first, second = Function(tens_after(5)), Function()
    nodes = [batched(first.waiting, 4, id="first"), batched(second.waiting, 8, inputs={"n": "{{ nodes.first.output }}"})]
    seconds, results = timed(RowRun(nodes=nodes, run=Run(parallelism=1)), rows(16))
    assert (seconds, second.sizes) == (20, [8, 8])
    assert outputs(results) == [n * 100 for n in range(16)]


def test_items_that_wait_in_a_batch_leave_their_place_to_others() -> None:
    """A node before the batch goes on with other items: the batch fills up although only one item is worked on at a time."""
    function, active, most = Function(), list[int](), list[int]()

    async def first(n: int) -> int:
        active.append(n)
        most.append(len(active))
        await anyio.sleep(1)
        active.remove(n)
        return n

    nodes = [node("first", first, inputs=N), batched(function.waiting, 20, needs=("first",))]
    RowRun(nodes=nodes, run=Run(parallelism=1)).results_virtually(rows(40))
    assert (function.sizes, max(most)) == ([20, 20], 1)


def test_nodes_of_an_item_that_run_together_leave_their_place_while_all_of_them_wait() -> None:
    """Two batched nodes over the same items both get full batches; a third one that works keeps the place."""
    one, two, active, most = Function(), Function(), list[int](), list[int]()

    async def third(n: int) -> int:
        active.append(n)
        most.append(len(active))
        await anyio.sleep(1)
        active.remove(n)
        return n

    nodes = [batched(one.waiting, 5, id="one"), batched(two.waiting, 10, id="two"), node("third", third, inputs=N)]
    workflow = Workflow(nodes=tuple(nodes), output="{{ nodes.two.output + nodes.one.output * 1000 + nodes.third.output }}")
    results = RowRun(workflow=workflow, run=Run(parallelism=2)).results_virtually(rows(20))
    assert (one.sizes, two.sizes, max(most)) == ([5] * 4, [10] * 2, 2)
    assert outputs(results) == [n * 10_011 for n in range(20)]


@pytest.mark.parametrize(("parallelism", "held"), [(1, 16), (10, 40)])
def test_enough_items_are_held_to_fill_a_batch_while_another_is_called(parallelism: int, held: int) -> None:
    """Without it, a batch larger than the parallelism would never be full."""
    dispatchers, seen = list[Dispatcher[Any]](), list[int]()

    async def body(ns: list[int]) -> list[int]:
        await anyio.sleep(1)
        seen.append(dispatchers[0].open_items)
        return ns

    run = Run(parallelism=parallelism)
    RowRun(nodes=[batched(Function(body).waiting)], run=run, on_start=dispatchers.append).results_virtually(rows(200))
    assert max(seen) == held


@pytest.mark.parametrize("resized_to", [None, 3])
def test_there_are_at_most_parallelism_calls_at_once(resized_to: int | None) -> None:
    """The limit holds for calls of many items as for others, and follows it when it is tuned."""
    function = Function(tens_after(10))

    def on_start(dispatcher: Dispatcher[Any]) -> None:
        if resized_to is not None:
            asyncio.get_running_loop().call_later(5, dispatcher.resize, resized_to)

    run = Run(parallelism=2, max_open_items=100)
    seconds, _ = timed(RowRun(nodes=[batched(function.waiting)], run=run, on_start=on_start), rows(96))
    assert (function.most, seconds) == ((2, 60) if resized_to is None else (3, 45))


async def test_plain_functions_run_in_threads_of_their_own() -> None:
    """A function that blocks holds up neither the others nor the event loop."""
    both = threading.Barrier(2)
    threads: set[str] = set()

    def body(ns: list[int]) -> list[int]:
        threads.add(threading.current_thread().name)
        both.wait(20)
        return tens(ns)

    results = await RowRun(nodes=[batched(Function(body).plain, 5)], run=Run(parallelism=2)).results(rows(40))
    assert outputs(results) == [n * 10 for n in range(40)]
    assert len(threads) == 2 and threading.main_thread().name not in threads


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_batch_is_one_call_of_the_budget(is_async: bool) -> None:
    """What is paid is the call, and not one more is made than the budget allows."""
    function, spending, dispatchers = Function(), Spending(Budget(max_calls=3)), list[Dispatcher[Any]]()
    nodes = [batched(function.waiting if is_async else function.plain)]
    results = await RowRun(nodes=nodes, spending=spending, on_start=dispatchers.append).results(rows(100))
    assert (function.sizes, spending.spent.calls) == ([8] * 3, 3)
    assert dispatchers[0].stop_cause == Stop("budget", "the budget of 3 calls is used up: to go on, raise run.budget.max_calls and resume")
    assert sorted(statuses(results)) == ["cancelled"] * 76 + ["completed"] * 24


async def test_outputs_of_a_batch_are_kept_for_items_that_go_on() -> None:
    """A crash after the batch does not cost it: each item has its own output in the journal, and the node does not run again."""
    journal, function = ListJournal(), Function()

    async def last(n: int) -> int:
        raise ConnectionError(n)

    def nodes(call: Any) -> list[Any]:
        return [batched(function.plain), node("last", call, inputs={"n": "{{ nodes.many.output }}"}, retry=Retry(max_attempts=2))]

    await RowRun(nodes=nodes(last), journal=journal).results(rows(8))
    kept = {entry.ordinal: entry.output for entry in journal.entries if entry.node_id == "many" and entry.output is not None}
    assert kept == {n: b"%d" % (n * 10) for n in range(8)}
    results = await RowRun(nodes=nodes(lambda n: n + 1), restored=journal.restored()).results(rows(8))
    assert (outputs(results), len(function.calls)) == ([n * 10 + 1 for n in range(8)], 1)


@pytest.mark.parametrize("grace_seconds", [1.0, 100.0])
def test_a_stop_sends_what_waits_and_cuts_off_what_takes_too_long(grace_seconds: float) -> None:
    """Items that have begun may end in the grace period, in a smaller batch; after it each of them has a row all the same."""
    function = Function(tens_after(10))

    async def slow(n: int) -> int:
        await anyio.sleep(n)
        return n

    def on_start(dispatcher: Dispatcher[Any]) -> None:
        asyncio.get_running_loop().call_later(2.5, dispatcher.stop, Stop("user", "enough"))

    nodes = [node("slow", slow, inputs=N), batched(function.waiting, 64, needs=("slow",))]
    run = Run(parallelism=4, grace_seconds=grace_seconds)
    seconds, results = timed(RowRun(nodes=nodes, run=run, on_start=on_start), rows(100))
    if grace_seconds == 1:
        assert (seconds, function.sizes, set(statuses(results))) == (3.5, [], {"cancelled"})
    else:
        assert (seconds, function.calls) == (18, [list(range(7))])
        assert statuses(results) == ["completed"] * 7 + ["cancelled"] * 93


def test_a_stop_sends_what_waits_for_items_that_do_not_come_any_more() -> None:
    """They would wait for the call that is being made to make room for others, and the grace period would pass."""
    function = Function(tens_after(10))

    def on_start(dispatcher: Dispatcher[Any]) -> None:
        asyncio.get_running_loop().call_later(2, dispatcher.stop, Stop("user", "enough"))

    run = Run(parallelism=2, max_open_items=12, grace_seconds=11)
    seconds, results = timed(RowRun(nodes=[batched(function.waiting)], run=run, on_start=on_start), rows(40))
    assert (seconds, function.sizes) == (12, [8, 4])
    assert statuses(results) == ["completed"] * 12 + ["cancelled"] * 28


async def test_a_hung_function_is_left_behind_when_the_grace_period_is_over() -> None:
    """Its thread cannot be ended; the execution ends without it and says so."""
    forever, engines = threading.Event(), list[Engine]()
    loop, dispatchers = asyncio.get_running_loop(), list[Dispatcher[Any]]()

    def body(_ns: list[int]) -> None:
        loop.call_soon_threadsafe(dispatchers[0].stop, Stop("user", "enough"))
        forever.wait(60)

    row_run = RowRun(
        nodes=[batched(Function(body).plain)], run=Run(grace_seconds=0.05), on_start=dispatchers.append, on_open=engines.append
    )
    try:
        results = await row_run.results(rows(8))
        assert (set(statuses(results)), engines[0].abandoned_count) == ({"cancelled"}, 1)
    finally:
        forever.set()
