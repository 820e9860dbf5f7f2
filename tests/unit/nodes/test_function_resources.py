"""Functions that keep the limits of a resource, and functions that get secrets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import anyio
import pytest

import batchrun
from batchrun.core.errors import JobError
from batchrun.core.job import Batch, Resource, Run, Workflow
from batchrun.core.policies import Backoff, Breaker, Retry
from batchrun.nodes.python import PythonNode
from batchrun.testing.rows import RowRun
from batchrun.workflows.compiler import Surroundings, compile_workflow

RUN = Run(parallelism=8, retry=Retry(backoff=Backoff(initial_seconds=0.1, max_seconds=0.1)))
ROWS = [{"n": n} for n in range(12)]


class Busy:
    """Functions that note how many of them run at once, and when they were called on the event loop."""

    def __init__(self) -> None:
        self.at_once = self.most = 0
        self.times: list[float] = []
        self._lock = threading.Lock()

    async def waits(self, n: int) -> int:
        """An async function."""
        self.times.append(asyncio.get_running_loop().time())
        with self.counted():
            await anyio.sleep(1)
        return n

    def plain(self, n: int) -> int:
        """A function that blocks until two run at once, or nobody else comes."""
        with self.counted():
            threading.Event().wait(0.005)
        return n

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Counts who is in it."""
        with self._lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        yield
        with self._lock:
            self.at_once -= 1


def ran(call: Callable[..., Any], resource: Resource, rows: list[dict[str, int]] = ROWS, **options: Any) -> list[Any]:
    node = PythonNode(id="ask", call=call, inputs={"n": "{{ item.n }}"}, resource="api", **options)
    return RowRun(nodes=[node], run=RUN, resources={"api": resource}).results_virtually(rows)


@pytest.mark.parametrize("kind", ["waits", "plain", "process"])
def test_no_more_calls_run_at_once_than_the_resource_takes(kind: str) -> None:
    """Async functions, plain ones, and those in worker processes wait for their turn."""
    busy = Busy()
    if kind == "process":
        nodes = [PythonNode(id="ask", call=abs_of, inputs={"n": "{{ item.n }}"}, resource="api", placement="process", workers=2)]
        results = anyio.run(RowRun(nodes=nodes, run=RUN, resources={"api": Resource(max_concurrency=3)}).results, ROWS)
    else:
        results = ran(getattr(busy, kind), Resource(max_concurrency=3))
        assert busy.most == 3
    assert [result.output for result in results] == list(range(12))


def abs_of(n: int) -> int:
    """A function that worker processes can import."""
    return abs(n)


def test_calls_come_at_the_rate_of_the_resource() -> None:
    """Sixty a minute are one in a second, however short they are."""
    busy = Busy()
    ran(busy.waits, Resource(requests_per_minute=60), ROWS[:5])
    assert [round(later - earlier, 1) for earlier, later in pairwise(busy.times)] == [1.0] * 4


def test_time_in_the_queue_is_not_that_of_the_attempt() -> None:
    """Calls that wait for their turn for longer than their timeout are not late."""
    results = ran(Busy().waits, Resource(max_concurrency=1), timeout_seconds=2.0)
    assert {result.status for result in results} == {"completed"}


class BusyError(Exception):
    """What a client library of a service may raise."""

    http_status = 429
    retry_after_seconds = 30.0


@pytest.mark.parametrize("is_async", [True, False])
def test_a_service_that_asks_to_be_left_alone_is(is_async: bool) -> None:
    """An adaptive resource reads it from the exception, of plain functions, too: no other call is made meanwhile."""
    times: list[float] = []
    asked: list[int] = []

    def come(n: int) -> int:
        asked.append(n)
        if len(asked) == 1:
            raise BusyError("busy")
        return n

    async def come_async(n: int) -> int:
        times.append(asyncio.get_running_loop().time())
        return come(n)

    results = ran(come_async if is_async else come, Resource(max_concurrency=1, adaptive=True), ROWS[:3])
    assert [(result.status, result.attempts) for result in results] == [("completed", 1)] * 3
    assert len(asked) == 4
    if is_async:
        assert times[1] - times[0] >= 30


def test_a_service_that_is_out_of_order_is_parked() -> None:
    """After so many failures in a row, calls are parked, and one at a time tries it."""

    class BrokenError(Exception):
        http_status = 500

    calls: list[float] = []

    async def broken(n: int) -> int:
        calls.append(asyncio.get_running_loop().time())
        if len(calls) < 6:
            raise BrokenError("broken")
        return n

    resource = Resource(breaker=Breaker(failures=3, probe_initial_seconds=10, probe_max_seconds=10))
    results = RowRun(
        nodes=[PythonNode(id="ask", call=broken, inputs={"n": "{{ item.n }}"}, resource="api")],
        run=Run(parallelism=1, retry=Retry(max_attempts=9, backoff=Backoff(initial_seconds=0.1, max_seconds=0.1))),
        resources={"api": resource},
    ).results_virtually(ROWS[:2])
    assert [result.status for result in results] == ["completed", "completed"]
    pauses = [later - earlier for earlier, later in pairwise(calls)]
    assert sum(pause >= 9 for pause in pauses) == 3


def test_nodes_of_python_workflows_keep_the_limits_of_a_resource() -> None:
    """The limit holds over all items and all calls, and that of the workflow besides."""
    busy = Busy()
    called = batchrun.node(resource="api")(busy.waits)

    @batchrun.workflow
    async def flow(n: int) -> list[int]:
        return await batchrun.gather(*(called(n) for _ in range(3)))

    node = PythonNode(id="flow", call=flow, inputs={"n": "{{ item.n }}"}, resource="items")
    resources = {"api": Resource(max_concurrency=2), "items": Resource(max_concurrency=1)}
    results = RowRun(nodes=[node], run=RUN, resources=resources).results_virtually(ROWS[:3])
    assert [result.status for result in results] == ["completed"] * 3
    assert busy.most == 2


@batchrun.node
def look_up(n: int) -> int:
    return n


in_stock = look_up.with_options(resource="stok", name="in_stock")


@batchrun.workflow
async def ordered(n: int) -> list[int]:
    return await batchrun.gather(*(in_stock(each) for each in range(n)))


def test_resources_of_functions_that_a_workflow_names_are_known_before_the_first_item() -> None:
    """Also of those it names through another workflow, in an expression of its own, in a closure, or as a fallback."""
    spare = look_up.with_options(resource="spare")
    known = look_up.with_options(resource="stock", fallback=spare, name="known")

    @batchrun.workflow
    async def flow(n: int) -> list[int]:
        return [await known(n), *await ordered(n)]

    resources = {"stock": Resource(), "api": Resource()}
    assert problems(resources, call=flow, inputs={"n": "{{ item.n }}"}) == [
        'unknown resource "stok"; did you mean "stock"?',
        'unknown resource "spare"; resources: api, stock',
    ]
    resources |= {"stok": Resource(), "spare": Resource()}
    node = PythonNode(id="ask", call=flow, inputs={"n": "{{ item.n }}"})
    results = RowRun(nodes=[node], resources=resources).results_virtually(ROWS[:2])
    assert [result.status for result in results] == ["completed", "completed"]


def test_a_call_that_is_given_up_gives_its_turn_back() -> None:
    """One that hangs until its deadline does not keep a place for ever."""
    calls: list[int] = []

    async def hangs_once(n: int) -> int:
        calls.append(n)
        if len(calls) == 1:
            await anyio.sleep_forever()
        return n

    results = ran(hangs_once, Resource(max_concurrency=1), ROWS[:4], timeout_seconds=5.0)
    assert [result.status for result in results] == ["completed"] * 4


def problems(resources: Mapping[str, Resource], **options: Any) -> list[str]:
    node = PythonNode(id="ask", **options)
    with pytest.raises(JobError) as refused:
        compile_workflow(Workflow(nodes=(node,)), Surroundings(columns=("n",), resources=resources, secrets={"KEY": "secret-1"}))
    return [problem.message for problem in refused.value.problems]


def test_wrong_resources_and_secrets_are_refused_before_the_first_item() -> None:
    """Unknown names come with those that are known, and what cannot be is explained."""

    def takes(n: int) -> int:
        return n

    @batchrun.workflow
    def plain(n: int) -> int:
        return n

    known = {"api": Resource()}
    inputs = {"n": "{{ item.n }}"}
    assert problems(known, call=takes, inputs=inputs, resource="apu") == ['unknown resource "apu"; did you mean "api"?']
    (message,) = problems(known, call=plain, inputs=inputs, resource="api")
    assert "write async def" in message
    (message,) = problems(known, call=lambda n: n, inputs=inputs, resource="api", batch=Batch(max_items=2))
    assert "cannot be given with a resource" in message
    messages = problems(known, call=takes, inputs=inputs, secrets=("KEI",))
    assert any("unknown secret 'KEI'" in message for message in messages)
    assert any("has no parameter 'secrets'" in message for message in messages)


def test_functions_get_the_secrets_they_name() -> None:
    """As a node, as a node of a workflow, plain or async, by keyword; and records do not have them."""
    seen: list[Any] = []

    @batchrun.node(secrets=["KEY"])
    async def waits(n: int, secrets: dict[str, str]) -> int:
        seen.append(secrets)
        return n

    @batchrun.workflow(secrets=("OTHER",))
    async def flow(n: int, secrets: dict[str, str]) -> Any:
        seen.append(secrets)
        return await waits(n)  # type: ignore[call-arg] - it is batchrun that gives it

    @batchrun.workflow
    def plain_flow(n: int) -> Any:
        return batchrun.node(lambda n, secrets: seen.append(secrets)).with_options(name="plain", secrets=["KEY"])(n)

    nodes = [
        PythonNode(id="one", call=waits, inputs={"n": "{{ item.n }}"}),
        PythonNode(id="two", call=flow, inputs={"n": "{{ item.n }}"}),
        PythonNode(id="three", call=plain_flow, inputs={"n": "{{ item.n }}"}),
        PythonNode(id="four", call=lambda n, secrets: seen.append(secrets) or n, inputs={"n": "{{ item.n }}"}, secrets=("OTHER", "KEY")),
    ]
    (result,) = RowRun(nodes=nodes, secrets={"KEY": "secret-1", "OTHER": "secret-2"}).results_virtually(ROWS[:1])
    assert result.status == "completed", result.error
    by_key = sorted(seen, key=str)
    assert by_key == [{"KEY": "secret-1"}] * 3 + [{"OTHER": "secret-2", "KEY": "secret-1"}, {"OTHER": "secret-2"}]
    assert not any(b"secret-" in (each[5] or b"") for each in result.nodes)
