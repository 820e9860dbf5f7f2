"""Deduplicated calls of each kind: in threads, over HTTP, in batches, beside the cache."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import anyio
import anyio.to_thread
import pytest

from batchrun.core.executions import Stop
from batchrun.core.job import Batch, Budget, NodeOptions, Resource, Run
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.flow.budget import Spending
from batchrun.nodes.http import HttpNode, HttpRequest
from batchrun.testing.loopback import Answer, LoopbackServer, Received, json_answer
from batchrun.testing.rows import RowRun
from batchrun.workflows.node import NodeCall, NodeCompiler
from batchrun.workflows.scope import Scope
from tests.unit.engine.cached_runs import Runs
from tests.unit.engine.small_nodes import ONCE, SOON, node, outputs

K = {"k": "{{ item.k }}"}


def rows(*keys: Any) -> list[dict[str, Any]]:
    return [{"k": k} for k in keys]


class Held:
    """A plain function whose calls return when they are let go."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.threads: set[int] = set()
        self.begun = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)

    def call(self, k: str) -> str:
        self.calls.append(k)
        self.begun.release()
        self.threads.add(threading.get_ident())
        assert self.gate.acquire(timeout=60)
        return k

    async def wait_for(self, count: int) -> None:
        """Return when so many more calls have begun."""
        for _ in range(count):
            assert await anyio.to_thread.run_sync(self.begun.acquire, True, 60)


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.gate.release(1_000)


async def test_plain_functions_run_in_threads_and_once(held: Held) -> None:
    """A function that blocks stops neither the event loop nor other items, and is called once for those that are alike."""
    followed: list[int] = []
    row_run = RowRun(nodes=[node("slow", held.call, inputs=K, dedupe=True)], run=Run(parallelism=3, max_open_items=50))

    async def let_go() -> None:
        await held.wait_for(2)
        followed.append(len(held.calls))
        held.gate.release(2)

    async with anyio.create_task_group() as group:
        group.start_soon(let_go)
        results = await row_run.results(rows(*"abaaaabbbb"))
    assert outputs(results) == list("abaaaabbbb")
    assert sorted(held.calls) == ["a", "b"]
    assert followed == [2]
    assert threading.get_ident() not in held.threads


async def test_errors_of_plain_functions_are_theirs() -> None:
    """What a function raises in its thread is the failure of its item, with its traceback."""

    def bad(k: str) -> int:
        return len(k) // 0

    results = await RowRun(nodes=[node("bad", bad, inputs=K, dedupe=True)], run=ONCE).results(rows("a", "a"))
    assert [(result.error.type, "len(k) // 0" in result.error.traceback) for result in results] == [("ZeroDivisionError", True)] * 2


async def test_a_plain_function_that_hangs_is_left_alone(held: Held) -> None:
    """Its item fails at its deadline, and the next one makes a call of its own."""
    run = replace(ONCE, parallelism=4)
    row_run = RowRun(nodes=[node("slow", held.call, inputs=K, dedupe=True, timeout_seconds=1.5)], run=run)

    async def let_go() -> None:
        await held.wait_for(2)
        held.gate.release(2)  # the first one nobody waits for any more

    async with anyio.create_task_group() as group:
        group.start_soon(let_go)
        first, second = await row_run.results(rows("a", "a"))
    assert (first.status, first.error.type) == ("failed", "Timeout")
    assert (second.status, second.output) == ("completed", "a")


async def test_too_many_that_hang_stop_the_execution(held: Held) -> None:
    """Threads cannot be ended, so they are not left behind without bound: the execution pauses and says why."""
    started: list[Dispatcher[Any]] = []
    run = replace(ONCE, parallelism=4, grace_seconds=0.0)
    nodes = [node("slow", held.call, inputs=K, dedupe=True, timeout_seconds=0.02)]
    results = await RowRun(nodes=nodes, run=run, on_start=started.append).results(rows(*range(40)))
    cause = started[0].stop_cause
    assert cause is not None and cause.reason == "stuck" and "calls hang, the last one in node slow" in cause.message
    assert {result.status for result in results} == {"failed", "cancelled"}
    assert len(held.calls) < 20


async def test_what_is_stopped_does_not_wait_for_functions(held: Held) -> None:
    """When the grace period is over the execution ends, whatever its functions do."""
    started: list[Dispatcher[Any]] = []
    row_run = RowRun(
        nodes=[node("slow", held.call, inputs=K, dedupe=True)], run=Run(parallelism=4, grace_seconds=0.01), on_start=started.append
    )

    async def stop() -> None:
        await held.wait_for(1)
        started[0].stop(Stop("user", "enough"))

    async with anyio.create_task_group() as group:
        group.start_soon(stop)
        results = await row_run.results(rows(*"aaa"))
    assert [result.status for result in results] == ["cancelled"] * 3
    assert held.calls == ["a"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LookingNode(NodeOptions):
    """Looks at its inputs when it is let go."""

    type: str = "looking"
    held: Held
    seen: SimpleQueue[Any]

    def bind(self, compiler: NodeCompiler) -> NodeCall:
        def look(scope: Scope) -> None:
            self.held.call("begun")
            self.seen.put(dict(scope.inputs))

        return NodeCall(call=look, key=lambda scope: scope.inputs)


async def test_a_function_in_a_thread_sees_the_item_it_was_called_for(held: Held) -> None:
    """A call that is left alone keeps its inputs, though its item has gone on to another node."""
    seen: SimpleQueue[Any] = SimpleQueue()
    nodes = [
        LookingNode(id="slow", held=held, seen=seen, inputs=K, dedupe=True, timeout_seconds=0.05, on_failure="continue"),
        node("after", lambda n: n, inputs={"n": 1}, needs=("slow",)),
    ]
    (result,) = await RowRun(nodes=nodes, run=ONCE).results(rows("a"))
    held.gate.release(1)
    assert (result.status, await anyio.to_thread.run_sync(seen.get, True, 60)) == ("completed", {"k": "a"})


@pytest.mark.parametrize("is_cached", [False, True])
def test_requests_that_are_alike_are_sent_once(tmp_path: Path, is_cached: bool) -> None:
    """The service sees one request for items that wait for the same answer, and each of them gets it."""
    with LoopbackServer(lambda received: json_answer({"path": received.path}, held=True)) as server:
        request = HttpRequest(path="/label", query={"k": "{{ item.k }}"})
        ask = HttpNode(id="ask", resource="api", request=request, dedupe=True, cache=is_cached)
        resources = {"api": Resource(base_url=server.url, max_concurrency=1)}
        row_run = RowRun(nodes=[ask], resources=resources, run=Run(parallelism=20))

        def let_go() -> None:
            for count in (1, 2):
                server.wait_until(lambda _, count=count: len(server.requests) == count and server.in_flight == 1)
                server.release()

        helper = threading.Thread(target=let_go)
        helper.start()
        results = Runs(home=tmp_path).results(row_run, rows(*"aabbaabb"))
        helper.join()
    assert [output["path"][-1] for output in outputs(results)] == list("aabbaabb")
    assert sorted(received.path for received in server.requests) == ["/label?k=a", "/label?k=b"]


async def test_time_in_a_queue_counts_for_nobody() -> None:
    """Items that wait for a request that waits for its turn have all their time when it is sent."""
    answered: list[str] = []

    def answer(received: Received) -> Answer:
        answered.append(received.path)
        return json_answer(received.path, held=len(answered) < 3)

    with LoopbackServer(answer) as server:
        ask = HttpNode(id="ask", resource="api", request=HttpRequest(path="/{{ item.k }}"), dedupe=True)
        resources = {"api": Resource(base_url=server.url, max_concurrency=2)}
        run = replace(ONCE, parallelism=8, item_timeout_seconds=1.5)
        results = await RowRun(nodes=[ask], resources=resources, run=run).results(rows("x", "y", "a", "a", "a"))
    assert [result.status for result in results] == ["failed", "failed", "completed", "completed", "completed"]
    assert len(server.requests) == 3


def test_a_batch_has_no_item_twice(tmp_path: Path) -> None:
    """Of items that are alike, one takes part in the call; a batch does not wait for those that wait for it."""
    calls: deque[list[str]] = deque()

    def many(k: list[str]) -> list[str]:
        calls.append(k)
        return [each.upper() for each in k]

    spending = Spending(Budget(max_calls=1))
    row_run = RowRun(
        nodes=[node("many", many, inputs=K, dedupe=True, cache=True, batch=Batch(max_items=100, max_wait_ms=600_000))],
        run=Run(parallelism=4, max_open_items=50),
        spending=spending,
    )
    runs = Runs(home=tmp_path)
    assert outputs(runs.results(row_run, rows(*"abcabcabca"))) == list("ABCABCABCA")
    assert [sorted(call) for call in calls] == [["a", "b", "c"]]
    assert outputs(runs.results(row_run, rows(*"abcabc"))) == list("ABCABC")
    assert len(calls) == 1


async def test_one_bad_item_of_a_batch_fails_alone() -> None:
    """The items of a batch are told apart, and those that wait for the bad one make calls of their own."""

    def many(k: list[int]) -> list[float]:
        return [1 / each for each in k]

    row_run = RowRun(
        nodes=[node("many", many, inputs=K, dedupe=True, batch=Batch(max_items=8, max_wait_ms=600_000), retry=SOON)],
        run=Run(parallelism=20),
    )
    results = await row_run.results(rows(0, 1, 2, 0, 1, 2))
    assert [(result.status, result.output) for result in results] == [("failed", None), ("completed", 1.0), ("completed", 0.5)] * 2


def test_time_is_up_while_a_batch_is_waited_for() -> None:
    """An item ends at its deadline also when it waits for another one that waits for a batch."""

    async def many(k: list[str]) -> list[str]:
        await anyio.sleep(50)
        return k

    run = replace(ONCE, parallelism=9, item_timeout_seconds=30.0)
    row_run = RowRun(nodes=[node("many", many, inputs=K, dedupe=True, batch=Batch(max_items=9, max_wait_ms=1_000))], run=run)
    results = row_run.results_virtually(rows("a", "a", "b"))
    assert [(result.status, result.error.type) for result in results] == [("failed", "Timeout")] * 3
    assert [result.error.message for result in results] == ["the item ran longer than item_timeout_seconds: 30"] * 3


def test_equal_items_leave_one_entry(tmp_path: Path) -> None:
    """With a cache, only the call that was made is handed over to it, and later items find what was given."""
    given: deque[bytes] = deque()
    kept: dict[bytes, bytes] = {}

    class Kept:
        def get(self, key: bytes) -> bytes | None:
            return kept.get(key)

        def put(self, key: bytes, output: bytes, node_id: str, fingerprint: str) -> None:
            given.append(output)
            kept[key] = output

    async def ask(k: str) -> str:
        await anyio.sleep(1)
        return k

    row_run = RowRun(nodes=[node("ask", ask, inputs=K, dedupe=True, cache=True)], run=Run(parallelism=3, max_open_items=3), cache=Kept())
    results = row_run.results_virtually(rows(*"aaaaaa"))
    assert list(given) == [b'"a"']
    assert [result.nodes[0][10] for result in results] == [False, False, False, True, True, True]
