"""Parts of calls that hang, are stopped, or cannot be set up."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any

import anyio

import batchrun
from batchrun.core.events import SentBack
from batchrun.core.executions import Stop
from batchrun.core.job import Run
from batchrun.core.policies import Backoff, Budget, Match, Retry, RetryRule
from batchrun.flow.budget import Spending, Spent
from batchrun.nodes.python import PythonNode
from batchrun.testing.rows import ListJournal, RowRun
from batchrun.workflows.functions import node, workflow
from tests.unit.engine.flow_runs import ONCE, PATIENT, THROTTLES, Moody, flow, given, in_flow, names, nodes_of, ran, rows, statuses, sub


def test_a_branch_that_swallows_its_cancellation_cannot_hang_the_run() -> None:
    """Nodes that are called in a branch run in tasks of their own."""

    async def stubborn(n: int) -> None:
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(1_000)

    @workflow
    async def run(n: int) -> Any:
        return await batchrun.gather(node(stubborn)(n), stubborn(n))

    (result,) = ran(flow(run, timeout_seconds=1, retry=ONCE))
    assert result.error is not None and result.error.type == "Timeout"


def test_a_lane_whose_item_is_given_up_does_not_hold_up_others() -> None:
    """The outer call has a deadline, the plain function that hangs in it has none."""
    released, calls = threading.Event(), []

    @node
    def hangs(n: int) -> int:
        calls.append(n)
        if n == 0:
            released.wait(20)
        return n

    @workflow
    async def run(n: int) -> int:
        return await hangs(n)

    job = Run(parallelism=1, retry=Retry(max_attempts=2, backoff=Backoff(initial_seconds=0, max_seconds=0)))
    results = anyio.run(RowRun(nodes=[flow(run, timeout_seconds=1)], run=job).results, rows(5))
    released.set()
    assert names(results) == ["failed", *["completed"] * 4]
    assert sorted(calls) == [0, 0, 1, 2, 3, 4]


def test_what_an_abandoned_thread_still_does_does_not_show() -> None:
    """It comes back while the item goes on without it, and calls its next node: that is not made, kept or counted."""
    goes_on, came_back = threading.Event(), threading.Event()
    calls, after = list[int](), list[int]()

    @node
    def first(n: int) -> int:
        return n

    @node
    def hangs(n: int) -> int:
        calls.append(n)
        if len(calls) == 1:
            goes_on.wait(20)
        else:
            goes_on.set()
            came_back.wait(20)
        return n

    @node
    def last(n: int) -> int:
        after.append(n)
        return n

    @workflow
    def run(n: int) -> int:
        try:
            return last(hangs(first(n)))
        finally:
            came_back.set()

    job = Run(parallelism=2, retry=Retry(max_attempts=2, backoff=Backoff(initial_seconds=0, max_seconds=0)))
    runs = RowRun(nodes=[flow(run, timeout_seconds=1)], run=job, journal=ListJournal())
    (result,) = anyio.run(runs.results, [{"n": 1}])
    assert given(result) == 1 and len(after) == 1
    assert [each[1] for each in result.nodes].count("completed") == 4


def test_a_stop_ends_items_whose_parts_back_off() -> None:
    """What ended is kept, and the row shows it."""
    good, broken = Moody(fails=0), Moody(fails=99)
    first, second = nodes_of(good, is_async=True), nodes_of(broken, is_async=True).with_options(name="second")

    @workflow
    async def run(n: int) -> Any:
        return [await first(n), await second(n)]

    journal = ListJournal()
    asked = RowRun(
        nodes=[flow(run)],
        run=Run(item_timeout_seconds=None, retry=Retry(backoff=Backoff(initial_seconds=10_000, max_seconds=10_000))),
        journal=journal,
        on_start=lambda dispatcher: asyncio.get_running_loop().call_later(0.5, dispatcher.stop, Stop("user", "enough")) and None,
    )
    (result,) = asked.results_virtually(rows(1))
    assert result.status == "cancelled"
    assert (-1, "completed", 1) in statuses(result)
    assert any(each.output == b"1" for each in journal.entries)


def test_a_stop_after_the_grace_period_keeps_what_ended_inside_a_part() -> None:
    """A sub-workflow whose first node ended in the very moment of the stop."""
    made = []

    async def quick(n: int) -> int:
        made.append(n)
        await asyncio.sleep(1)
        return n

    async def hangs(n: int) -> int:
        await asyncio.sleep(10_000)
        return n

    nodes = sub(flow(quick, "quick"), PythonNode(id="hangs", call=hangs, inputs={"n": "{{ nodes.quick.output }}"}))
    journal = ListJournal()
    first = RowRun(
        nodes=[nodes],
        run=Run(grace_seconds=0.01),
        journal=journal,
        on_start=lambda dispatcher: asyncio.get_running_loop().call_later(1.001, dispatcher.stop, Stop("user", "enough")) and None,
    )
    (result,) = first.results_virtually(rows(1))
    assert (result.status, made) == ("cancelled", [0])
    assert [each.node_id.split("/")[-1] for each in journal.entries if each.output == b"0"] == ["quick"]


def test_each_call_of_a_part_counts_once_against_the_budget() -> None:
    """The outer call is none; a throttled call is given back, and only if it was counted."""
    moody = Moody(fails=1)
    throttles = Retry(max_attempts=1, backoff=Backoff(initial_seconds=0, max_seconds=0), rules=THROTTLES.rules)
    called = nodes_of(lambda: 1, is_async=True)

    @workflow
    async def run(n: int) -> Any:
        await called(n)
        return [await called(n), moody()]

    spending = Spending(Budget(max_calls=100), Spent())
    (result,) = ran(flow(run, retry=throttles), spending=spending)
    assert given(result) == [1, 2]
    assert spending.spent.calls == 2


def test_an_item_whose_part_the_budget_does_not_allow_is_not_done() -> None:
    """It goes on when there is more."""
    called = nodes_of(lambda: 1, is_async=True)

    @workflow
    async def run(n: int) -> Any:
        return [await called(n), await called(n), await called(n)]

    (result,) = ran(flow(run), spending=Spending(Budget(max_calls=2), Spent()))
    assert result.status == "cancelled"
    assert statuses(result)[:2] == [(-1, "completed", 1)] * 2


def test_a_part_that_cannot_be_set_up_fails_the_items() -> None:
    """With its reason, at once, and without an end to wait for."""

    class Model:
        def setup(self) -> None:
            raise OSError("no weights")

        def __call__(self, n: int) -> int:
            return n

    nodes = sub(flow(Model, "model"))
    results = ran(nodes, count=3)
    assert names(results) == ["failed"] * 3
    for result in results:
        assert result.error is not None and "no weights" in result.error.message
        assert result.attempts == 1


def test_a_part_that_is_still_being_set_up_does_not_hold_up_the_end() -> None:
    """Setting up may hang; the run ends all the same when its items have."""
    released, is_late = threading.Event(), list[bool]()

    class Model:
        def setup(self) -> None:
            is_late.append(not released.wait(20))

        def __call__(self, n: int) -> int:
            return n

    runs = RowRun(nodes=[sub(flow(Model, "model"), timeout_seconds=0.2, retry=ONCE)])

    async def main() -> str:
        (result,) = await runs.results(rows(1))
        released.set()  # else the event loop would wait for the thread
        return result.status

    assert anyio.run(main) == "failed"
    assert is_late == [False]


def test_a_skipped_sub_workflow_gives_nothing() -> None:
    """Null, as any node does that is skipped; and so do its own nodes."""
    inner = flow(lambda n: n, "inner", when="{{ item.n > 0 }}")
    results = ran(sub(inner), PythonNode(id="after", call=lambda x: [x], inputs={"x": "{{ nodes.sub.output }}"}), count=2)
    assert [given(result) for result in results] == [[None], [1]]


def test_a_rule_that_stops_the_execution_says_where_it_was() -> None:
    """The item is not done, and other items are not begun."""
    stops: list[Stop] = []
    rule = Retry(rules=(RetryRule(match=Match(error_type="ConnectionError"), action="stop"),))
    runs = RowRun(
        nodes=[in_flow(nodes_of(Moody(fails=9), is_async=True, retry=rule), is_async=True)],
        run=Run(parallelism=1),
        on_start=stops.append,  # type: ignore[arg-type]
    )
    results = runs.results_virtually(rows(3))
    assert names(results) == ["cancelled"] * 3
    assert stops[0].stop_cause.message == "node flow.called: ConnectionError: not now"  # type: ignore[attr-defined]


def test_events_tell_of_retries_inside_parts() -> None:
    """By the names people know them by."""
    told: list[SentBack] = []
    inner = nodes_of(Moody(fails=1), is_async=True)
    runs = RowRun(nodes=[in_flow(inner, is_async=True)], run=PATIENT, on_sent_back=told.append)
    runs.results_virtually(rows(1))
    assert [(each.node_id, each.failed_attempts) for each in told] == [("flow.called", 1)]
