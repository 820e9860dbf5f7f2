"""Budgets of tokens, as calls of models meet them."""

from __future__ import annotations

import anyio
import pytest

from batchrun.core.executions import Stop
from batchrun.core.job import Batch, NodeOptions, Resource, Run
from batchrun.core.policies import Budget
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.engine.item_run import ItemRun
from batchrun.flow.budget import Spending, Spent
from batchrun.nodes.chat import ChatNode
from batchrun.testing.loopback import Answer, LoopbackServer, Received, json_answer
from batchrun.testing.rows import RowRun
from tests.unit.nodes.chat_calls import ASK, answering, chat

ROWS = [{"text": f"letter {number}"} for number in range(60)]
USED_UP = "the budget of 350 tokens is used up: to go on, raise run.budget.max_tokens and resume"


def row_run(node: NodeOptions, server: LoopbackServer, budget: Budget, *, parallelism: int = 10, **options: object) -> RowRun:
    return RowRun(
        nodes=[node],
        run=Run(parallelism=parallelism),
        vars={"model": "small"},
        resources={"llm": Resource(base_url=f"{server.url}/v1")},
        spending=Spending(budget),
        **options,  # type: ignore[arg-type]
    )


async def test_no_more_tokens_are_used_than_the_budget_has() -> None:
    """Ten items at a time, and what one call may use is known: the last one ends where the budget does."""
    with LoopbackServer(answering("well")) as server:
        dispatchers = list[Dispatcher[ItemRun]]()
        run = row_run(chat(max_output_tokens=4), server, Budget(max_tokens=350), on_start=dispatchers.append)
        results = await run.results(ROWS)
    assert run.spending is not None and run.spending.spent == Spent(calls=50, input_tokens=150, output_tokens=200)
    assert [result.status for result in results].count("completed") == len(server.requests) == 50
    assert dispatchers[0].stop_cause == Stop("budget", USED_UP)


async def test_a_run_that_fits_is_not_stopped_by_what_its_calls_might_use() -> None:
    """They may be long answers, and are short ones: near the end of the budget one call waits for another."""
    with LoopbackServer(answering("well")) as server:
        run = row_run(chat(max_output_tokens=300), server, Budget(max_tokens=7 * 60))
        results = await run.results(ROWS)
        assert server.most_in_flight == 1
    assert {result.status for result in results} == {"completed"}
    assert run.spending is not None and run.spending.spent == Spent(calls=60, input_tokens=180, output_tokens=240)


async def test_calls_run_side_by_side_as_long_as_the_budget_lasts_for_all() -> None:
    """Reserving makes nothing slower before it has to: all ten are there at once."""
    with LoopbackServer(lambda received: Answer(**{**_parts(answering("well")(received)), "held": True})) as server:
        run = row_run(chat(max_output_tokens=100), server, Budget(max_tokens=100_000))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run.results, ROWS[:10])
            await anyio.to_thread.run_sync(lambda: server.wait_until(lambda s: s.in_flight == 10))
            server.release()


def _parts(answer: Answer) -> dict[str, object]:
    return {name: getattr(answer, name) for name in Answer.__slots__}


async def test_a_repair_counts_as_the_tokens_it_takes() -> None:
    """It is part of the same call, and not free."""
    with LoopbackServer(answering("no JSON", '{"label": "bug"}')) as server:
        run = row_run(chat(response_schema={"label": "string"}), server, Budget(max_tokens=14), parallelism=1)
        results = await run.results(ROWS[:2])
    assert run.spending is not None and run.spending.spent == Spent(calls=1, input_tokens=6, output_tokens=8)
    assert [result.status for result in results] == ["completed", "cancelled"]


@pytest.mark.parametrize("batch", [None, Batch(max_items=4)], ids=["single", "batch"])
async def test_vectors_are_counted_and_calls_that_are_not_made_are_given_back(batch: Batch | None) -> None:
    """Also where several items share a call: those that the budget does not allow count neither as calls nor as tokens."""

    def answer(received: Received) -> Answer:
        count = received.body.count(b"letter")
        vectors = [{"index": index, "embedding": [0.5]} for index in range(count)]
        return json_answer({"data": vectors, "usage": {"prompt_tokens": 2 * count, "total_tokens": 2 * count}})

    node = ChatNode(id="embed", resource="llm", model="small", embed="{{ item.text }}", batch=batch)
    with LoopbackServer(answer) as server:
        run = row_run(node, server, Budget(max_tokens=40), parallelism=4)
        results = await run.results(ROWS[:40])
    calls = len(server.requests)
    assert run.spending is not None and run.spending.spent == Spent(calls=calls, input_tokens=40)
    assert [result.status for result in results].count("completed") == 20


async def test_calls_of_models_that_are_not_asked_for_do_not_wait() -> None:
    """The messages are the items' own; without a limit of tokens or cost, nothing is reserved."""
    with LoopbackServer(answering("well")) as server:
        run = row_run(chat(messages=ASK, max_output_tokens=10_000), server, Budget(max_calls=30))
        results = await run.results(ROWS)
    assert [result.status for result in results].count("completed") == len(server.requests) == 30
