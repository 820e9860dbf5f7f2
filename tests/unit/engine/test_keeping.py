"""What is handed to the journal while items run."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any, Literal

import anyio
import pytest

from batchrun.core.errors import HttpStatusError
from batchrun.core.executions import Stop
from batchrun.core.items import KeptNode
from batchrun.core.job import DefaultOnFailure, Run
from batchrun.core.policies import Backoff, Match, Retry, RetryRule
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.testing.clock import run_virtually
from batchrun.testing.rows import ListJournal, ListSink, RowRun
from tests.unit.engine.small_nodes import ONCE, node

N = {"n": "{{ item.n }}"}
ROWS = [{"n": n} for n in range(3)]


async def again(n: int) -> int:
    return n


async def slow(n: int) -> int:
    await anyio.sleep(5)
    return n


def entries(journal: ListJournal) -> list[tuple[int, str, str | None, bytes | None]]:
    return [(entry.ordinal, entry.node_id, entry.record and entry.record[1], entry.output) for entry in journal.entries]


def test_items_that_end_within_a_tick_cost_nothing() -> None:
    """Most items are fast: their row is all that is written of them."""

    async def quick(n: int) -> int:
        await anyio.sleep(0.03)
        return n

    journal = ListJournal()
    nodes = [node("a", quick, inputs=N), node("b", again, inputs={"n": "{{ nodes.a.output }}"})]
    RowRun(nodes=nodes, run=Run(parallelism=1), journal=journal).results_virtually(ROWS)
    assert journal.entries == []


@pytest.mark.parametrize("recording", ["full", "summary", "none"])
def test_what_ended_is_kept_while_the_next_node_waits(recording: Literal["full", "summary", "none"]) -> None:
    """However nodes end, a crash during the next one costs only that one; each is handed over once."""
    rules = (RetryRule(match=Match(error_type="LookupError"), action="fail"),)

    async def fails(n: int) -> int:
        raise LookupError(n)

    nodes = [
        node("done", again, inputs=N),
        node("skipped", again, inputs=N, when="{{ item.n > 5 }}"),
        node("failed", fails, inputs=N, on_failure="continue", retry=Retry(rules=rules)),
        node("default", fails, inputs=N, on_failure=DefaultOnFailure(default=[7]), retry=Retry(rules=rules)),
        node("slow", slow, inputs=N, needs=("done", "skipped", "failed", "default")),
    ]
    journal = ListJournal()
    (result,) = RowRun(nodes=nodes, journal=journal, recording=recording).results_virtually([{"n": 1}])
    assert result.status == "completed"
    assert sorted(entries(journal)) == [
        (0, "default", "failed", b"[7]"),
        (0, "done", "completed", b"1"),
        (0, "failed", "failed", b"null"),
        (0, "skipped", "skipped", b"null"),
    ]
    assert {entry.item_index for entry in journal.entries} == {0}
    recorded = {record[0]: record for record in result.nodes}
    kept = {entry.record[0]: entry.record for entry in journal.entries if entry.record is not None}
    if recording == "none":
        assert kept[0] == (0, "completed", 1, None, 0.0, None, None, None, None, None, False)
        assert kept[1][2] == 0
    else:
        assert kept == {position: recorded[position] for position in kept}


async def test_what_ended_is_kept_while_a_lane_is_in_the_next_call() -> None:
    """Functions in threads are looked at while they run, by a timer that they cannot hold up."""
    is_kept = threading.Event()

    class Journal(ListJournal):
        def keep(self, nodes: Any) -> None:
            super().keep(nodes)
            is_kept.set()

    nodes = [
        node("first", lambda n: {"n": n}, inputs=N),
        node("second", lambda n: is_kept.wait(30), inputs={"n": "{{ nodes.first.output.n }}"}),
    ]
    journal = Journal()
    (result,) = await RowRun(nodes=nodes, journal=journal).results(ROWS[1:2])
    assert result.output == b"true"
    assert entries(journal) == [(0, "first", "completed", b'{"n":1}')]


async def test_an_item_that_is_sent_back_keeps_its_attempts_at_once() -> None:
    """Attempts are not given out anew after a crash, and what ended before is never repeated."""
    seen: list[list[KeptNode]] = []
    journal = ListJournal()

    def flaky(n: int) -> int:
        seen.append(list(journal.entries))
        if len(seen) < 3:
            raise ConnectionError("not now")
        return n

    nodes = [node("first", lambda n: n, inputs=N), node("flaky", flaky, inputs=N, needs=("first",))]
    retry = Retry(max_attempts=3, backoff=Backoff(initial_seconds=0, max_seconds=0))
    await RowRun(nodes=nodes, run=Run(retry=retry), journal=journal).results(ROWS[:1])
    assert [
        [(entry.node_id, entry.item_attempts, entry.node_attempts, entry.record is not None) for entry in before] for before in seen
    ] == [
        [],
        [("first", 2, 0, True), ("flaky", 2, 1, False)],
        [("first", 2, 0, True), ("flaky", 2, 1, False), ("flaky", 3, 2, False)],
    ]


def test_a_throttled_item_keeps_what_ended_and_uses_up_no_attempt() -> None:
    """A busy service may send items back a thousand times: that is nothing to remember."""
    calls = Counter[int]()

    async def busy(n: int) -> int:
        calls[n] += 1
        if calls[n] < 5:
            raise HttpStatusError("busy", 429)
        return n

    nodes = [node("first", again, inputs=N), node("busy", busy, inputs=N, needs=("first",))]
    journal = ListJournal()
    RowRun(nodes=nodes, journal=journal).results_virtually(ROWS[:1])
    assert [(entry.node_id, entry.item_attempts) for entry in journal.entries] == [("first", 1)]


@pytest.mark.parametrize("is_async", [False, True])
async def test_failed_items_keep_what_their_nodes_gave(is_async: bool) -> None:
    """A later retry starts at the node that failed; items that complete leave nothing."""

    def bad(n: int) -> int:
        return 1 // n

    async def bad_async(n: int) -> int:
        return 1 // n

    nodes = [node("first", lambda n: n, inputs=N), node("bad", bad_async if is_async else bad, inputs=N, needs=("first",))]
    journal = ListJournal()
    results = await RowRun(nodes=nodes, run=ONCE, journal=journal).results(ROWS)
    assert Counter(result.status for result in results) == {"failed": 1, "completed": 2}
    assert entries(journal) == [(0, "first", "completed", b"0")]


def test_cancelled_items_keep_what_their_nodes_gave() -> None:
    """A pause costs no finished call, even when the grace period cuts off the one in flight."""

    async def forever(n: int) -> int:
        await anyio.sleep(3600)
        return n

    journal, started = ListJournal(), list[Dispatcher[Any]]()
    nodes = [node("first", again, inputs=N), node("second", forever, inputs=N, needs=("first",))]
    row_run = RowRun(nodes=nodes, run=Run(parallelism=2, grace_seconds=0.02), journal=journal, on_start=started.append)

    async def main() -> list[Any]:
        async with anyio.create_task_group() as group:
            group.start_soon(stop)
            return await row_run.results(ROWS)

    async def stop() -> None:
        await anyio.sleep(0.05)  # before the first look at what has ended
        started[0].stop(Stop("user", "enough"))

    results = run_virtually(main)
    assert [result.status for result in results] == ["cancelled"] * 3
    assert sorted(entries(journal)) == [(0, "first", "completed", b"0"), (1, "first", "completed", b"1")]


async def test_what_an_abandoned_item_has_done_is_kept() -> None:
    """A call that hangs is given up: what its item had before, and that it hung, costs no second call."""
    forever = threading.Event()
    nodes = [
        node("first", lambda n: n, inputs=N),
        node("hangs", lambda n: forever.wait(), inputs=N, needs=("first",), timeout_seconds=0.05, retry=ONCE.retry, on_failure="continue"),
        node("bad", lambda n: 1 // 0, inputs=N, needs=("hangs",)),
    ]
    journal = ListJournal()
    try:
        await RowRun(nodes=nodes, run=ONCE, journal=journal).results(ROWS[:1])
    finally:
        forever.set()
    assert set(entries(journal)) == {(0, "first", "completed", b"0"), (0, "hangs", "failed", b"null")}


class OddError(Exception):
    pass


class Uncomparable:
    """Can be written down and never compared."""

    def model_dump(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise OddError

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("value", [(1, 2), Uncomparable()])
def test_outputs_that_json_changes_are_not_kept_and_people_are_told_once(value: Any) -> None:
    """Their nodes run again after a crash, rather than that later nodes get something else."""

    async def odd(n: int) -> Any:
        return value

    notes: list[str] = []
    journal = ListJournal()
    nodes = [node("odd", odd, inputs=N), node("fine", again, inputs=N), node("slow", slow, inputs=N, needs=("odd", "fine"))]
    sink = ListSink()
    run_virtually(RowRun(nodes=nodes, journal=journal, on_note=notes.append).results, ROWS, sink)
    assert {entry.node_id for entry in journal.entries} == {"fine"}
    assert len(notes) == 1
    assert notes[0].startswith(f"node odd: outputs of type {type(value).__name__} do not come back from JSON as they were")
    assert [result.status for result in sink.taken] == ["completed"] * 3
