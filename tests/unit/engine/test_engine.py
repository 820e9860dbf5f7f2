from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import anyio
import orjson
import pytest

from batchrun.core.job import DefaultOnFailure, Workflow
from batchrun.core.policies import Retry
from batchrun.nodes.template import TemplateNode
from batchrun.testing.clock import run_virtually
from batchrun.testing.rows import RowRun
from batchrun.workflows.encoding import encode
from tests.unit.engine.small_nodes import ONCE, node, outputs


async def test_a_stretch_of_sync_nodes_gives_every_item_its_output_and_its_records() -> None:
    """The fast path runs each node once per item, in order, and writes down what went in and out."""
    first = node("double", lambda n: {"n": n * 2}, inputs={"n": "{{ item.n }}"})
    second = node("plus", lambda n: n + 1, inputs={"n": "{{ nodes.double.output.n }}"})
    results = await RowRun(nodes=[first, second]).results([{"n": n} for n in range(500)])
    assert outputs(results) == [2 * n + 1 for n in range(500)]
    records = results[3].nodes
    assert [(record[0], record[1], record[2], record[5], record[6]) for record in records] == [
        (0, "completed", 1, b'{"n":3}', b'{"n":6}'),
        (1, "completed", 1, b'{"n":6}', b"7"),
    ]


async def test_records_keep_what_a_function_was_given_even_if_it_changes_its_arguments() -> None:
    """An input is written down before the call, so that the account of it is true."""
    results = await RowRun(nodes=[node("pop", lambda tags: tags.pop(), inputs={"tags": "{{ item.tags }}"})]).results([{"tags": ["a", "b"]}])
    assert results[0].nodes[0][5:7] == (b'{"tags":["a","b"]}', b'"b"')


@pytest.mark.parametrize("value", [{1: "a"}, 2**70, "\ud800", Decimal("1.50"), {3}, b"bytes", float("nan"), [time.gmtime(0)]])
async def test_odd_values_are_written_down_as_everywhere(value: Any) -> None:
    """The fast path writes JSON by itself: what that cannot do at once must not come out differently, or fail."""
    (result,) = await RowRun(nodes=[node("same", lambda v: v, inputs={"v": "{{ item.v }}"})]).results([{"v": value}])
    assert (result.status, result.nodes[0][5:7]) == ("completed", (encode({"v": value}), encode(value)))


async def test_a_value_that_cannot_be_written_down_fails_its_item() -> None:
    """It says which type is at fault, whether it was given or returned."""
    nodes = [node("make", object), node("use", lambda v: 1, inputs={"v": "{{ item.v }}"})]
    for each, row in zip(nodes, [{}, {"v": object()}], strict=True):
        (result,) = await RowRun(nodes=[each], run=ONCE).results([row])
        assert result.error is not None
        assert (result.error.type, result.error.node_id) == ("InvalidValue", each.id)
        assert result.error.message.startswith("a value of type object cannot be written as JSON;")


@pytest.mark.parametrize("is_async", [False, True])
async def test_nodes_and_items_follow_one_another_without_gaps(is_async: bool) -> None:
    """An item lasts from the begin of its first node to the end of its last one, and each begins when the one before has ended."""

    async def later(n: int) -> int:
        return n

    call: Any = later if is_async else (lambda n: n)
    nodes = [node(id, call, inputs={"n": "{{ item.n }}"}, needs=needs) for id, needs in (("a", ()), ("b", ("a",)), ("c", ("b",)))]
    (result,) = await RowRun(nodes=nodes).results([{"n": 1}])
    begins, durations = [record[3] or 0 for record in result.nodes], [record[4] * 1e3 for record in result.nodes]
    assert result.started_at is not None
    gaps = [begins[place + 1] - begins[place] - durations[place] for place in (0, 1)]
    assert all(abs(gap) <= 1.5 for gap in gaps)  # they are in whole microseconds
    if not is_async:  # on the event loop, an item waits for its turn
        assert abs(begins[0] - result.started_at) <= 1.5
        assert abs(begins[2] + durations[2] - result.started_at - result.duration_ms * 1e3) <= 1.5


def test_nodes_that_wait_run_together_when_nothing_is_between_them() -> None:
    """Two independent calls of an item wait at the same time, each with its own inputs."""

    async def wait(seconds: float) -> float:
        await anyio.sleep(seconds)
        return anyio.current_time()

    nodes = [node("a", wait, inputs={"seconds": "{{ item.a }}"}), node("b", wait, inputs={"seconds": "{{ item.b }}"})]
    (result,) = RowRun(nodes=nodes).results_virtually([{"a": 10, "b": 20}])
    assert orjson.loads(result.output) == {"a": 10.0, "b": 20.0}


@pytest.mark.parametrize(
    ("on_failure", "status", "output"),
    [
        ("stop", "failed", None),
        ("continue", "completed", {"ok": 1, "bad": None}),
        (DefaultOnFailure(default=9), "completed", {"ok": 1, "bad": 9}),
    ],
)
async def test_on_failure_decides_what_becomes_of_the_item(on_failure: Any, status: str, output: Any) -> None:
    """By default the item fails; it can go on with null or a default instead. The node's failure is recorded each time."""
    nodes = [
        node("ok", lambda n: n, inputs={"n": "{{ item.n }}"}),
        node("bad", lambda n: 1 // 0, inputs={"n": "{{ nodes.ok.output }}"}, on_failure=on_failure, retry=Retry(max_attempts=1)),
    ]
    workflow = Workflow(nodes=tuple(nodes), output={"ok": "{{ nodes.ok.output }}", "bad": "{{ nodes.bad.output }}"})
    (result,) = await RowRun(workflow=workflow).results([{"n": 1}])
    assert (result.status, outputs([result])[0]) == (status, output)
    error = result.nodes[1][7]
    assert error is not None
    assert (error.type, error.node_id) == ("ZeroDivisionError", "bad")
    assert "1 // 0" in str(error.traceback)
    assert (result.error == error) is (status == "failed")


async def test_skips_spread_to_nodes_that_only_read_skipped_ones() -> None:
    """A false `when` skips its node and everything that depends on nothing else; the item is skipped if its output is."""
    nodes = [
        node("big", lambda n: n, inputs={"n": "{{ item.n }}"}, when="{{ item.n > 10 }}"),
        node("after", lambda n: [n], inputs={"n": "{{ nodes.big.output }}"}),
        TemplateNode(id="both", template="{{ item.n }}/{{ nodes.after.output }}", needs=("big",)),
    ]
    results = await RowRun(workflow=Workflow(nodes=tuple(nodes), output="{{ nodes.after.output }}")).results([{"n": 5}, {"n": 50}])
    assert [(result.status, result.output) for result in results] == [("skipped", None), ("completed", b"[50]")]
    assert [record[1] for record in results[0].nodes] == ["skipped", "skipped", "skipped"]
    joined = [*nodes[:2], TemplateNode(id="join", template="{{ nodes.after.output }}|{{ nodes.free.output }}"), node("free", lambda: 1)]
    results = await RowRun(nodes=joined).results([{"n": 5}])
    assert (results[0].status, outputs(results)) == ("completed", ["|1"])


async def test_a_when_that_fails_is_a_failure_of_its_node() -> None:
    """A condition over something the item does not have must not run the node, nor crash the run."""
    nodes = [node("a", lambda n: n, inputs={"n": "{{ item.n }}"}, when="{{ item.n.x.y > 1 }}", retry=Retry(max_attempts=1))]
    (result,) = await RowRun(nodes=nodes).results([{"n": 5}])
    assert result.error is not None
    assert (result.status, result.error.node_id) == ("failed", "a")


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), RecursionError("deep"), BaseException("odd")])
async def test_whatever_a_function_raises_ends_its_item_alone(raised: BaseException) -> None:
    """sys.exit and its like in a node must not end the run."""

    def bad(n: int) -> int:
        if n == 1:
            raise raised
        return n

    results = await RowRun(nodes=[node("bad", bad, inputs={"n": "{{ item.n }}"})], run=ONCE).results([{"n": n} for n in range(3)])
    assert [result.status for result in results] == ["completed", "failed", "completed"]
    assert results[1].error is not None
    assert results[1].error.type == type(raised).__name__


async def test_outputs_without_a_faithful_form_fail_their_item() -> None:
    """A value that cannot be written down is the failure of the node that returned it."""
    results = await RowRun(nodes=[node("make", lambda n: object() if n else n, inputs={"n": "{{ item.n }}"})]).results([{"n": 0}, {"n": 1}])
    assert results[0].status == "completed"
    assert results[1].error is not None
    assert (results[1].error.type, results[1].error.node_id) == ("InvalidValue", "make")


async def test_a_sync_function_that_returns_a_coroutine_is_told_how_to_be_async() -> None:
    """The work of a coroutine nobody awaits would be lost without a word."""

    async def later(n: int) -> int:
        return n

    (result,) = await RowRun(nodes=[node("later", lambda n: later(n), inputs={"n": "{{ item.n }}"})]).results([{"n": 1}])  # noqa: PLW0108 - the lambda is what is not async
    assert result.error is not None
    assert result.error.type == "InvalidValue"
    assert "async, and await it there" in result.error.message


async def test_a_typed_output_that_does_not_fit_fails_its_item_and_names_the_field() -> None:
    """The output column's type is checked for each item before it reaches the table."""
    workflow = Workflow(nodes=(node("make", lambda n: {"n": n}, inputs={"n": "{{ item.n }}"}),), output_schema={"n": "int64"})
    results = await RowRun(workflow=workflow).results([{"n": 1}, {"n": "one"}])
    assert results[0].output == {"n": 1}
    assert results[1].error is not None
    assert "output.n must be int64, got str" in results[1].error.message


@pytest.mark.parametrize("recording", ["summary", "none"])
async def test_failed_rows_keep_node_outputs_whatever_is_recorded(recording: Any) -> None:
    """What the nodes before the failure gave is what people need to understand it."""
    nodes = [
        node("ok", lambda n: {"seen": n}, inputs={"n": "{{ item.n }}"}),
        node("bad", lambda n: 1 // n, inputs={"n": "{{ item.n }}"}, needs=("ok",)),
    ]
    results = await RowRun(nodes=nodes, run=ONCE, recording=recording).results([{"n": 0}, {"n": 1}])
    assert results[0].nodes[0][6] == b'{"seen":0}'
    assert len(results[1].nodes) == (2 if recording == "summary" else 0)
    assert all(record[5] is None and record[6] is None for record in results[1].nodes)


def test_the_virtual_clock_is_one_clock() -> None:
    """Deadlines, backoffs and sleeps agree about the time, so that timing tests need not wait."""

    async def two_sleeps() -> float:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 30)
            group.start_soon(anyio.sleep, 20)
        return anyio.current_time()

    before = time.monotonic()
    assert run_virtually(two_sleeps) == 30
    assert time.monotonic() - before < 30
