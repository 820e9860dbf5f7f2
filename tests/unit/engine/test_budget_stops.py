"""A budget, as items meet it."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import anyio
import pytest

from batchrun import Context
from batchrun.core.errors import HttpStatusError
from batchrun.core.executions import Stop
from batchrun.core.job import Run
from batchrun.core.policies import Budget
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.flow.budget import Spending, Spent
from batchrun.testing.rows import ListJournal, RowRun
from tests.unit.engine.small_nodes import SOON, node

N = {"n": "{{ item.n }}"}


def rows(count: int) -> list[dict[str, int]]:
    return [{"n": n} for n in range(count)]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("parallelism", [1, 7])
async def test_exactly_as_many_calls_are_made_as_the_budget_says(is_async: bool, parallelism: int) -> None:
    """Not one more, retries and later nodes included, and none left over, however many are made at once."""
    made, lock = list[int](), threading.Lock()

    def call(n: int) -> int:
        with lock:
            made.append(n)
            if made.count(n) == 1 and n % 3 == 0:
                raise ConnectionError("not now")
        return n

    async def call_async(n: int) -> int:
        await anyio.lowlevel.checkpoint()
        return call(n)

    spending, dispatchers, journal = Spending(Budget(max_calls=50)), list[Dispatcher[Any]](), ListJournal()
    function = call_async if is_async else call
    nodes = [node("first", function, inputs=N, retry=SOON), node("second", function, inputs={"n": "{{ nodes.first.output }}"}, retry=SOON)]
    run = Run(parallelism=parallelism)
    results = await RowRun(nodes=nodes, run=run, spending=spending, journal=journal, on_start=dispatchers.append).results(rows(200))
    assert (len(made), spending.spent) == (50, Spent(calls=50))
    message = "the budget of 50 calls is used up: to go on, raise run.budget.max_calls and resume"
    assert dispatchers[0].stop_cause == Stop("budget", message)
    assert {result.status for result in results} == {"completed", "cancelled"}
    begun = [result for result in results if result.status == "cancelled" and result.nodes]
    kept = {entry.ordinal for entry in journal.entries if entry.record is not None}
    assert {result.item.ordinal for result in begun if result.nodes[0][1] == "completed"} <= kept


@pytest.mark.parametrize("is_async", [False, True])
async def test_an_item_that_is_stopped_between_nodes_keeps_its_outputs(is_async: bool) -> None:
    """The next run goes on at the node that the budget did not allow; its row says that it was never called."""

    async def call_async(n: int) -> int:
        return n

    function = call_async if is_async else lambda n: n
    nodes = [node("first", function, inputs=N), node("second", function, inputs={"n": "{{ nodes.first.output }}"})]
    journal = ListJournal()
    row_run = RowRun(nodes=nodes, run=Run(parallelism=1), spending=Spending(Budget(max_calls=3)), journal=journal)
    results = await row_run.results(rows(3))
    assert [result.status for result in results] == ["completed", "cancelled", "cancelled"]
    assert [[each[0] for each in result.nodes] for result in results] == [[0, 1], [0], []]
    assert [(entry.ordinal, entry.node_id, entry.output) for entry in journal.entries] == [(1, "first", b"1")]
    again = await RowRun(nodes=nodes, restored=journal.restored(), spending=Spending(Budget(max_calls=3))).results(rows(3)[1:2] * 1)
    assert [result.status for result in again] == ["completed"]


@pytest.mark.parametrize("is_async", [False, True])
async def test_throttled_calls_are_free(is_async: bool) -> None:
    """A service that is busy does not eat up the budget."""
    made = Counter[int]()

    def call(n: int) -> int:
        made[n] += 1
        if made[n] < 4:
            raise HttpStatusError("busy", 429, retry_after_seconds=0.001)
        return n

    async def call_async(n: int) -> int:
        return call(n)

    spending = Spending(Budget(max_calls=3))
    nodes = [node("busy", call_async if is_async else call, inputs=N, retry=SOON)]
    results = await RowRun(nodes=nodes, run=Run(parallelism=1), spending=spending).results(rows(3))
    assert [result.status for result in results] == ["completed"] * 3
    assert (spending.spent.calls, made.total()) == (3, 12)


@pytest.mark.parametrize(("budget", "completed"), [(Budget(max_tokens=100), 10), (Budget(max_cost=2.0), 4), (Budget(max_calls=0), 0)])
async def test_what_calls_report_counts_against_the_budget(budget: Budget, completed: int) -> None:
    """Tokens and cost stop the execution as soon as they are used up."""

    def call(n: int, context: Context) -> int:
        context.add_usage(input_tokens=9, output_tokens=1, cost=0.5)
        return n

    nodes = [node("spends", call, inputs=N)]
    results = await RowRun(nodes=nodes, run=Run(parallelism=1), spending=Spending(budget)).results(rows(20))
    assert Counter(result.status for result in results) == Counter({"completed": completed, "cancelled": 20 - completed})


async def test_inputs_that_fail_use_up_no_call() -> None:
    """Only calls that are made are counted."""
    spending = Spending(Budget(max_calls=2))
    nodes = [node("first", lambda n: {"a": n}, inputs=N), node("second", lambda n: n, inputs={"n": "{{ nodes.first.output.missing }}"})]
    results = await RowRun(nodes=nodes, spending=spending).results(rows(1))
    assert (results[0].status, spending.spent.calls) == ("failed", 1)
