"""Items that go on where an earlier run left them."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import anyio
import orjson
import pytest

from batchrun import Context
from batchrun.core.items import ItemResult, KeptNode, NodeRecord, NodeStatus, RestoredItem, Usage
from batchrun.core.job import Batch, Run, Workflow
from batchrun.core.policies import Backoff, Retry
from batchrun.testing.rows import ListJournal, RowRun
from tests.unit.engine.small_nodes import ONCE, SOON, node, outputs

N = {"n": "{{ item.n }}"}


def record(position: int, status: NodeStatus = "completed", attempts: int = 1) -> NodeRecord:
    return (position, status, attempts, 1_000, 2.5, b'{"n":1}', None, None, "key", Usage(1, 2, 0.5), False)


def kept(id: str, output: Any = None, status: NodeStatus = "completed", **fields: Any) -> KeptNode:
    return KeptNode(0, 0, 1, id, record=record(9, status), output=orjson.dumps(output), **fields)


def restored(*nodes: KeptNode, attempts: int = 1, generation: int = 0, **earlier: int) -> dict[int, RestoredItem]:
    return {0: RestoredItem(attempts, generation, nodes, earlier)}


@pytest.mark.parametrize("batch", [None, Batch(max_items=4)])
async def test_an_item_whose_nodes_have_all_ended_still_has_an_output(batch: Batch | None) -> None:
    """An output that could not be made is corrected, and what the nodes gave before is all that it takes, called together or not."""
    double = node("double", lambda n: [2 * each for each in n] if batch else 2 * n, inputs=N, batch=batch)
    (result,) = await RowRun(nodes=[double], restored=restored(kept("double", 6))).results([{"n": 1}])
    assert (result.status, outputs([result]), len(result.nodes)) == ("completed", [6], 1)


@dataclass
class Calls:
    """Three nodes in a row that count their calls, in lanes or on the event loop, or in turn."""

    kind: Literal["lanes", "loop", "both"]
    made: Counter[str]

    def nodes(self, **options: Any) -> list[Any]:
        return [
            self._node("a", N, 0, options),
            self._node("b", {"n": "{{ nodes.a.output }}"}, 1, options),
            self._node("c", {"n": "{{ nodes.b.output }}"}, 2, options),
        ]

    def _node(self, id: str, inputs: dict[str, str], position: int, options: dict[str, Any]) -> Any:
        def call(n: int) -> int:
            self.made[id] += 1
            return n + 1

        async def call_async(n: int) -> int:
            await anyio.lowlevel.checkpoint()
            return call(n)

        is_async = self.kind == "loop" or (self.kind == "both" and position == 1)
        return node(id, call_async if is_async else call, inputs=inputs, **options)


@pytest.fixture(params=["lanes", "loop", "both"])
def calls(request: pytest.FixtureRequest) -> Calls:
    return Calls(request.param, Counter())


@pytest.mark.parametrize(
    ("nodes", "output", "made"),
    [
        ([], 3, {"a": 1, "b": 1, "c": 1}),
        ([kept("a", 10)], 12, {"b": 1, "c": 1}),
        ([kept("b", 20), kept("a", 10)], 21, {"c": 1}),
        ([kept("a", 10), kept("b", 20), kept("c", 30)], 30, {}),
        ([kept("b", 20)], 3, {"a": 1, "b": 1, "c": 1}),
        ([kept("a", 10), kept("gone", 20)], 12, {"b": 1, "c": 1}),
    ],
)
async def test_nodes_that_ended_never_run_again(calls: Calls, nodes: list[KeptNode], output: int, made: dict[str, int]) -> None:
    """Only what is not kept, or reads what is not kept, is called; also when nothing is left to call. Others begin anew."""
    results = await RowRun(nodes=calls.nodes(), restored=restored(*nodes)).results([{"n": 0}, {"n": 0}])
    assert outputs(results) == [output, 3]
    assert calls.made == Counter(made) + Counter("abc")
    assert [each[0] for each in results[0].nodes] == [0, 1, 2]


@pytest.mark.parametrize(("stale", "made"), [("a", "abc"), ("b", "bc"), ("c", "c"), ("gone", "")])
async def test_edited_nodes_and_all_after_them_run_again(calls: Calls, stale: str, made: str) -> None:
    """What was computed with the old code, or from it, is not mixed with the new."""
    state = restored(kept("a", 10), kept("b", 20), kept("c", 30))
    (result,) = await RowRun(nodes=calls.nodes(), restored=state, stale=frozenset([stale])).results([{"n": 10}])
    assert calls.made == Counter(made)
    assert outputs([result]) == [{"abc": 13, "bc": 12, "c": 21, "": 30}[made]]


@pytest.mark.parametrize("recording", ["full", "summary", "none"])
async def test_records_of_kept_nodes_are_part_of_the_row(calls: Calls, recording: Literal["full", "summary", "none"]) -> None:
    """The row tells of all node executions, in whichever process they were; the input and output as recorded then."""
    (result,) = await RowRun(nodes=calls.nodes(), restored=restored(kept("a", 10)), recording=recording).results([{"n": 0}])
    if recording == "none":
        assert list(result.nodes) == []
    else:
        output = b"10" if recording == "full" else None
        assert result.nodes[0] == (0, "completed", 1, 1_000, 2.5, b'{"n":1}', output, None, "key", Usage(1, 2, 0.5), False)
        assert len(result.nodes) == 3


async def test_skipped_and_tolerated_nodes_stay_what_they_were(calls: Calls) -> None:
    """A restored skip spreads like a fresh one, and a failure that did not matter still does not."""
    state = restored(kept("a", status="skipped"), kept("b", status="failed"))
    nodes = calls.nodes(when="{{ true }}", on_failure="continue")
    (result,) = await RowRun(workflow=Workflow(nodes=tuple(nodes), output="{{ nodes.a.output }}"), restored=state).results([{"n": 0}])
    assert (result.status, [each[1] for each in result.nodes][:2]) == ("skipped", ["skipped", "failed"])
    assert calls.made["a"] == calls.made["b"] == 0


async def test_a_failure_that_ended_its_item_is_tried_again(calls: Calls) -> None:
    """A retry of failed items must call the node that failed."""
    (result,) = await RowRun(nodes=calls.nodes(), restored=restored(kept("a", status="failed"))).results([{"n": 0}])
    assert (outputs([result]), calls.made) == ([3], Counter("abc"))


@dataclass
class Price:
    amount: Decimal


def test_outputs_come_back_as_the_annotated_type() -> None:
    """The next node gets what it would have got without the crash: the same type, and equal."""
    made: list[str] = []
    seen: list[Any] = []

    async def price(n: int) -> Price:
        made.append("price")
        return Price(Decimal("1.50"))

    async def use(price: Price) -> str:
        seen.append(price)
        await anyio.sleep(1)
        return str(price.amount * 2)

    journal, notes = ListJournal(), list[str]()
    nodes = [node("price", price, inputs=N), node("use", use, inputs={"price": "{{ nodes.price.output }}"})]
    first = RowRun(nodes=nodes, journal=journal, on_note=notes.append).results_virtually([{"n": 0}])
    second = RowRun(nodes=nodes, restored=journal.restored()).results_virtually([{"n": 0}])
    assert outputs(first) == outputs(second) == ["3.00"]
    assert (made, notes) == (["price"], [])
    assert seen == [Price(Decimal("1.50"))] * 2


async def test_an_output_that_cannot_be_restored_makes_its_node_run_again() -> None:
    """What an older version of the code wrote may say nothing to the new one: no item fails for that."""

    def price(n: int) -> Price:
        return Price(Decimal(2))

    nodes = [node("price", price, inputs=N), node("after", lambda n: n.amount + 1, inputs={"n": "{{ nodes.price.output }}"})]
    (result,) = await RowRun(nodes=nodes, restored=restored(kept("price", {"cost": 1}))).results([{"n": 0}])
    assert outputs([result]) == ["3"]


@pytest.mark.parametrize("is_async", [False, True])
async def test_attempts_go_on_where_they_were(is_async: bool) -> None:
    """A node that failed twice before the crash has one attempt left, not three; item and node say so."""
    made: list[int] = []

    def bad(n: int) -> int:
        made.append(n)
        raise ConnectionError("not now")

    async def bad_async(n: int) -> int:
        return bad(n)

    state = restored(KeptNode(0, 0, 3, "bad", node_attempts=2), attempts=3)
    nodes = [node("bad", bad_async if is_async else bad, inputs=N)]
    (result,) = await RowRun(nodes=nodes, run=Run(retry=SOON), restored=state).results([{"n": 0}])
    assert (made, result.attempts, result.nodes[0][2]) == ([0], 3, 3)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("fails", [False, True])
async def test_attempts_before_a_retry_only_add_to_the_account(is_async: bool, fails: bool) -> None:
    """A retry gives all attempts again, and the row counts those of before."""
    made: list[int] = []

    def call(n: int) -> int:
        made.append(n)
        if fails:
            raise ConnectionError("not now")
        return n

    async def call_async(n: int) -> int:
        return call(n)

    nodes = [node("call", call_async if is_async else call, inputs=N)]
    retry = Retry(max_attempts=2, backoff=Backoff(initial_seconds=0, max_seconds=0))
    (result,) = await RowRun(nodes=nodes, run=Run(retry=retry), restored=restored(attempts=4, call=3)).results([{"n": 0}])
    assert (len(made), result.attempts, result.nodes[0][2]) == ((2, 5, 5) if fails else (1, 4, 4))


async def test_an_edited_node_has_all_its_attempts_again() -> None:
    """Failures of the code before the fix do not count against the fixed one, and are not forgotten."""
    made: list[int] = []

    def bad(n: int) -> int:
        made.append(n)
        raise ConnectionError("not now")

    state = restored(KeptNode(0, 0, 3, "bad", node_attempts=2), attempts=3)
    (result,) = await RowRun(nodes=[node("bad", bad, inputs=N)], run=Run(retry=SOON), restored=state, stale=frozenset(["bad"])).results(
        [{"n": 0}]
    )
    assert (len(made), result.nodes[0][2]) == (3, 5)


async def test_a_node_after_an_edited_one_begins_anew() -> None:
    """A checkpoint belongs to the inputs that its call was given; these may now be others."""
    seen: list[Any] = []

    def call(n: int, context: Context) -> int:
        seen.append((context.last_checkpoint, context.attempt))
        return n

    state = restored(kept("first", 5), KeptNode(0, 0, 2, "call", node_attempts=1, checkpoint=b'"x"'))
    nodes = [node("first", lambda n: n, inputs=N), node("call", call, inputs={"n": "{{ nodes.first.output }}"})]
    for stale in ([], ["first"]):
        await RowRun(nodes=nodes, restored=state, stale=frozenset(stale)).results([{"n": 0}])
    assert seen == [("x", 2), (None, 2)]


async def test_an_item_whose_functions_have_run_waits_for_no_lane() -> None:
    """What is left of it need not queue behind the functions of others."""
    has_gone_on = threading.Event()

    async def last(n: Any) -> Any:
        has_gone_on.set()
        return n

    nodes = [node("first", lambda n: has_gone_on.wait(30), inputs=N), node("last", last, inputs={"n": "{{ nodes.first.output }}"})]
    state = {1: RestoredItem(1, 0, (kept("first", 7),), {})}
    row_run = RowRun(nodes=nodes, run=Run(parallelism=2), restored=state, on_open=lambda engine: engine.resize(1))
    assert outputs(await row_run.results([{"n": 0}, {"n": 1}])) == [True, 7]


async def test_what_is_restored_is_not_handed_over_again() -> None:
    """The journal has it: a resume that fails again writes only what is new."""

    def bad(n: int) -> int:
        raise ValueError(n)

    journal = ListJournal()
    nodes = [
        node("a", lambda n: n, inputs=N),
        node("b", lambda n: n, inputs={"n": "{{ nodes.a.output }}"}),
        node("bad", bad, inputs={"n": "{{ nodes.b.output }}"}),
    ]
    results: list[ItemResult] = await RowRun(nodes=nodes, run=ONCE, journal=journal, restored=restored(kept("a", 5))).results([{"n": 0}])
    assert results[0].status == "failed"
    assert [(entry.node_id, entry.output) for entry in journal.entries] == [("b", b"5")]
