"""Nodes whose outputs are kept for other calls."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest

from batchrun import Context
from batchrun.core.items import Usage
from batchrun.core.job import Batch, Budget, NodeOptions, Run
from batchrun.flow.budget import Spending
from batchrun.testing.rows import RowRun
from batchrun.workflows.node import NodeCall, NodeCompiler
from tests.unit.engine.cached_runs import ROWS, Counted, N, Runs
from tests.unit.engine.small_nodes import ONCE, SOON, node, outputs


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(home=tmp_path)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("recording", ["full", "summary"])
def test_the_second_execution_calls_nothing(runs: Runs, is_async: bool, recording: Literal["full", "summary"]) -> None:
    """An output is there for every later execution, equal and of the same type, and its record says where it came from."""
    counted = Counted()
    nodes = [
        node("first", counted.function(is_async=is_async), inputs=N, cache=True),
        node("after", lambda given: given["n"] + 1, inputs={"given": "{{ nodes.first.output }}"}),
    ]
    row_run = RowRun(nodes=nodes, recording=recording)
    once, twice = runs.results(row_run, ROWS), runs.results(row_run, ROWS)
    assert counted.calls == [0, 1, 2, 3, 4]
    assert outputs(once) == outputs(twice) == [1, 2, 3, 4, 5]
    for results, attempts, is_hit in ((once, 1, False), (twice, 0, True)):
        records = [result.nodes[0] for result in results]
        assert [(record[1], record[2], record[8], record[9], record[10]) for record in records] == [
            ("completed", attempts, None, None, is_hit)
        ] * 5
        assert [record[5:7] for record in records] == (
            [(b'{"n":%d}' % n, b'{"n":%d}' % n) for n in range(5)] if recording == "full" else [(None, None)] * 5
        )
        assert [result.nodes[1][10] for result in results] == [False] * 5


@pytest.mark.parametrize("is_async", [False, True])
def test_equal_items_of_one_execution_share_outputs(runs: Runs, is_async: bool) -> None:
    """What one item was given is there for the next one at once, before anything is on the disk."""
    counted = Counted()
    row_run = RowRun(nodes=[node("first", counted.function(is_async=is_async), inputs=N, cache=True)], run=Run(parallelism=1))
    assert runs.hits(row_run, [{"n": 7}, {"n": 7}, {"n": 8}, {"n": 7}]) == [False, True, False, True]
    assert counted.calls == [7, 8]


@pytest.mark.parametrize("is_async", [False, True])
def test_null_is_an_output_and_a_failure_is_none(runs: Runs, is_async: bool) -> None:
    """A function that finds nothing is not asked again; one that fails is, by every later execution."""
    nothing, bad = Counted(lambda n: None), Counted(lambda n: 1 // n)
    row_run = RowRun(nodes=[node("nothing", nothing.function(is_async=is_async), inputs=N, cache=True)])
    assert runs.hits(row_run, ROWS) == [False] * 5
    assert runs.hits(row_run, ROWS) == [True] * 5
    assert sorted(nothing.calls) == [0, 1, 2, 3, 4]
    failing = RowRun(nodes=[node("bad", bad.function(is_async=is_async), inputs=N, cache=True)], run=ONCE)
    assert runs.hits(failing, ROWS) == [False] * 5
    assert runs.hits(failing, ROWS) == [False, True, True, True, True]
    assert sorted(bad.calls) == [0, 0, 1, 2, 3, 4]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_later_attempt_is_kept(runs: Runs, is_async: bool) -> None:
    """What came of the second attempt is as good as what comes of the first."""
    failures = iter([ConnectionError("not now")])

    def flaky(n: int) -> int:
        for failure in failures:
            raise failure
        return n

    counted = Counted(flaky)
    row_run = RowRun(nodes=[node("flaky", counted.function(is_async=is_async), inputs=N, cache=True, retry=SOON)])
    assert runs.hits(row_run, [{"n": 1}]) == [False]
    assert runs.hits(row_run, [{"n": 1}]) == [True]
    assert counted.calls == [1, 1]


@dataclass
class Found:
    day: date
    places: tuple[int, ...]


def test_outputs_are_of_their_types_again(runs: Runs) -> None:
    """What the annotation names comes back as such: the next node sees no difference."""
    calls: deque[int] = deque()

    def find(n: int) -> Found:
        calls.append(n)
        return Found(date(2026, 11, n), (n, n))

    def use(found: Any) -> Any:
        return [type(found).__name__, found.day.isoformat(), found.places == (3, 3)]

    nodes = [node("find", find, inputs=N, cache=True), node("use", use, inputs={"found": "{{ nodes.find.output }}"})]
    for _ in range(2):
        assert outputs(runs.results(RowRun(nodes=nodes), [{"n": 3}])) == [["Found", "2026-11-03", True]]
    assert list(calls) == [3]


def test_what_does_not_come_back_as_it_was_is_not_kept(runs: Runs) -> None:
    """A later node never gets a list where it got a tuple before; people are told once, and what to do."""
    counted, notes = Counted(lambda n: (n, n)), list[str]()
    row_run = RowRun(nodes=[node("pair", counted.function(is_async=False), inputs=N, cache=True)])
    for _ in range(2):
        runs.results(row_run, ROWS, notes)
    assert counted.calls == [0, 1, 2, 3, 4] * 2
    assert len(notes) == 2 and notes[0] == notes[1]
    assert notes[0].startswith("node pair: outputs of type tuple do not come back from JSON as they were and are not cached. Annotate")


@pytest.mark.parametrize("is_async", [False, True])
def test_whoever_changes_an_output_changes_his_own(runs: Runs, is_async: bool) -> None:
    """Items that share an output do not share the value: a function may take it apart."""
    counted = Counted(lambda n: {"left": [1, 2, 3]})
    nodes = [
        node("give", counted.function(is_async=is_async), inputs={"n": 0}, cache=True),
        node("take", lambda left: (left.pop(), left.pop()), inputs={"left": "{{ nodes.give.output.left }}"}),
    ]
    results = runs.results(RowRun(nodes=nodes, run=Run(parallelism=1)), ROWS)
    assert outputs(results) == [[3, 2]] * 5
    assert counted.calls == [0]


def test_what_takes_no_call_takes_no_budget(runs: Runs) -> None:
    """With a budget of three calls and five items, two of which are known, everything is done."""
    counted = Counted()
    row_run = RowRun(nodes=[node("first", counted.function(is_async=True), inputs=N, cache=True)])
    runs.results(row_run, ROWS[:2])
    limited = replace(row_run, spending=Spending(Budget(max_calls=3)))
    assert [result.status for result in runs.results(limited, ROWS)] == ["completed"] * 5
    assert counted.calls == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_hit_uses_nothing(runs: Runs, is_async: bool) -> None:
    """A function that reports tokens is charged for them once."""

    def ask(n: int, context: Context) -> int:
        context.add_usage(input_tokens=5)
        return n

    async def ask_later(n: int, context: Context) -> int:
        return ask(n, context)

    row_run = RowRun(nodes=[node("ask", ask_later if is_async else ask, inputs=N, cache=True)])
    for usage in (Usage(5), None):
        spending = Spending(Budget())
        (result,) = runs.results(replace(row_run, spending=spending), [{"n": 1}])
        assert (result.nodes[0][9], result.nodes[0][8] is None) == (usage, usage is None)
        assert spending.spent.input_tokens == (5 if usage else 0)


def test_nodes_that_run_together_are_told_apart(runs: Runs) -> None:
    """Of two nodes of an item that wait at the same time, each is recorded for itself."""
    known, new = Counted(), Counted()
    nodes = [node("known", known.function(is_async=True), inputs=N, cache=True), node("new", new.function(is_async=True), inputs=N)]
    runs.results(RowRun(nodes=nodes), ROWS)
    results = runs.results(RowRun(nodes=nodes), ROWS)
    assert [{record[0]: record[10] for record in result.nodes} for result in results] == [{0: True, 1: False}] * 5


def test_a_batch_is_made_of_what_is_not_known(runs: Runs) -> None:
    """Items whose outputs are known neither wait for others nor take up a place in a call."""
    sizes: deque[int] = deque()

    def many(n: list[int]) -> list[int]:
        sizes.append(len(n))
        return [each * 2 for each in n]

    row_run = RowRun(nodes=[node("many", many, inputs=N, cache=True, batch=Batch(max_items=5, max_wait_ms=60_000))])
    assert outputs(runs.results(row_run, ROWS[:3])) == [0, 2, 4]
    assert runs.hits(row_run, ROWS) == [True, True, True, False, False]
    assert list(sizes) == [3, 2]


class Broken:
    """A cache whose entries are nonsense."""

    def __init__(self) -> None:
        self.given: list[bytes] = []

    def get(self, key: bytes) -> bytes | None:
        return [b"{", b'"no date"', b"\xff"][key[0] % 3]

    def put(self, key: bytes, output: bytes, node_id: str, fingerprint: str) -> None:
        self.given.append(output)


@pytest.mark.parametrize("is_async", [False, True])
def test_an_entry_that_cannot_be_read_is_none(is_async: bool) -> None:
    """Whatever is in the cache, an item gets its output; what is called is handed over anew."""

    def when(n: int) -> date:
        return date(2026, 11, 1 + n)

    async def when_later(n: int) -> date:
        return when(n)

    cache = Broken()
    row_run = RowRun(nodes=[node("when", when_later if is_async else when, inputs=N, cache=True)], cache=cache, run=ONCE)
    results = anyio.run(row_run.results, ROWS)
    assert [result.output for result in results] == [date(2026, 11, 1 + n) for n in range(5)]
    assert sorted(cache.given) == [b'"2026-11-0%d"' % n for n in range(1, 6)]


@dataclass(frozen=True, slots=True, kw_only=True)
class OddNode(NodeOptions):
    """What comes back of its outputs cannot be written down."""

    type: str = "odd"

    def bind(self, compiler: NodeCompiler) -> NodeCall:
        return NodeCall(call=lambda scope: 1, key=lambda scope: 1, restore=lambda value: threading.Lock())


def test_a_hit_that_comes_to_nothing_is_no_hit_of_the_next_node() -> None:
    """When what was found cannot be used, its node fails, and the record of the next one is its own."""

    class Found(Broken):
        def get(self, key: bytes) -> bytes | None:
            return b"1"

    nodes = [
        OddNode(id="odd", cache=True, on_failure="continue"),
        node("next", lambda: 2, when="{{ true }}", needs=("odd",)),
    ]
    (result,) = anyio.run(RowRun(nodes=nodes, cache=Found(), run=ONCE).results, [{"n": 1}])
    assert [(record[1], record[2], record[10]) for record in result.nodes] == [("failed", 1, False), ("completed", 1, False)]


async def test_many_hits_do_not_keep_the_event_loop_busy() -> None:
    """While known outputs are handed out, requests of other items, deadlines and the display go on."""
    turns = 0

    class Known(Broken):
        def get(self, key: bytes) -> bytes | None:
            return b"1"

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    async def never(n: int) -> int:
        raise AssertionError(n)

    counting = asyncio.create_task(others())
    results = await RowRun(nodes=[node("known", never, inputs=N, cache=True)], cache=Known()).results([{"n": n} for n in range(5_000)])
    counting.cancel()
    assert all(result.status == "completed" for result in results)
    assert turns >= 3


def test_without_a_cache_calls_are_made() -> None:
    """A job can be tried out without leaving anything behind."""
    counted = Counted()
    row_run = RowRun(nodes=[node("first", counted.function(is_async=True), inputs=N, cache=True)])
    assert len(anyio.run(row_run.results, [*ROWS, *ROWS])) == 10
    assert len(counted.calls) == 10


@pytest.fixture
def stuck() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_a_call_that_hangs_leaves_nothing(runs: Runs, stuck: threading.Event) -> None:
    """What runs past its deadline is a failure: the next execution calls it again."""
    counted = Counted(lambda n: stuck.wait(60) if n == 1 else n)
    row_run = RowRun(nodes=[node("hangs", counted.function(is_async=False), inputs=N, cache=True, timeout_seconds=0.5)], run=ONCE)
    assert [result.status for result in runs.results(row_run, ROWS[:3])] == ["completed", "failed", "completed"]
    results = runs.results(row_run, ROWS[:3])
    assert [(result.status, result.nodes[0][10]) for result in results] == [("completed", True), ("failed", False), ("completed", True)]
    assert sorted(counted.calls) == [0, 1, 1, 2]
