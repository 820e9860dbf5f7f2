"""Items that go on after an interruption: what ended in parts of their calls is not done again."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import anyio
import pytest

import batchrun
from batchrun.core.items import KeptNode, RestoredItem
from batchrun.core.job import Run, Workflow
from batchrun.core.policies import Retry
from batchrun.nodes.python import PythonNode
from batchrun.nodes.workflow import WorkflowNode
from batchrun.testing.rows import ListJournal, RowRun
from batchrun.workflows.functions import node, workflow
from tests.unit.engine.flow_runs import ONCE, flow, given, ran, statuses, sub

CALLS: Counter[str] = Counter()
BROKEN: set[str] = set()
KEYS: list[str] = []


@pytest.fixture(autouse=True)
def nothing_called() -> None:
    CALLS.clear()
    BROKEN.clear()
    KEYS.clear()


def called(name: str, value: Any) -> Any:
    CALLS[name] += 1
    if name in BROKEN:
        raise ConnectionError(name)
    return value


@node
async def first(n: int) -> int:
    return int(called("first", n + 1))


@node(retry=ONCE)
async def second(n: int) -> int:
    return int(called("second", n + 10))


@workflow
async def inner(n: int) -> int:
    return await second(await first(n))


@workflow
async def outer(n: int) -> Any:
    stamps = [str(batchrun.now()), str(batchrun.uuid()), batchrun.random()]
    return [await inner(n), await batchrun.gather(first(n), inner(n)), stamps]


def restored(journal: ListJournal, generation: int = 0) -> dict[int, RestoredItem]:
    """As the files of an execution would say: the newest entry of each node comes last."""
    newest: dict[str, KeptNode] = {}
    for entry in journal.entries:
        newest.pop(entry.node_id, None)
        newest[entry.node_id] = entry
    return {0: RestoredItem(1, generation, tuple(newest.values()), {})} if newest else {}


def test_what_ended_is_not_called_again_two_levels_down() -> None:
    """The second of two nodes has failed, in a workflow that a workflow calls."""
    journal = ListJournal()
    BROKEN.add("second")
    (failed,) = ran(flow(outer), journal=journal)
    assert failed.error is not None and failed.error.node_id == "flow.inner.second"
    assert CALLS == {"first": 1, "second": 1}
    BROKEN.clear()
    (result,) = ran(flow(outer), journal=ListJournal(), restored=restored(journal))
    assert given(result)[:2] == [11, [1, 11]]
    assert CALLS == {"first": 3, "second": 3}


def test_any_interruption_gives_what_an_uninterrupted_run_gives() -> None:
    """Each entry of the journal may have been the last one."""
    after = PythonNode(id="after", call=lambda x: called("after", x), inputs={"x": "{{ nodes.flow.output }}"}, retry=ONCE)
    journal = ListJournal()
    BROKEN.add("after")  # else nothing is kept of an item that has ended at once
    ran(flow(outer), after, journal=journal)
    BROKEN.clear()
    entries, made = list(journal.entries), CALLS.total()
    assert made == 6
    for count in range(len(entries) + 1):
        CALLS.clear()
        journal.entries = entries[:count]
        (result,) = ran(flow(outer), after, restored=restored(journal))
        assert given(result)[:2] == [11, [1, 11]]
        kept = {each.node_id for each in journal.entries if each.node_id.endswith(("/first", "/second"))}
        is_over = any(each.node_id == "flow" for each in journal.entries)
        assert CALLS.total() == (1 if is_over else made - len(kept))


def test_recorded_values_stay_after_a_retry_and_call_keys_do_not() -> None:
    """A chosen item runs again in a new generation: services must not take its calls for those made before."""

    @node(retry=ONCE)
    async def sends(context: batchrun.Context, name: str) -> str:
        KEYS.append(context.call_key)
        return str(called(name, name))

    @workflow
    async def run(n: int) -> Any:
        return [batchrun.random(), await sends(name="one"), str(batchrun.uuid()), await sends(name="two")]

    journal = ListJournal()
    BROKEN.add("two")
    (failed,) = ran(flow(run), journal=journal)
    assert failed.status == "failed"
    values = [each.output for each in journal.entries if each.node_id.endswith(("/random", "/uuid"))]
    BROKEN.clear()
    (result,) = ran(flow(run), journal=ListJournal(), restored=restored(journal, generation=1))
    assert [f"{given(result)[0]}".encode(), f'"{given(result)[2]}"'.encode()] == values
    assert CALLS == {"one": 1, "two": 2}
    assert len(set(KEYS)) == len(KEYS) == 3


def test_other_values_than_before_are_refused() -> None:
    """What a workflow does must follow from its item; else what was kept would be taken for something else."""
    started = []

    @workflow
    async def run(n: int) -> Any:
        started.append(n)
        return [await first(n + len(started)), await second(n)]

    journal = ListJournal()
    BROKEN.add("second")
    ran(flow(run), journal=journal)
    BROKEN.clear()
    (result,) = ran(flow(run), journal=ListJournal(), restored=restored(journal))
    assert result.error is not None and result.error.type == "ReplayMismatch"
    assert result.error.message.startswith("flow/first:0 is called with other values than before")


def test_other_values_in_the_same_process_are_refused_too() -> None:
    """The outer node is tried again, and its function does something else."""
    started = []

    @workflow
    async def run(n: int) -> Any:
        started.append(n)
        await first(n + len(started))
        raise ConnectionError("again")

    (result,) = ran(flow(run), journal=ListJournal())
    assert result.error is not None and result.error.type == "ReplayMismatch"
    assert len(started) == 2


@pytest.mark.parametrize(("stale", "calls"), [({"sub"}, {"second": 1}), ({"before"}, {"before": 1, "first": 1, "second": 1})])
def test_an_edit_of_a_node_before_throws_parts_away(stale: set[str], calls: dict[str, int]) -> None:
    """But an edit of the node whose parts they are leaves those that were not edited themselves."""
    before = flow(lambda n: called("before", n), "before")
    parts = (flow(first.function, "first"), PythonNode(id="second", call=second.function, inputs={"n": "{{ nodes.first.output }}"}))
    nested = replace(sub(*parts, retry=ONCE), inputs={"n": "{{ nodes.before.output }}"})
    journal = ListJournal()
    BROKEN.add("second")
    ran(before, nested, journal=journal, run=Run(retry=Retry(max_attempts=1)))
    BROKEN.clear()
    CALLS.clear()
    (result,) = ran(before, nested, journal=ListJournal(), restored=restored(journal), stale=frozenset(stale))
    assert given(result) == 11
    assert calls == CALLS


@node(name="second", retry=ONCE)
async def mended(n: int) -> int:
    return int(called("second", n + 100))


async def other(n: int) -> int:
    return int(called("other", n + 1000))


def two_calls(head: Any, tail: Any, more: int = 0) -> Any:
    @workflow
    async def run(n: int) -> int:
        return int(await third(await tail(await head(n) + more)))

    return flow(run)


@node(retry=ONCE)
async def third(n: int) -> int:
    return int(called("third", n + 10_000))


@pytest.mark.parametrize(
    ("edited", "calls", "output"),
    [
        (two_calls(first, second), {"third": 1}, 10_011),
        (two_calls(first, mended), {"second": 1, "third": 1}, 10_101),
        (two_calls(node(name="first")(other), second), {"other": 1, "second": 1, "third": 1}, 11_010),
        (two_calls(first, second, 5), {"second": 1, "third": 1}, 10_016),
    ],
    ids=["the same", "its second node", "its first node", "what it does between"],
)
def test_after_an_edit_a_python_workflow_keeps_the_calls_before_it(edited: Any, calls: dict[str, int], output: int) -> None:
    """Calls that are not what they were, or have other arguments, are made again, and nothing is refused."""
    journal = ListJournal()
    BROKEN.add("third")
    ran(two_calls(first, second), journal=journal)
    BROKEN.clear()
    CALLS.clear()
    (result,) = ran(edited, journal=ListJournal(), restored=restored(journal), stale=frozenset({"flow"}))
    assert given(result) == output
    assert calls == CALLS


def test_elements_of_a_mapped_workflow_that_ended_are_kept() -> None:
    """Each has a key of its own, and a level below another of the same."""
    leaf = flow(lambda n: called(str(n), n), "leaf", retry=ONCE)
    level = WorkflowNode(
        id="level", workflow=Workflow(nodes=(replace(leaf, inputs={"n": "{{ item.input }}"}),)), map="{{ [item.input, item.input + 10] }}"
    )
    nested = sub(level, map="{{ [1, 2, 3] }}", parallelism=1)
    journal = ListJournal()
    BROKEN.add("12")
    (failed,) = ran(nested, journal=journal)
    assert failed.error is not None and failed.error.node_id == "sub.level.leaf"
    BROKEN.clear()
    (result,) = ran(nested, journal=ListJournal(), restored=restored(journal))
    assert given(result) == [[1, 11], [2, 12], [3, 13]]
    assert CALLS == {"1": 1, "11": 1, "2": 1, "12": 2, "3": 1, "13": 1}


def test_parts_show_their_attempts_beside_those_of_the_outer_node() -> None:
    """One record for each execution, in the order in which they began."""
    (result,) = ran(flow(outer))
    assert [each[1:] for each in statuses(result)] == [("completed", 1)] * 8


_IS_WRITTEN_DOWN = threading.Event()
_HAS_ENDED = threading.Event()


@dataclass(eq=False)
class Slow:
    """Takes its time to be compared, as it is when it is written down: until the item has ended, if it can end meanwhile."""

    n: int

    def __eq__(self, other: object) -> bool:
        _IS_WRITTEN_DOWN.set()
        _HAS_ENDED.wait(0.2)
        return isinstance(other, Slow) and other.n == self.n

    __hash__ = None  # type: ignore[assignment]


def test_a_part_is_kept_that_is_just_written_down_when_its_item_fails() -> None:
    """Its call may have been paid for: a retry of the item must not make it again because the event loop and a lane met."""

    @node(retry=ONCE)
    def paid(n: int, context: batchrun.Context) -> Slow:
        return Slow(int(called("paid", n)))

    @workflow
    def run(n: int) -> int:
        if n == 1:  # in the same lane, after the item that has failed
            _HAS_ENDED.set()
            return n
        paid(n=n)
        _IS_WRITTEN_DOWN.wait(10)
        return int(called("after", n))

    journal, after = ListJournal(), flow(run, retry=ONCE)
    BROKEN.add("after")
    failed, _ = anyio.run(RowRun(nodes=(after,), run=Run(parallelism=1), journal=journal).results, [{"n": 0}, {"n": 1}])
    assert failed.status == "failed"
    BROKEN.clear()
    again = RowRun(nodes=(after,), journal=ListJournal(), restored=restored(journal, generation=1))
    (result,) = anyio.run(again.results, [{"n": 0}])
    assert result.status == "completed"
    assert CALLS == {"paid": 1, "after": 2}
