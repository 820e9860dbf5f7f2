"""`batchrun.Context`: what functions know about their call, and what they say it used."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from batchrun import Context
from batchrun.core.items import Item, KeptNode, RestoredItem, Usage
from batchrun.core.job import Run
from batchrun.core.policies import Budget, Match, Retry, RetryRule
from batchrun.engine.context import CallContext, CallPorts, Trace
from batchrun.engine.item_run import ItemRun
from batchrun.flow.budget import Spending, Spent
from batchrun.testing.rows import RowRun
from tests.unit.engine.small_nodes import SOON, asking, node, outputs

N = {"n": "{{ item.n }}"}
ROWS = [{"n": n} for n in range(3)]


class NoWindow:
    columns = None


@pytest.fixture(params=[False, True], ids=["lane", "loop"])
def is_async(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def test_a_function_learns_which_call_it_is_in(is_async: bool) -> None:
    """Execution, item and attempt are the call's own; the key is the same in all attempts and differs between items."""
    seen: list[tuple[str, int, int, str]] = []

    def body(n: int, context: Context) -> int:
        seen.append((context.execution_id, context.item_index, context.attempt, context.call_key))
        if n == 1 and context.attempt < 3:
            raise ConnectionError("not now")
        return n

    results = await RowRun(nodes=[asking(body, is_async=is_async)]).results(ROWS)
    assert sorted(each[:3] for each in seen) == [("test", 0, 1), ("test", 1, 1), ("test", 1, 2), ("test", 1, 3), ("test", 2, 1)]
    assert len({(each[1], each[3]) for each in seen}) == len({each[3] for each in seen}) == 3
    assert {each[3] for each in seen} == {result.nodes[0][8] for result in results}


async def test_the_generation_changes_the_call_key_and_nothing_else_does(is_async: bool) -> None:
    """After a crash a service recognises a request it has done; after a retry that people asked for it does it again."""

    async def keys(restored: RestoredItem | None) -> list[Any]:
        nodes = [asking(lambda n, context: (context.call_key, context.attempt), is_async=is_async)]
        results = await RowRun(nodes=nodes, restored=None if restored is None else {0: restored}).results(ROWS[:1])
        return list(outputs(results)[0])

    before = await keys(None)
    assert await keys(RestoredItem(2, 0, (KeptNode(0, 0, 2, "asks", node_attempts=1),), {})) == [before[0], 2]
    retried = await keys(RestoredItem(2, 1, (), {"asks": 1}))
    assert (retried[0] == before[0], retried[1]) == (False, 2)


async def test_usage_is_summed_over_all_calls_of_the_item(is_async: bool) -> None:
    """Calls that fail cost money, too; the row shows the node's whole cost and the budget counts it at once."""
    spending = Spending(Budget())

    def body(n: int, context: Context) -> int:
        context.add_usage(input_tokens=10, cost=0.25)
        context.add_usage(output_tokens=1)
        if n == 1 and context.attempt < 3:
            raise ConnectionError("not now")
        if n == 2:
            raise TypeError("for good")
        return n

    results = await RowRun(nodes=[asking(body, is_async=is_async)], spending=spending).results(ROWS)
    assert [result.nodes[0][9] for result in results] == [Usage(10, 1, 0.25), Usage(30, 3, 0.75), Usage(10, 1, 0.25)]
    assert spending.spent == Spent(calls=0, input_tokens=50, output_tokens=5, cost=1.25)


@pytest.mark.parametrize("usage", [{"cost": -1.0}, {"cost": float("nan")}, {"input_tokens": -5}, {"cost": float("inf")}])
async def test_usage_that_cannot_be_is_refused(is_async: bool, usage: dict[str, Any]) -> None:
    """One negative cost would let an execution run past its budget for ever."""
    spending = Spending(Budget())
    nodes = [asking(lambda _n, context: context.add_usage(**usage), is_async=is_async)]
    (result,) = await RowRun(nodes=nodes, spending=spending).results(ROWS[:1])
    assert result.error is not None
    assert (result.error.type, spending.spent) == ("InvalidValue", Spent())
    assert f"{next(iter(usage))} must be ≥ 0 and finite" in result.error.message


async def test_an_abandoned_call_leaves_its_context_to_no_other_node() -> None:
    """A lane may go on to its next call in the moment it is abandoned for the one before: what that leaves is not its own."""
    run = ItemRun(Item(0, 0, 0, {}, NoWindow(), 0), 2)
    kept = KeptNode(0, 0, 1, "second")
    for position, left in ((0, Trace()), (1, Trace(Usage(cost=1.0), b"7"))):
        ports = CallPorts("test", None, None)
        run.context = CallContext(ports, 1, kept, attempt=1, call_key="key", before=Trace(checkpoint=b"7"))
        run.context.add_usage(cost=1.0)
        assert (run.left_by(position), run.context) == (left, None)


def test_two_nodes_that_wait_together_have_a_context_each() -> None:
    """What one leaves and uses never shows at the other."""

    def body(id: str, seconds: float) -> Any:
        async def call(n: int, context: Context) -> Any:
            found = context.last_checkpoint
            await context.checkpoint(id)
            await anyio.sleep(seconds)
            context.add_usage(cost=seconds)
            if context.attempt == 1:
                raise ConnectionError("not now")
            return found

        return node(id, call, inputs=N)

    rules = (RetryRule(match=Match(error_type="ConnectionError"), action="retry"),)
    run = Run(retry=Retry(max_attempts=3, backoff=SOON.backoff, rules=rules))
    (result,) = RowRun(nodes=[body("a", 1), body("b", 2)], run=run).results_virtually(ROWS[:1])
    assert outputs([result]) == [{"a": "a", "b": "b"}]
    assert sorted((each[0], each[9]) for each in result.nodes) == [(0, Usage(cost=2.0)), (1, Usage(cost=4.0))]
    assert len({each[8] for each in result.nodes}) == 2
