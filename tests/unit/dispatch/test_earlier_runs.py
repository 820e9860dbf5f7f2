"""Going on where an earlier run of the execution ended: its counts, and the items it left."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from batchrun.core.errors import ExecutionError
from batchrun.core.executions import Stop
from batchrun.core.items import Item
from batchrun.core.job import Run, Workflow
from batchrun.core.policies import FailurePolicy, Retry
from batchrun.dispatch.counts import Counts
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.dispatch.feed import Feed
from batchrun.dispatch.neighbours import Rooms
from batchrun.engine.engine import Engine, EngineSettings
from batchrun.nodes.python import PythonNode
from batchrun.testing.rows import ListSink
from batchrun.workflows.compiler import Surroundings, compile_workflow

ONE_AT_A_TIME = Run(parallelism=1, retry=Retry(max_attempts=1), failure_policy=FailurePolicy(max_failures=10))


def items(*ordinals: int) -> list[Item]:
    return [Item(ordinal, ordinal, ordinal, {"n": ordinal}, None, 0) for ordinal in ordinals]  # type: ignore[arg-type]


class Again:
    """A run that goes on from the counts of earlier ones."""

    def __init__(self, call: Callable[[int], Any], run: Run, counts: Counts | None = None) -> None:
        self.node = PythonNode(id="node", call=call, inputs={"n": "{{ item.n }}"})
        self.run = run
        self.counts = counts
        self.sink = ListSink()
        self.dispatcher: Dispatcher[Any]

    async def over(self, windows: Iterable[list[Item]]) -> None:
        plan = compile_workflow(Workflow(nodes=(self.node,)), Surroundings(columns=("n",), vars={}, resources={}, run=self.run))
        clock = asyncio.get_running_loop().time
        settings = EngineSettings("test", self.run)
        async with Engine(plan, settings, on_stop=self.stop, clock=clock) as engine:
            self.dispatcher = Dispatcher(engine, Rooms(Feed(iter(windows)), self.sink), self.run, self.counts)
            await (self.dispatcher.run_chunks() if plan.is_in_chunks else self.dispatcher.run_items())

    def stop(self, cause: Stop) -> None:
        self.dispatcher.stop(cause)

    @property
    def ended(self) -> list[tuple[int, str]]:
        return sorted((result.item.ordinal, result.status) for result in self.sink.taken)


def double(n: int) -> int:
    return 2 * n


async def double_soon(n: int) -> int:
    await anyio.lowlevel.checkpoint()
    return 2 * n


@pytest.mark.parametrize("call", [double, double_soon])
async def test_scattered_items_in_windows_that_may_be_empty_are_all_run(call: Callable[[int], Any]) -> None:
    """A resume leaves out what is done: gaps between ordinals, and whole windows with nothing in them, are no end."""
    before = Counts(completed=70, failed=20, skipped=4)
    again = Again(call, Run(parallelism=3), before)
    with anyio.fail_after(20):
        await again.over([[], items(3), [], [], items(90, 95, 96), items(1_000_000), []])
    assert again.ended == [(ordinal, "completed") for ordinal in (3, 90, 95, 96, 1_000_000)]
    assert again.dispatcher.counts == Counts(completed=75, failed=20, skipped=4)
    assert (again.dispatcher.loaded_items, again.dispatcher.open_items) == (5, 0)
    assert before == Counts(completed=70, failed=20, skipped=4)


@pytest.mark.parametrize("call", [double, double_soon])
async def test_nothing_left_to_run_ends_at_once(call: Callable[[int], Any]) -> None:
    """Resuming an execution whose items are all done is no mistake."""
    again = Again(call, Run(), Counts(completed=3))
    with anyio.fail_after(20):
        await again.over([])
    assert (again.ended, again.dispatcher.counts, again.dispatcher.stop_cause) == ([], Counts(completed=3), None)


async def test_open_items_are_those_of_this_run() -> None:
    """What ended long ago is neither open nor missing from what is."""
    seen: list[tuple[int, int]] = []

    async def call(n: int) -> int:
        seen.append((again.dispatcher.open_items, again.dispatcher.counts.ended))
        return n

    again = Again(call, ONE_AT_A_TIME, Counts(completed=50, cancelled=1))
    await again.over([items(*range(3)), items(9)])
    assert seen == [(1, 51), (1, 52), (1, 53), (1, 54)]


@pytest.mark.parametrize(("failed", "calls"), [(0, 11), (9, 2), (10, 1), (500, 1)])
async def test_the_failure_policy_counts_earlier_failures(failed: int, calls: int) -> None:
    """A stopped execution that is simply resumed stops again, but not before something new has ended."""
    called = Counter[int]()

    async def call(n: int) -> None:
        called[n] += 1
        raise TypeError(n)

    again = Again(call, ONE_AT_A_TIME, Counts(failed=failed))
    await again.over([items(*range(40))])
    cause = again.dispatcher.stop_cause
    assert cause is not None
    assert cause.message == f"{failed + calls} items failed, more than max_failures: 10"
    assert called.total() == calls


async def test_a_dataset_that_cannot_be_read_is_not_taken_for_a_breach_of_the_policy() -> None:
    """With too many failures from before and no new item, the one cause is what broke the run."""

    def windows() -> Iterator[list[Item]]:
        yield []
        raise ExecutionError("a.parquet is gone")

    again = Again(double, ONE_AT_A_TIME, Counts(failed=500))
    with pytest.raises(ExecutionError, match=r"a\.parquet is gone"):
        await again.over(windows())
    assert again.dispatcher.stop_cause is None
