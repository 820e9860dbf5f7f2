"""Calls that are made once for all items that want the same at the same time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun import Context
from batchrun.core.errors import HttpStatusError, NodeError
from batchrun.core.executions import Stop
from batchrun.core.items import ItemResult, Usage
from batchrun.core.job import Batch, Budget, Run
from batchrun.core.policies import Backoff, Retry
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.flow.budget import Spending
from batchrun.testing.clock import run_virtually
from batchrun.testing.rows import RowRun
from tests.unit.engine.small_nodes import ONCE, SOON, node, outputs

K = {"k": "{{ item.k }}"}


@dataclass
class Service:
    """An async function that takes its time, and knows when it was called with what.

    Attributes:
        seconds: how long each call takes, in the order they begin; the last one repeats.
        failures: how many of the first calls fail.
        calls: when each call began, and its key.
        now: calls being made, by key.
    """

    seconds: tuple[float, ...] = (10.0,)
    failures: int = 0
    error: Callable[[], Exception] = lambda: ConnectionError("not now")
    calls: list[tuple[float, Any]] = field(default_factory=list)
    now: Counter[Any] = field(default_factory=Counter)

    async def call(self, k: Any) -> Any:
        number = len(self.calls)
        self.calls.append((anyio.current_time(), k))
        self.now[k] += 1
        assert self.now[k] == 1
        try:
            await anyio.sleep(self.seconds[min(number, len(self.seconds) - 1)])
            if number < self.failures:
                raise self.error()
            return {"k": k, "call": number}
        finally:
            self.now[k] -= 1

    def node(self, **options: Any) -> Any:
        return node("ask", self.call, inputs=K, dedupe=True, **options)


def rows(*keys: Any) -> list[dict[str, Any]]:
    return [{"k": k} for k in keys]


def summary(results: list[ItemResult]) -> list[tuple[str, float, str | None]]:
    """Status, seconds and error type of each item."""
    return [(result.status, round(result.duration_ms / 1e3, 3), result.error and result.error.type) for result in results]


def test_equal_inputs_at_the_same_time_are_one_call() -> None:
    """Ten items of two kinds cost two calls, and each gets the output of its kind."""
    service = Service()
    results = RowRun(nodes=[service.node()], run=Run(parallelism=10)).results_virtually(rows(*"ab" * 5))
    assert [(output["k"], output["call"]) for output in outputs(results)] == [("a", 0), ("b", 1)] * 5
    assert summary(results) == [("completed", 10.0, None)] * 10


def test_equal_inputs_one_after_another_are_calls_of_their_own() -> None:
    """Only the cache remembers; here an output goes to those that wait for it."""
    service = Service()
    results = RowRun(nodes=[service.node()], run=Run(parallelism=1, max_open_items=1)).results_virtually(rows("a", "a"))
    assert [output["call"] for output in outputs(results)] == [0, 1]


def test_those_that_wait_give_their_slots_to_others() -> None:
    """A hundred items that wait for one slow call hold up nobody."""
    service = Service(seconds=(100.0, 1.0))
    run = Run(parallelism=2, max_open_items=200)
    results = RowRun(nodes=[service.node()], run=run).results_virtually(rows(*["slow"] * 100, *range(50)))
    assert len(service.calls) == 51
    assert max(began for began, _ in service.calls) < 60
    assert all(result.status == "completed" for result in results)


def test_when_a_call_fails_the_next_item_makes_its_own() -> None:
    """A failure is that of one item: the others neither take it over nor lose their attempts, and they lead in turn."""
    service = Service(failures=2)
    results = RowRun(nodes=[service.node()], run=replace(ONCE, parallelism=9)).results_virtually(rows(*"aaaaa"))
    assert service.calls == [(0.0, "a"), (10.0, "a"), (20.0, "a")]
    failed = ("failed", 10.0, "ConnectionError"), ("failed", 20.0, "ConnectionError")
    assert summary(results) == [*failed, *[("completed", 30.0, None)] * 3]
    assert [output["call"] for output in outputs(results[2:])] == [2, 2, 2]


def test_an_item_that_is_sent_back_follows_or_leads_again() -> None:
    """Retries go on as ever: who failed comes back, and takes what another one has meanwhile asked for."""
    service = Service(failures=1)
    retry = Retry(max_attempts=2, backoff=Backoff(initial_seconds=0, max_seconds=0))
    results = RowRun(nodes=[service.node(retry=retry)], run=Run(parallelism=3)).results_virtually(rows(*"aaa"))
    assert [began for began, _ in service.calls] == [0.0, 10.0]
    assert summary(results) == [("completed", 20.0, None)] * 3
    assert [result.attempts for result in results] == [2, 1, 1]


def test_the_deadline_of_a_call_is_that_of_who_makes_it() -> None:
    """When a call takes too long, the next item makes one of its own, with all the time a call has; no other is charged for it."""
    service = Service(seconds=(60.0, 60.0, 9.0))
    results = RowRun(nodes=[service.node(timeout_seconds=10.0)], run=replace(ONCE, parallelism=9)).results_virtually(rows(*"aaaa"))
    assert service.calls == [(0.0, "a"), (10.0, "a"), (20.0, "a")]
    assert summary(results) == [("failed", 10.0, "Timeout"), ("failed", 20.0, "Timeout"), *[("completed", 29.0, None)] * 2]


async def late(k: str, seconds: float) -> str:
    await anyio.sleep(seconds)
    return k


def coming(service: Service, **options: Any) -> list[Any]:
    """Items that ask the service after so many seconds."""
    inputs = {"k": "{{ item.k }}", "seconds": "{{ item.seconds }}"}
    return [node("late", late, inputs=inputs), node("ask", service.call, inputs={"k": "{{ nodes.late.output }}"}, dedupe=True, **options)]


def test_who_gives_up_waiting_leaves_the_others_as_they_are() -> None:
    """An item waits no longer than it has time, whoever makes the call; the call goes on for those that have time left."""
    service = Service(seconds=(1.0, 30.0))
    run = replace(ONCE, parallelism=2, max_open_items=3, item_timeout_seconds=33.0)
    items = [{"k": k, "seconds": seconds} for k, seconds in (("a", 20), ("b", 2), ("a", 1), ("a", 1))]
    results = RowRun(nodes=coming(service, timeout_seconds=31.0), run=run).results_virtually(items)
    assert service.calls == [(2.0, "b"), (4.0, "a")]
    assert summary(results) == [("failed", 33.0, "Timeout"), ("completed", 3.0, None), ("completed", 31.0, None), ("completed", 14.0, None)]
    assert results[0].error.message == "the item ran longer than item_timeout_seconds: 33"
    assert results[0].error.retryable is False


@pytest.mark.parametrize("grace_seconds", [0.0, 3.0, 60.0])
def test_a_stop_ends_those_that_wait(grace_seconds: float) -> None:
    """An execution that is stopped ends after the grace period at the latest; whoever got an output in time is done."""
    service, started = Service(), list[Dispatcher[Any]]()
    run = Run(parallelism=4, grace_seconds=grace_seconds)
    row_run = RowRun(nodes=[service.node()], run=run, on_start=started.append)

    async def main() -> list[ItemResult]:
        async with anyio.create_task_group() as group:
            group.start_soon(stop)
            return await row_run.results(rows(*"aaab"))

    async def stop() -> None:
        await anyio.sleep(5)
        started[0].stop(Stop("user", "enough"))

    ended = ("completed", 10.0, None) if grace_seconds > 5 else ("cancelled", 5.0 + grace_seconds, None)
    assert summary(run_virtually(main)) == [ended] * 4
    assert len(service.calls) == 2


def test_one_call_is_paid_for_once() -> None:
    """Only who makes a call is counted, charged and throttled for it."""

    async def ask(k: str, context: Context) -> str:
        calls.append(context.call_key)
        await anyio.sleep(1)
        if len(calls) == 1:
            raise HttpStatusError("busy", 429)
        context.add_usage(input_tokens=7)
        return k

    calls: list[str] = []
    spending = Spending(Budget(max_calls=1))
    row_run = RowRun(nodes=[node("ask", ask, inputs=K, dedupe=True)], run=Run(parallelism=9), spending=spending)
    results = row_run.results_virtually(rows(*"aaaa"))
    assert [result.status for result in results] == ["completed"] * 4
    assert (spending.spent.calls, spending.spent.input_tokens, len(calls)) == (1, 7, 2)
    assert Counter(result.nodes[0][9] for result in results) == {None: 3, Usage(7): 1}
    assert {result.nodes[0][8] for result in results} == {calls[1]}


def test_whoever_changes_an_output_changes_his_own() -> None:
    """The items of one call each get a value of their own, as it was when the call ended."""

    async def give(k: str) -> dict[str, list[int]]:
        await anyio.sleep(1)
        return {"left": [1, 2, 3]}

    async def take(left: list[int]) -> Any:  # not in a lane, whose thread knows nothing of the virtual clock
        return left.pop(), left.pop()

    nodes = [
        node("give", give, inputs=K, dedupe=True),
        node("take", take, inputs={"left": "{{ nodes.give.output.left }}"}),
    ]
    results = RowRun(nodes=nodes, run=Run(parallelism=2, max_open_items=20)).results_virtually(rows(*"aaaaaaaaaa"))
    assert outputs(results) == [[3, 2]] * 10


class Single:
    """Cannot be copied."""

    def __init__(self, k: str) -> None:
        self.k = k

    def __deepcopy__(self, memo: object) -> Any:
        raise NodeError("there is only one")

    def model_dump(self) -> str:
        return self.k


def test_what_cannot_be_copied_is_not_shared() -> None:
    """Each item makes a call of its own then, all at once; people are told once."""
    notes: list[str] = []
    calls: list[float] = []

    async def give(k: str) -> Any:
        calls.append(anyio.current_time())
        await anyio.sleep(1)
        return Single(k)

    row_run = RowRun(nodes=[node("give", give, inputs=K, dedupe=True)], run=Run(parallelism=9), on_note=notes.append)
    assert outputs(row_run.results_virtually(rows(*"aaabb"))) == list("aaabb")
    assert calls == [0.0, 0.0, 1.0, 1.0, 1.0]
    assert notes == ["node give: outputs of type Single cannot be copied, so each item makes a call of its own"]


def test_nodes_of_one_item_that_run_together() -> None:
    """Each node shares its own calls; an item gives its slot back once all its nodes wait."""
    one, other = Service(seconds=(10.0,)), Service(seconds=(20.0,))
    nodes = [node("one", one.call, inputs=K, dedupe=True), node("other", other.call, inputs=K, dedupe=True)]
    results = RowRun(nodes=nodes, run=Run(parallelism=2, max_open_items=8)).results_virtually(rows(*"aaaa"))
    assert summary(results) == [("completed", 20.0, None)] * 4
    assert (len(one.calls), len(other.calls)) == (1, 1)


@settings(max_examples=150)
@given(data=st.data())
def test_any_items_get_what_they_asked_for(data: st.DataObject) -> None:
    """Whatever fails, hangs or comes late, each item ends, with the output of its own key, and no key is asked for twice at a time."""
    keys = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=12))
    outcomes = iter(data.draw(st.lists(st.sampled_from(["ok", "fail", "busy", "hang"]), min_size=40, max_size=40)))
    service = Service(seconds=tuple(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=9))))

    async def ask(k: int) -> int:
        output = await service.call(k)
        outcome = next(outcomes, "ok")
        if outcome == "fail":
            raise ConnectionError("no")
        if outcome == "busy":
            raise HttpStatusError("busy", 429)
        if outcome == "hang":
            await anyio.sleep(1_000)
        return int(output["k"])

    many = data.draw(st.sampled_from([None, Batch(max_items=3, max_wait_ms=50)]))

    async def ask_many(k: list[int]) -> list[int]:
        assert len(set(k)) == len(k)
        await anyio.sleep(1)
        if next(outcomes, "ok") == "fail":
            raise ConnectionError("no")
        return k

    run = Run(parallelism=data.draw(st.integers(1, 5)), retry=SOON, item_timeout_seconds=data.draw(st.sampled_from([None, 25.0])))
    asks = node("ask", ask if many is None else ask_many, inputs=K, dedupe=True, batch=many, timeout_seconds=10.0)
    results = RowRun(nodes=[asks], run=run).results_virtually(rows(*keys))
    assert [result.item.data["k"] for result in results] == keys
    for result, k in zip(results, keys, strict=True):
        assert result.status in ("completed", "failed")
        assert result.output == (k if result.status == "completed" else None)
        assert result.error is None or result.error.type in ("ConnectionError", "Timeout")
