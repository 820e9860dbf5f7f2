"""Parts of calls: what becomes of an item when one of them fails or waits."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anyio
import pytest

import batchrun
from batchrun.core.job import Run
from batchrun.core.policies import Backoff, Retry
from batchrun.nodes.python import PythonNode
from batchrun.testing.rows import ListJournal, RowRun
from batchrun.workflows.functions import node, workflow
from tests.unit.engine.flow_runs import ONCE, THROTTLES, Moody, flow, given, in_flow, nodes_of, ran, statuses, sub


@pytest.mark.parametrize("is_async", [True, False])
def test_a_part_is_tried_again_by_its_own_rules(is_async: bool) -> None:
    """The item counts its attempts, and the outer node was called once."""
    moody = Moody(fails=2)
    (result,) = ran(in_flow(nodes_of(moody, is_async=is_async), is_async=is_async))
    assert (given(result), result.attempts) == (3, 3)
    assert statuses(result) == [(-1, "completed", 3), (0, "completed", 1)]


@pytest.mark.parametrize("is_async", [True, False])
def test_what_has_failed_in_a_part_is_not_tried_again_by_the_outer_node(is_async: bool) -> None:
    """Else three attempts inside of three would be nine."""
    moody = Moody(fails=99)
    (result,) = ran(in_flow(nodes_of(moody, is_async=is_async), is_async=is_async))
    assert (result.status, result.attempts, moody.calls) == ("failed", 3, 3)
    assert result.error is not None and result.error[:3] == ("ConnectionError", "not now", "flow.called")


@pytest.mark.parametrize("outer_is_async", [True, False])
@pytest.mark.parametrize("limits", [{}, {"item_timeout_seconds": 10}])
def test_time_in_which_a_part_is_throttled_does_not_count(outer_is_async: bool, limits: dict[str, Any]) -> None:
    """Plain functions are throttled in a lane thread, while the deadline of the call is kept on the event loop."""
    moody = Moody(fails=30)
    retry = Retry(max_attempts=1, backoff=Backoff(initial_seconds=1, max_seconds=1), rules=THROTTLES.rules)
    (result,) = ran(in_flow(nodes_of(moody, is_async=False, retry=retry), is_async=outer_is_async), run=Run(**limits))
    assert (given(result), result.attempts) == (31, 1)
    assert statuses(result)[0] == (-1, "completed", 1)


def test_a_throttled_part_puts_the_deadline_of_the_outer_call_off_by_as_much() -> None:
    """Not by more: each throttled call would else begin the time of the outer one anew."""
    moody = Moody(fails=2)
    retry = Retry(max_attempts=1, backoff=Backoff(initial_seconds=0, max_seconds=0), rules=THROTTLES.rules)
    called = nodes_of(moody, is_async=True, retry=retry)

    @workflow
    async def run(n: int) -> int:
        await asyncio.sleep(0.6)
        number: int = await called(n)
        await asyncio.sleep(0.6)
        return number

    (result,) = ran(flow(run, timeout_seconds=1, retry=ONCE))
    assert result.error is not None and result.error[:3] == ("Timeout", "the call ran longer than timeout_seconds: 1", "flow")


def test_the_deadline_of_an_item_ends_its_parts() -> None:
    """A part that takes too long fails its item, and nothing is tried again."""

    @node
    async def slow(n: int) -> int:
        await asyncio.sleep(100)
        return n

    @workflow
    async def run(n: int) -> int:
        return await slow(n)

    (result,) = ran(flow(run), run=Run(item_timeout_seconds=5))
    assert result.error is not None and result.error.type == "Timeout"
    assert result.duration_ms == pytest.approx(5_000, abs=10)


def test_a_failure_before_any_part_has_begun_is_one_of_the_outer_node() -> None:
    """The inputs of a sub-workflow may fail, and so may its condition."""

    @node
    def one(n: int) -> int:
        return n

    bad = PythonNode(id="bad", call=workflow(one.function), inputs={"n": "{{ item.n.x.y }}"})
    worse = PythonNode(id="worse", call=workflow(one.function), inputs={"n": "{{ item.n }}"}, when="{{ item.n.x.y }}")
    for each in (bad, worse):
        (result,) = ran(each)
        assert result.error is not None and result.error.node_id == each.id
    inside = sub(flow(lambda n: n, id="one"), when="{{ item.n.x.y }}")
    (result,) = ran(inside)
    assert result.error is not None and result.error.node_id == "sub"


@pytest.mark.parametrize("is_async", [True, False])
def test_a_failure_that_is_caught_is_not_repeated(is_async: bool) -> None:
    """A plain function runs again from its start when a later node is tried again: what has failed for good stays so."""
    broken, moody = Moody(fails=99, error=ValueError), Moody(fails=2)
    first, second = (nodes_of(each, is_async=is_async) for each in (broken, moody))
    second = second.with_options(name="second")

    async def run_async(n: int) -> Any:
        try:
            return await first(n)
        except ValueError:
            return ["caught", await second(n)]

    def run(n: int) -> Any:
        try:
            return first(n)
        except ValueError:
            return ["caught", second(n)]

    (result,) = ran(flow(workflow(run_async if is_async else run)))
    assert given(result) == ["caught", 3]
    assert (broken.calls, moody.calls) == (3, 3)


def test_an_outer_node_that_is_tried_again_goes_on_where_it_was() -> None:
    """What ended is not repeated, and what had failed has another chance."""
    good, moody = Moody(fails=0), Moody(fails=1)
    first, second = nodes_of(good, is_async=True), nodes_of(moody, is_async=True, retry=ONCE).with_options(name="second")

    @workflow
    async def run(n: int) -> Any:
        await first(n)
        try:
            return await second(n)
        except ConnectionError:
            raise RuntimeError("in other words") from None

    (result,) = ran(flow(run))
    assert (given(result), good.calls, moody.calls) == (2, 1, 2)
    assert result.attempts == 2


def test_exceptions_that_are_raised_together_stand_for_the_part_that_failed() -> None:
    """A task group wraps what its tasks raise: it is no failure of its own, which would be tried again."""
    moody = Moody(fails=99, error=ValueError)
    called = nodes_of(moody, is_async=True)

    @workflow
    async def run(n: int) -> Any:
        async with asyncio.TaskGroup() as group:
            group.create_task(called(n))

    (result,) = ran(flow(run))
    assert result.error is not None and result.error[:3] == ("ValueError", "not now", "flow.called")
    assert moody.calls == 3


@pytest.mark.parametrize("is_async", [True, False])
def test_code_that_catches_everything_does_not_hide_that_the_item_cannot_go_on(is_async: bool) -> None:
    """A call that must wait would else be given up for its fallback in the user's code, at its first backoff."""
    moody = Moody(fails=1)
    called = nodes_of(moody, is_async=is_async)

    def run(n: int) -> Any:
        try:
            return called(n)
        except BaseException:  # noqa: BLE001
            return "given up"

    async def run_async(n: int) -> Any:
        try:
            return await batchrun.pause(output=n)
        except BaseException:  # noqa: BLE001
            return "given up"

    (result,) = ran(flow(workflow(run_async if is_async else run)))
    assert result.status == ("waiting" if is_async else "completed")
    assert result.output == (None if is_async else b"2")


def test_one_branch_that_fails_for_good_ends_an_item_that_waits_in_another() -> None:
    """Nobody is asked about an item that has failed."""

    @node(retry=ONCE)
    async def fail(n: int) -> int:
        await asyncio.sleep(n)
        raise ValueError("no good")

    @workflow
    async def run(n: int) -> Any:
        return await batchrun.gather(batchrun.pause(output="?"), fail(n))

    for result in ran(flow(run), count=2):
        assert (result.status, result.error and result.error.node_id) == ("failed", "flow.fail")
        assert "waiting" not in [each[1] for each in result.nodes]


def test_an_item_may_wait_in_two_branches_at_once() -> None:
    """Each is written down under a name of its own, though people see the same."""

    @workflow
    async def run(n: int) -> Any:
        return await batchrun.gather(batchrun.pause(output=1), batchrun.pause(output=2))

    journal = ListJournal()
    (result,) = ran(flow(run), journal=journal)
    assert result.status == "waiting"
    waiting = [each for each in journal.entries if each.record is not None and each.record[1] == "waiting"]
    assert [each.output for each in waiting] == [b"1", b"2"]
    assert len({each.node_id for each in waiting}) == 2


def test_the_first_failure_of_a_gather_keeps_the_rest_from_beginning() -> None:
    """Also when nothing in them ever waits, so that there is no moment at which they could be cancelled."""
    begun = []

    @node(retry=ONCE)
    async def fail(k: int) -> int:
        begun.append(k)
        raise ValueError(k)

    @workflow
    async def run(n: int) -> Any:
        return await batchrun.gather(*[fail(k) for k in range(10)], limit=2)

    (result,) = ran(flow(run))
    assert result.error is not None and result.error.message == "0"
    assert len(begun) <= 2


_COMPILING: set[int] = set()
_TWO_AT_WORK = threading.Barrier(2)
_BOTH_COMPILE = threading.Event()


def seen() -> type:
    """The type of a parameter, looked up while its function is made a node: waits for another thread that does the same."""
    _COMPILING.add(threading.get_ident())
    if len(_COMPILING) > 1:
        _BOTH_COMPILE.set()
    _BOTH_COMPILE.wait(0.2)
    return int


def test_a_function_that_lanes_come_to_at_once_is_made_a_node_once() -> None:
    """Else each lane reads its source anew, and the function is set up in two engines that know nothing of one another."""

    def doubled(n: seen()) -> int:  # type: ignore[valid-type]
        return n * 2

    called = node(doubled)

    @workflow
    def run(n: int) -> int:
        _TWO_AT_WORK.wait(10)
        number: int = called(n)
        return number

    results = anyio.run(RowRun(nodes=(flow(run),), run=Run(parallelism=2)).results, [{"n": 1}, {"n": 2}])
    assert [given(result) for result in results] == [2, 4]
    assert len(_COMPILING) == 1
