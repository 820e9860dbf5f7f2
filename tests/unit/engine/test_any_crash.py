"""A crash at any moment of any workflow."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchrun import Context
from batchrun.core.items import ItemResult
from batchrun.core.job import DefaultOnFailure, NodeOptions, Run, Workflow
from batchrun.core.policies import Backoff, Retry
from batchrun.nodes.python import PythonNode
from batchrun.testing.clock import run_virtually
from batchrun.testing.rows import ListJournal, ListSink, RowRun
from tests.unit.engine.any_ways import Ways, any_ways

ITEMS = 5
LOOK_SECONDS = 0.1
RUN = Run(parallelism=3, retry=Retry(max_attempts=3, backoff=Backoff(initial_seconds=1, max_seconds=1)))


@dataclass(frozen=True)
class Spec:
    """One node as it was drawn; `fails` is the number of calls that fail first."""

    seconds: float
    fails: int
    when: int | None
    on_failure: Any
    output: Any


@dataclass(frozen=True)
class Drawn:
    """A workflow: a graph, and what its nodes do."""

    ways: Ways
    specs: tuple[Spec, ...]


@st.composite
def workflows(draw: st.DrawFn) -> Drawn:
    """Any workflow of up to six nodes."""
    ways = draw(any_ways())
    specs = [
        Spec(
            seconds=draw(st.sampled_from([0.0, 0.05, 0.5, 3.0])),
            fails=draw(st.sampled_from([0, 0, 0, 1, 2, 3])),
            when=None if ways.is_fallback(position) else draw(st.none() | st.integers(0, ITEMS)),
            on_failure=draw(st.sampled_from(["stop", "continue", DefaultOnFailure(default=[1])])),
            output=draw(st.sampled_from([1, {"a": [None]}, (1, 2)])),
        )
        for position in range(len(ways.needs))
    ]
    return Drawn(ways, tuple(specs))


@dataclass
class Watch:
    """Makes the nodes, and writes down when each ended, well or with its last attempt."""

    drawn: Drawn
    calls: Counter[tuple[int, int]] = field(default_factory=Counter)
    ended: dict[tuple[int, int], float] = field(default_factory=dict)

    def workflow(self) -> Workflow:
        nodes = tuple(self._node(position, spec) for position, spec in enumerate(self.drawn.specs))
        return Workflow(nodes=nodes, output={node.id: f"{{{{ nodes.{node.id}.output }}}}" for node in nodes})

    def _node(self, position: int, spec: Spec) -> NodeOptions:
        async def call(n: int, context: Context, **_read: Any) -> Any:
            self.calls[position, n] += 1
            await anyio.sleep(spec.seconds)
            has_failed = context.attempt <= spec.fails
            if not has_failed or context.attempt == RUN.retry.max_attempts:
                self.ended[position, n] = anyio.current_time()
            if has_failed:
                raise ConnectionError("not now")
            return spec.output

        ways = self.drawn.ways
        options: dict[str, Any] = {
            "on_failure": ways.on_failure(position, spec.on_failure),
            "when": None if spec.when is None else f"{{{{ item.n < {spec.when} }}}}",
        }
        if position in ways.cases:
            return ways.switch(position, **options)
        inputs = {"n": "{{ item.n }}", **{f"x{need}": f"{{{{ nodes.n{need}.output }}}}" for need in ways.needs[position]}}
        return PythonNode(id=f"n{position}", call=call, inputs=inputs, **options)

    def must_be_kept(self, position: int, ended: Mapping[int, str], n: int, at: float) -> bool:
        """Whether how a node ended was there to be seen before the crash, and all that decides about it was, too."""
        spec, ways = self.drawn.specs[position], self.drawn.ways
        # Nodes without calls end as soon as what is before them has, and before what is after them begins.
        has_calls = (position, n) in self.calls
        is_seen = not has_calls or self.ended.get((position, n), at) < at - LOOK_SECONDS
        is_faithful = ended.get(position) != "completed" or position in ways.cases or not isinstance(spec.output, tuple)
        goes_on = ended.get(position) != "failed" or ways.on_failure(position, spec.on_failure) != "stop"
        return is_seen and is_faithful and goes_on and all(self.must_be_kept(each, ended, n, at) for each in ways.before(position))


def told(result: ItemResult, *, attempts: bool) -> tuple[Any, ...]:
    """What the row says that no crash may change.

    A node that runs anew, as what it reads is not kept, has its attempts anew. How far other nodes of a failed item come
    depends on who is first.
    """
    if result.status == "failed":
        return (result.status,)
    nodes = sorted((each[0], each[1], each[2] if attempts else None, each[6], each[8]) for each in result.nodes)
    return result.status, result.output, result.attempts if attempts else None, nodes


@given(drawn=workflows(), at=st.floats(0, 15))
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
def test_a_crash_at_any_moment_changes_nothing_and_repeats_only_what_was_in_flight(drawn: Drawn, at: float) -> None:
    """Rows after a crash and a resume are those of an undisturbed run, and no call that was seen to end is made again."""
    rows = [{"n": n} for n in range(ITEMS)]
    journal, sink, before = ListJournal(), ListSink(), Watch(drawn)
    found: list[tuple[dict[int, Any], set[int]]] = []

    async def main() -> list[ItemResult]:
        loop = asyncio.get_running_loop()
        loop.call_at(at, lambda: found.append((journal.restored(), {result.item.ordinal for result in sink.taken})))
        return await RowRun(workflow=before.workflow(), run=RUN, journal=journal).results(rows, sink)

    undisturbed = run_virtually(main)
    restored, done = found[0] if found else ({}, set(range(ITEMS)))
    after, all_kept = Watch(drawn), not any(isinstance(spec.output, tuple) for spec in drawn.specs)
    resumed = RowRun(workflow=after.workflow(), run=RUN, restored=restored).results_virtually(rows)
    for ordinal in set(range(ITEMS)) - done:
        assert told(resumed[ordinal], attempts=all_kept) == told(undisturbed[ordinal], attempts=all_kept)
        ended = {record[0]: record[1] for record in undisturbed[ordinal].nodes}
        for position in range(len(drawn.specs)):
            if before.must_be_kept(position, ended, ordinal, at):
                assert after.calls[position, ordinal] == 0
