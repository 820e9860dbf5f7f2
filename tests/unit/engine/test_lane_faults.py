from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import anyio
import orjson
import pytest

from batchrun.core.job import DefaultOnFailure, Run
from batchrun.core.policies import Match, Retry, RetryRule
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.nodes.http import HttpNode, HttpRequest
from batchrun.testing.loopback import LoopbackServer, json_answer
from batchrun.testing.rows import RowRun
from tests.unit.engine.small_nodes import ONCE, SOON, node, outputs

N = {"n": "{{ item.n }}"}


def rows(count: int) -> list[dict[str, int]]:
    return [{"n": n} for n in range(count)]


async def test_calls_that_are_late_but_come_back_do_not_count_as_hung() -> None:
    """A slow service must not pause a long execution: only threads that still hang count towards its limit."""
    come_back = [threading.Event() for _ in range(14)]

    def slow(n: int) -> None:
        if n:
            come_back[n - 1].set()
        come_back[n].wait(60)

    dispatchers: list[Dispatcher[Any]] = []
    late = node("late", slow, inputs=N, timeout_seconds=0.03)
    run = Run(parallelism=1, retry=Retry(max_attempts=1))
    results = await RowRun(nodes=[late], run=run, on_start=dispatchers.append).results(rows(14))
    come_back[-1].set()
    assert {result.status for result in results} == {"failed"}
    assert dispatchers[0].stop_cause is None


async def test_an_abandoned_call_that_keeps_the_processor_busy_does_not_hold_back_lanes() -> None:
    """After one endless loop the other items still get as many lanes as `parallelism` says."""
    at_once, is_over = threading.Barrier(3), threading.Event()

    def call(n: int) -> None:
        while n == 0 and not is_over.is_set():
            pass
        if n:
            at_once.wait(60)

    try:
        results = await RowRun(
            nodes=[node("spins", call, inputs=N)], run=Run(parallelism=4, item_timeout_seconds=3, retry=Retry(max_attempts=1))
        ).results(rows(4))
    finally:
        is_over.set()
    assert [result.status for result in results] == ["failed", "completed", "completed", "completed"]


async def test_a_retry_goes_before_items_that_have_not_begun() -> None:
    """Retries run beside fresh items, never after them: thousands may be queued."""
    calls: list[int] = []
    loop = asyncio.get_running_loop()

    def call(n: int) -> int:
        calls.append(n)
        if n == 0 and calls.count(0) == 1:
            raise ConnectionError("again")
        if n % 100 == 99:  # so that the event loop gets to queue the retry before the lane has gone through all items
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(60)
        return n

    await RowRun(nodes=[node("call", call, inputs=N)], run=Run(parallelism=1, retry=SOON), window=1_900).results(rows(1_900))
    assert calls.count(0) == 2
    assert calls[-1] == 1_899


async def test_an_item_past_its_deadline_fails_even_where_nodes_may() -> None:
    """`on_failure` is about a node; an item that has run out of time does not go on with its next one."""
    forever, seen = threading.Event(), list[Any]()

    def note(n: Any) -> None:
        seen.append(n)

    nodes = [
        node("hangs", lambda n: forever.wait(), inputs=N, on_failure=DefaultOnFailure(default=1)),
        node("next", note, inputs={"n": "{{ nodes.hangs.output }}"}),
    ]
    try:
        results = await RowRun(nodes=nodes, run=Run(item_timeout_seconds=0.05)).results(rows(1))
    finally:
        forever.set()
    assert results[0].error is not None
    assert (results[0].status, results[0].error.type, seen) == ("failed", "Timeout", [])


async def test_a_node_never_runs_before_a_condition_that_is_tried_again() -> None:
    """A `when` whose failure is retried sends the item back: what comes after it must wait, too."""
    seen: list[Any] = []

    def note(n: Any) -> None:
        seen.append(n)

    rules = (RetryRule(match=Match(error_type="UndefinedReference"), action="retry"),)
    nodes = [
        node("value", lambda n: {"known": n}, inputs=N),
        node("asks", lambda n: n, inputs=N, when="{{ nodes.value.output.unknown }}"),
        node("after", note, inputs={"n": "{{ nodes.asks.output }}"}),
    ]
    retry = Retry(max_attempts=2, backoff=SOON.backoff, rules=rules)
    results = await RowRun(nodes=nodes, run=Run(retry=retry)).results(rows(1))
    assert (results[0].status, results[0].attempts, seen) == ("failed", 2, [])


async def test_records_hold_what_belongs_to_their_node() -> None:
    """Inputs and call keys of one node must not appear in the record of the next one."""
    with LoopbackServer({"/": json_answer({"a": 1})}) as server:
        post = HttpNode(id="post", request=HttpRequest(method="POST", url=f"{server.url}/"))
        nodes = [
            post,
            node("after", lambda n: {"b": n}, inputs={"n": "{{ nodes.post.output.a }}"}),
            node("breaks", lambda n: n, inputs={"n": "{{ nodes.after.output.c }}"}),
        ]
        results = await RowRun(nodes=nodes, run=ONCE).results(rows(1))
    sent, after, broken = results[0].nodes
    assert sent[8] is not None
    assert (orjson.loads(after[5] or b""), after[8]) == ({"n": 1}, None)
    assert (broken[1], broken[5], broken[8]) == ("failed", None, None)


@pytest.mark.parametrize("is_http", [False, True])
async def test_a_finished_item_is_freed_without_the_garbage_collector(is_http: bool) -> None:
    """The collector runs seldom while items run: one that is part of a cycle would stay for thousands of others."""
    kept: list[weakref.ref[Any]] = []

    class Value(dict[str, int]):
        """A dict that can be watched."""

    async def make(n: int) -> Value:
        value = Value(n=n)
        kept.append(weakref.ref(value))
        return value

    gc.collect()
    gc.disable()
    try:
        with LoopbackServer({"/": json_answer(1)}) as server:
            nodes: list[Any] = [node("make", make, inputs=N)]
            if is_http:
                nodes.append(HttpNode(id="get", request=HttpRequest(url=f"{server.url}/"), needs=("make",)))
            results = await RowRun(nodes=nodes).results(rows(5))
        assert len(outputs(results)) == 5
        await anyio.lowlevel.checkpoint()
        assert [value() for value in kept] == [None] * 5
    finally:
        gc.enable()


class EndingInTime(float):
    """A deadline: the call that is found to be past it ends at this moment, and its lane goes on before anything else is done."""

    ends = threading.Event()
    has_gone_on = threading.Event()

    def __lt__(self, seconds: float) -> bool:
        is_late = float(self) < seconds
        if is_late:
            self.ends.set()
            self.has_gone_on.wait(10)
        return is_late


def test_what_was_made_of_a_late_output_does_not_stay_when_the_call_is_made_again() -> None:
    """Else the row would show an output of one attempt, and beside it what another attempt led to."""
    calls, is_over = list[str](), threading.Event()

    def first(n: int) -> int:
        calls.append("first")
        if len(calls) == 1:
            EndingInTime.ends.wait(10)
        return n + calls.count("first")

    def third(x: int) -> int:
        calls.append("third")
        if calls.count("third") == 1:
            EndingInTime.has_gone_on.set()
            is_over.wait(10)
        return x

    nodes = [
        node("first", first, inputs=N, timeout_seconds=EndingInTime(0.05), retry=SOON),
        node("second", lambda x: 10 * x, inputs={"x": "{{ nodes.first.output }}"}),
        node("third", third, inputs={"x": "{{ nodes.second.output }}"}),
    ]
    try:
        (result,) = anyio.run(RowRun(nodes=nodes, run=Run(parallelism=1)).results, rows(1))
    finally:
        is_over.set()
    assert [(position, output) for position, _, _, _, _, _, output, *_ in result.nodes] == [(0, b"2"), (1, b"20"), (2, b"20")]
