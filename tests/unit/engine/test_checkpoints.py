"""`batchrun.Context`: values that calls leave for the attempts after them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest

from batchrun import Context
from batchrun.core.errors import ExecutionError, HttpStatusError
from batchrun.core.items import KeptNode, Usage
from batchrun.core.policies import Budget, Retry
from batchrun.flow.budget import Spending
from batchrun.testing.rows import ListJournal, RowRun
from tests.unit.engine.small_nodes import ONCE, SOON, asking, node, outputs

N = {"n": "{{ item.n }}"}
ROWS = [{"n": 0}]


@pytest.fixture(params=[False, True], ids=["lane", "loop"])
def is_async(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def leave(context: Context, value: Any) -> None:
    await context.checkpoint(value)


@pytest.mark.parametrize("has_journal", [False, True])
async def test_the_next_attempt_finds_the_last_checkpoint(is_async: bool, has_journal: bool) -> None:
    """With or without a journal, remote work that was started is found again and not started twice."""
    seen: list[Any] = []
    journal = ListJournal() if has_journal else None

    def sync(n: int, context: Context) -> int:
        seen.append(context.last_checkpoint)
        if len(seen) < 3:
            context.checkpoint({"run": len(seen)})
            seen.append(context.last_checkpoint)
            raise HttpStatusError("busy", 429, retry_after_seconds=0.001)
        return n

    async def waiting(n: int, context: Context) -> int:
        seen.append(context.last_checkpoint)
        if len(seen) < 3:
            await context.checkpoint({"run": len(seen)})
            seen.append(context.last_checkpoint)
            raise HttpStatusError("busy", 429, retry_after_seconds=0.001)
        return n

    await RowRun(nodes=[node("asks", waiting if is_async else sync, inputs=N, retry=SOON)], journal=journal).results(ROWS)
    assert seen == [None, {"run": 1}, {"run": 1}]
    if journal is not None:
        assert [each._replace(code="") for each in journal.entries] == [KeptNode(0, 0, 1, "asks", checkpoint=b'{"run":1}')]


async def test_a_checkpoint_is_found_by_a_later_run(is_async: bool) -> None:
    """It survives the crash together with the attempts, also when another attempt was sent back meanwhile."""
    seen: list[Any] = []
    journal = ListJournal()

    def fails(n: int, context: Context) -> int:
        if context.attempt == 1:
            context.checkpoint("id-7")
        raise ConnectionError("not now")

    async def fails_async(n: int, context: Context) -> int:
        if context.attempt == 1:
            await context.checkpoint("id-7")
        raise ConnectionError("not now")

    nodes = [node("asks", fails_async if is_async else fails, inputs=N, retry=Retry(max_attempts=2, backoff=SOON.backoff))]
    await RowRun(nodes=nodes, journal=journal).results(ROWS)
    assert journal.entries[-1]._replace(code="") == KeptNode(0, 0, 2, "asks", node_attempts=1, checkpoint=b'"id-7"')
    later = asking(lambda _n, context: seen.append((context.last_checkpoint, context.attempt)), is_async=is_async)
    await RowRun(nodes=[later], restored=journal.restored()).results(ROWS)
    await RowRun(nodes=[later], restored=journal.restored(), stale=frozenset(["asks"])).results(ROWS)
    assert seen == [("id-7", 2), (None, 2)]


async def test_a_checkpoint_returns_only_once_it_is_safe(is_async: bool) -> None:
    """What a function does after it may rely on it, whatever thread the function runs in."""
    order: list[str] = []

    class SlowDisk(ListJournal):
        async def checkpoint(self, node: KeptNode) -> None:
            await anyio.sleep(0.01)
            order.append("safe")

    def sync(n: int, context: Context) -> None:
        context.checkpoint(n)
        order.append("goes on")

    async def waiting(n: int, context: Context) -> None:
        await context.checkpoint(n)
        order.append("goes on")

    await RowRun(nodes=[node("asks", waiting if is_async else sync, inputs=N)], journal=SlowDisk()).results(ROWS)
    assert order == ["safe", "goes on"]


async def test_a_plain_function_may_share_code_that_awaits_its_checkpoints() -> None:
    """The same name serves both: what a plain function gets can be awaited."""
    journal = ListJournal()

    def call(n: int, context: Context) -> int:
        anyio.run(leave, context, "x")
        return n

    results = await RowRun(nodes=[node("asks", call, inputs=N)], journal=journal).results(ROWS)
    assert (outputs(results), [entry.checkpoint for entry in journal.entries]) == ([0], [b'"x"'])


@pytest.mark.parametrize("value", [(1, 2), object(), {1: "a"}, float("nan"), "\ud800"])
async def test_a_checkpoint_that_json_changes_is_refused(is_async: bool, value: Any) -> None:
    """The next attempt finds exactly what was left, or the function is told at once."""

    def body(n: int, context: Context) -> None:
        context.checkpoint(value)

    (result,) = await RowRun(nodes=[asking(body, is_async=is_async)], journal=ListJournal()).results(ROWS)
    assert result.error is not None
    assert (result.error.type, result.attempts) == ("InvalidValue", 1)


async def test_a_checkpoint_that_cannot_be_written_fails_the_call(is_async: bool) -> None:
    """A function never goes on in the belief that its checkpoint is safe."""

    class Full(ListJournal):
        async def checkpoint(self, node: KeptNode) -> None:
            raise ExecutionError("the disk is full")

    def sync(n: int, context: Context) -> None:
        context.checkpoint(n)

    async def waiting(n: int, context: Context) -> None:
        await context.checkpoint(n)

    (result,) = await RowRun(nodes=[node("asks", waiting if is_async else sync, inputs=N)], run=ONCE, journal=Full()).results(ROWS)
    assert result.error is not None
    assert (result.error.type, result.error.message) == ("ExecutionError", "the disk is full")


async def test_checkpoints_are_gone_once_the_node_has_ended() -> None:
    """A node that ended needs none: what is kept of it is its output."""
    journal = ListJournal()

    async def call(n: int, context: Context) -> int:
        await context.checkpoint("x")
        return n

    nodes = [node("asks", call, inputs=N), node("bad", lambda n: 1 // 0, inputs=N, needs=("asks",))]
    await RowRun(nodes=nodes, run=ONCE, journal=journal).results(ROWS)
    assert [(entry.checkpoint, entry.output) for entry in journal.entries] == [(b'"x"', None), (None, b"0")]


async def test_an_abandoned_call_can_leave_nothing_any_more() -> None:
    """Its item has gone on without it: a late checkpoint would belong to a call that nobody waits for."""
    late, raised, is_over = threading.Event(), list[str](), threading.Event()
    journal, spending = ListJournal(), Spending(Budget())

    def call(n: int, context: Context) -> int:
        if context.attempt == 1:
            context.add_usage(cost=1.0)
            late.wait(30)
            try:
                context.checkpoint("late")
            except Exception as error:  # noqa: BLE001 - the test is about which one it is
                raised.append(str(error))
            context.add_usage(cost=2.0)
            is_over.set()
        else:
            late.set()
            is_over.wait(30)
            assert context.last_checkpoint is None
        return n

    hangs = node("asks", call, inputs=N, timeout_seconds=1, retry=SOON)
    (result,) = await RowRun(nodes=[hangs], journal=journal, spending=spending).results(ROWS)
    assert (result.status, result.attempts, result.nodes[0][9]) == ("completed", 2, Usage(cost=1.0))
    assert raised == ["this call is over, it can leave no checkpoint: it ran past its deadline, or has returned"]
    assert spending.spent.cost == 3.0
    assert {entry.checkpoint for entry in journal.entries} == {None}


def test_a_context_outlives_its_execution_without_harm() -> None:
    """A thread that a function left behind is told that nobody takes its checkpoints, and is not held up for ever."""
    contexts: list[Context] = []
    anyio.run(RowRun(nodes=[asking(lambda _n, context: contexts.append(context), is_async=False)]).results, ROWS)
    with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="closed"):
        pool.submit(contexts[0].checkpoint, 1).result(30)
