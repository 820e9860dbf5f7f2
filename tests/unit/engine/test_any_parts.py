"""Any tree of calls, interrupted at any moment."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import batchrun
from batchrun.core.executions import Stop
from batchrun.core.items import ItemResult, KeptNode, RestoredItem
from batchrun.core.job import Run
from batchrun.core.policies import Backoff, Match, Retry, RetryRule
from batchrun.nodes.python import PythonNode
from batchrun.testing.rows import ListJournal, RowRun
from batchrun.workflows.functions import node, workflow
from tests.unit.engine.flow_runs import flow, rows

ITEMS = 3
RETRY = Retry(
    max_attempts=3,
    backoff=Backoff(initial_seconds=1, max_seconds=1),
    rules=(RetryRule(match=Match(error_type="TimeoutError"), action="throttle"),),
)
RUN = Run(parallelism=2, grace_seconds=0.2, retry=RETRY)


@dataclass(frozen=True)
class Leaf:
    """A node: `fails` calls fail first, `throttled` calls are throttled before them."""

    name: int
    seconds: float
    fails: int
    throttled: int
    is_plain: bool


@dataclass(frozen=True)
class Tree:
    """Calls: one after another, together, as a workflow of its own, or tried, so that a failure is caught."""

    kind: str
    children: tuple[Any, ...]


@st.composite
def trees(draw: st.DrawFn) -> Any:
    """Up to eight nodes."""
    numbers = iter(range(8))

    def tree(depth: int) -> Any:
        number = next(numbers, None) if (depth and draw(st.booleans())) or depth == 3 else None
        if number is not None or depth == 3:
            fails = draw(st.sampled_from([0, 0, 0, 1, 2, 3]))
            return Leaf(number or 0, draw(st.sampled_from([0.0, 0.3, 2.0])), fails, draw(st.sampled_from([0, 0, 1])), draw(st.booleans()))
        kind = draw(st.sampled_from(["sequence", "gather", "nested", "try"]))
        return Tree(kind, tuple(tree(depth + 1) for _ in range(draw(st.integers(1, 3)))))

    return tree(0)


@dataclass
class Program:
    """The workflow that a tree stands for; counts what it is called for. Calls that ended well are in `ended`."""

    tree: Any
    calls: Counter[str] = field(default_factory=Counter)
    ended: set[str] = field(default_factory=set)

    def node(self) -> Any:
        async def run(n: int) -> Any:
            return await self.made(self.tree, n, "r")

        return flow(workflow(run))

    async def made(self, tree: Any, n: int, path: str) -> Any:
        if isinstance(tree, Leaf):
            return await self._leaf(tree, n, path)
        calls = [(child, f"{path}{position}") for position, child in enumerate(tree.children)]
        if tree.kind == "gather":
            return await batchrun.gather(*[self.made(child, n, at) for child, at in calls], limit=2)
        if tree.kind == "nested":

            @workflow(name="nested")
            async def nested(n: int, path: str) -> Any:
                return [await self.made(child, n, at) for child, at in calls]

            return await nested(n, path)
        if tree.kind == "try":
            try:
                return [await self.made(child, n, at) for child, at in calls]
            except ConnectionError:
                return "caught"
        return [await self.made(child, n, at) for child, at in calls]

    async def _leaf(self, leaf: Leaf, n: int, path: str) -> Any:
        def come(attempt: int) -> str:
            at = f"{n}{path}"
            self.calls[at] += 1
            if self.calls[at] <= leaf.throttled:
                raise TimeoutError("busy")
            if attempt <= leaf.fails:
                raise ConnectionError("not now")
            self.ended.add(at)
            return at

        async def waits(n: int, path: str, context: batchrun.Context) -> str:
            await asyncio.sleep(leaf.seconds)
            return come(context.attempt)

        def plain(n: int, path: str, context: batchrun.Context) -> str:
            return come(context.attempt)

        called: Any = node(name=f"leaf{leaf.name}")(plain if leaf.is_plain else waits)
        return await called(n=n, path=path)


def slow() -> PythonNode:
    """A node after the flow: items are stopped in it when the flow has ended."""

    async def wait(_output: Any, n: int) -> int:
        await asyncio.sleep(2)
        return n

    return PythonNode(id="slow", call=wait, inputs={"_output": "{{ nodes.flow.output }}", "n": "{{ item.n }}"})


def told(result: ItemResult, names: list[tuple[str, str]]) -> Any:
    """What it gave, and its node executions, in no order: those that ran together may end in any."""
    nodes = Counter((names[-1 - each[0]][0] if each[0] < 0 else each[0], each[1], each[6]) for each in result.nodes)
    # How far other calls had come when one failed depends on when it did.
    return result.status, result.output, None if any(each[1] == "failed" for each in result.nodes) else nodes


@given(tree=trees(), at=st.floats(0, 8))
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
def test_an_interruption_of_any_tree_of_calls_changes_nothing(tree: Any, at: float) -> None:
    """Each item ends once, what had ended is not called again, and outputs and node executions are those of an undisturbed run."""
    names: list[list[tuple[str, str]]] = [[], [], []]
    whole = RowRun(nodes=[Program(tree).node(), slow()], run=RUN, part_names=names[0]).results_virtually(rows(ITEMS))
    assert [result.item.ordinal for result in whole] == list(range(ITEMS))
    journal, before = ListJournal(), Program(tree)
    stopped = RowRun(
        nodes=[before.node(), slow()],
        part_names=names[1],
        run=RUN,
        journal=journal,
        on_start=lambda dispatcher: asyncio.get_running_loop().call_later(at, dispatcher.stop, Stop("user", "enough")) and None,
    ).results_virtually(rows(ITEMS))
    assert [result.item.ordinal for result in stopped] == list(range(ITEMS))
    kept: dict[int, dict[str, KeptNode]] = {}
    for entry in journal.entries:
        nodes = kept.setdefault(entry.ordinal, {})
        nodes.pop(entry.node_id, None)
        nodes[entry.node_id] = entry
    restored = {n: RestoredItem(1, 0, tuple(nodes.values()), {}) for n, nodes in kept.items() if stopped[n].status == "cancelled"}
    after = Program(tree)
    resumed = RowRun(
        nodes=[after.node(), slow()], run=RUN, restored=restored, journal=ListJournal(), part_names=names[2]
    ).results_virtually(rows(ITEMS))
    for n in range(ITEMS):
        if stopped[n].status == "cancelled":
            assert told(resumed[n], names[2]) == told(whole[n], names[0])
            assert not {each for each in before.ended if each.startswith(str(n))} & after.calls.keys()
        else:
            assert told(stopped[n], names[1]) == told(whole[n], names[0])
