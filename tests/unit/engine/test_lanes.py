from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import anyio

from batchrun.core.items import Item, ItemResult, ItemStatus
from batchrun.core.job import DefaultOnFailure, Run
from batchrun.core.policies import Retry
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.engine.lane import LaneQueue
from batchrun.testing.clock import VirtualLoop
from batchrun.testing.rows import ListSink, RowRun
from tests.unit.engine.small_nodes import node, outputs


async def test_sync_functions_never_run_on_the_event_loop_thread() -> None:
    """A function that hangs must not freeze every deadline, also in a workflow that mixes sync and async nodes."""
    threads: set[str] = set()

    def where(n: int) -> int:
        threads.add(threading.current_thread().name)
        return n

    async def waits(n: int) -> int:
        await anyio.lowlevel.checkpoint()
        return n

    sync = node("where", where, inputs={"n": "{{ item.n }}"})
    mixed = [
        sync,
        node("waits", waits, inputs={"n": "{{ nodes.where.output }}"}),
        node("again", where, inputs={"n": "{{ nodes.waits.output }}"}),
    ]
    assert outputs(await RowRun(nodes=[sync]).results([{"n": 1}])) == [1]
    assert outputs(await RowRun(nodes=mixed).results([{"n": n} for n in range(50)])) == list(range(50))
    assert threads
    assert all(name.startswith("batchrun-lane-") for name in threads)


async def test_a_function_that_hangs_fails_its_item_alone() -> None:
    """One hung call ends at its deadline; what was queued behind it in the same lane is done by another."""
    forever = threading.Event()

    def sometimes(n: int) -> int:
        if n == 3:
            forever.wait()
        return n

    try:
        hang = node("hang", sometimes, inputs={"n": "{{ item.n }}"}, timeout_seconds=1, retry=Retry(max_attempts=1))
        results = await RowRun(nodes=[hang], run=Run(parallelism=1)).results([{"n": n} for n in range(300)])
    finally:
        forever.set()
    assert Counter(result.status for result in results) == {"completed": 299, "failed": 1}
    error = results[3].error
    assert error is not None
    assert (error.type, error.node_id) == ("Timeout", "hang")
    assert "timeout_seconds: 1" in error.message


async def test_an_abandoned_call_that_returns_late_changes_nothing() -> None:
    """The thread of an abandoned call may come back at any time: neither its value nor its next node may show."""
    late, seen = threading.Event(), []

    def slow(n: int) -> int:
        late.wait()
        return n

    nodes = [
        node(
            "slow",
            slow,
            inputs={"n": "{{ item.n }}"},
            timeout_seconds=0.05,
            retry=Retry(max_attempts=1),
            on_failure=DefaultOnFailure(default=-1),
        ),
        node("next", lambda n: seen.append(n) or n, inputs={"n": "{{ nodes.slow.output }}"}),
    ]
    results = await RowRun(nodes=nodes).results([{"n": 7}])
    late.set()
    await anyio.to_thread.run_sync(_join_lanes)
    assert outputs(results) == [-1]
    assert seen == [-1]


def _join_lanes() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("batchrun-lane-"):
            thread.join(timeout=5)


async def test_more_lanes_are_used_when_calls_block() -> None:
    """As many calls as `parallelism` says are under way at once, and never more."""
    at_once = threading.Barrier(8)
    results = await RowRun(nodes=[node("meet", lambda n: at_once.wait(30), inputs={"n": "{{ item.n }}"})], run=Run(parallelism=8)).results(
        [{"n": n} for n in range(16)]
    )
    assert {result.status for result in results} == {"completed"}


class _NotingSink(ListSink):
    """Tells when so many results have come."""

    def __init__(self, wanted: int) -> None:
        super().__init__()
        self.have_come = threading.Event()
        self._wanted = wanted

    def put(self, results: Sequence[ItemResult]) -> None:
        """Keep results."""
        super().put(results)
        if len(self.taken) >= self._wanted:
            self.have_come.set()


class _Packed(NamedTuple):
    statuses: Counter[ItemStatus]
    results: Sequence[ItemResult]


class _PackingSink(ListSink):
    """Has results packed, and notes by whom."""

    def __init__(self) -> None:
        super().__init__()
        self.by: Counter[str] = Counter()

    def pack(self, results: Sequence[ItemResult]) -> _Packed:
        """Pack them."""
        self.by[threading.current_thread().name] += len(results)
        return _Packed(Counter(result.status for result in results), results)

    def put_rows(self, rows: _Packed) -> None:
        """Keep what is packed."""
        self.put(rows.results)


def test_results_of_short_calls_are_packed_by_the_lane_that_has_made_them() -> None:
    """Rows are never made on the event loop, for which everybody waits; no item is lost or counted twice."""
    sink, dispatchers = _PackingSink(), list[Dispatcher[Any]]()

    def call(n: int) -> int:
        if n % 10 == 3:
            raise ValueError(n)
        return n

    run = Run(parallelism=4, retry=Retry(max_attempts=1))
    job = RowRun(nodes=[node("call", call, inputs={"n": "{{ item.n }}"})], run=run, on_start=dispatchers.append)
    rows = [{"n": n} for n in range(20_000)]
    results = anyio.run(job.results, rows, sink, backend_options={"loop_factory": VirtualLoop})  # on which calls take no time
    assert [result.item.ordinal for result in results] == list(range(20_000))
    assert (dispatchers[0].counts.completed, dispatchers[0].counts.failed) == (18_000, 2_000)
    assert sink.by.total() > 0
    assert all(name.startswith("batchrun-lane-") for name in sink.by)


async def test_what_has_ended_does_not_wait_for_a_long_call_after_it() -> None:
    """A lane hands results over in chunks; those before a call that takes minutes must be safe on the disk meanwhile."""
    sink = _NotingSink(wanted=900)

    def long_after_short(n: int) -> bool:
        return n < 900 or sink.have_come.wait(60)

    results = await RowRun(nodes=[node("call", long_after_short, inputs={"n": "{{ item.n }}"})], run=Run(parallelism=1)).results(
        [{"n": n} for n in range(901)], sink
    )
    assert outputs(results) == [True] * 901


def test_lanes_use_up_a_chunk_together() -> None:
    """Whichever lane finds a chunk at its end drops it, once, and a chunk that came meanwhile stays."""
    queue, items = LaneQueue(), [Item(ordinal, ordinal, ordinal, {}, None, 0) for ordinal in range(5)]  # type: ignore[arg-type]
    queue.fresh.append(items[1::-1])
    one = other = queue.fresh[0]
    assert [one.pop(), other.pop(), one] == [*items[:2], []]
    queue.fresh.append(items[:1:-1])
    after = queue.after(one)
    assert after is queue.after(other)
    assert after.pop() is items[2]
    assert queue.withdraw() == items[3:]
    assert (queue.after(after), bool(queue)) == ([], False)
