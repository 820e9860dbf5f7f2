"""A crash at any moment of any workflow."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import anyio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchrun import Context
from batchrun.core.items import ItemResult
from batchrun.core.job import DefaultOnFailure, Run
from batchrun.core.policies import Backoff, Retry
from batchrun.nodes.python import PythonNode
from batchrun.testing.clock import run_virtually
from batchrun.testing.rows import ListJournal, ListSink, RowRun

ITEMS = 5
LOOK_SECONDS = 0.1
RUN = Run(parallelism=3, retry=Retry(max_attempts=3, backoff=Backoff(initial_seconds=1, max_seconds=1)))


@dataclass(frozen=True)
class Spec:
    """One node as it was drawn; `fails` is the number of calls that fail first."""

    needs: tuple[int, ...]
    seconds: float
    fails: int
    when: int | None
    on_failure: Any
    output: Any


@st.composite
def specs(draw: st.DrawFn) -> list[Spec]:
    """An acyclic graph of up to five nodes."""
    return [
        Spec(
            needs=tuple(sorted(draw(st.sets(st.integers(0, position - 1), max_size=2)))) if position else (),
            seconds=draw(st.sampled_from([0.0, 0.05, 0.5, 3.0])),
            fails=draw(st.sampled_from([0, 0, 0, 1, 2, 3])),
            when=draw(st.none() | st.integers(0, ITEMS)),
            on_failure=draw(st.sampled_from(["stop", "continue", DefaultOnFailure(default=[1])])),
            output=draw(st.sampled_from([1, {"a": [None]}, (1, 2)])),
        )
        for position in range(draw(st.integers(1, 5)))
    ]


@dataclass
class Watch:
    """Makes the nodes, and writes down when the calls of each ended well."""

    specs: list[Spec]
    calls: Counter[tuple[int, int]] = field(default_factory=Counter)
    ended: dict[tuple[int, int], float] = field(default_factory=dict)

    def nodes(self) -> list[PythonNode]:
        return [self._node(position, spec) for position, spec in enumerate(self.specs)]

    def _node(self, position: int, spec: Spec) -> PythonNode:
        async def call(n: int, context: Context) -> Any:
            self.calls[position, n] += 1
            await anyio.sleep(spec.seconds)
            if context.attempt <= spec.fails:
                raise ConnectionError("not now")
            self.ended[position, n] = anyio.current_time()
            return spec.output

        return PythonNode(
            id=f"n{position}",
            call=call,
            inputs={"n": "{{ item.n }}"},
            needs=tuple(f"n{need}" for need in spec.needs),
            on_failure=spec.on_failure,
            when=None if spec.when is None else f"{{{{ item.n < {spec.when} }}}}",
        )

    def must_be_kept(self, position: int, n: int, at: float) -> bool:
        """Whether the output of a call was there to be seen before the crash, and all that it reads was, too."""
        spec = self.specs[position]
        is_kept = self.ended.get((position, n), at) < at - LOOK_SECONDS and not isinstance(spec.output, tuple)
        return is_kept and all(self.must_be_kept(need, n, at) for need in spec.needs)


def told(result: ItemResult, *, attempts: bool) -> tuple[Any, ...]:
    """What the row says that no crash may change.

    A node that runs anew, as what it reads is not kept, has its attempts anew. How far other nodes of a failed item come
    depends on who is first.
    """
    if result.status == "failed":
        return (result.status,)
    nodes = sorted((each[0], each[1], each[2] if attempts else None, each[6], each[8]) for each in result.nodes)
    return result.status, result.output, result.attempts if attempts else None, nodes


@given(specs=specs(), at=st.floats(0, 15))
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
def test_a_crash_at_any_moment_changes_nothing_and_repeats_only_what_was_in_flight(specs: list[Spec], at: float) -> None:
    """Rows after a crash and a resume are those of an undisturbed run, and no call that was seen to end is made again."""
    rows = [{"n": n} for n in range(ITEMS)]
    journal, sink, before = ListJournal(), ListSink(), Watch(specs)
    found: list[tuple[dict[int, Any], set[int]]] = []

    async def main() -> list[ItemResult]:
        loop = asyncio.get_running_loop()
        loop.call_at(at, lambda: found.append((journal.restored(), {result.item.ordinal for result in sink.taken})))
        return await RowRun(nodes=before.nodes(), run=RUN, journal=journal).results(rows, sink)

    undisturbed = run_virtually(main)
    restored, done = found[0] if found else ({}, set(range(ITEMS)))
    after, all_kept = Watch(specs), not any(isinstance(spec.output, tuple) for spec in specs)
    resumed = RowRun(nodes=after.nodes(), run=RUN, restored=restored).results_virtually(rows)
    for ordinal in set(range(ITEMS)) - done:
        assert told(resumed[ordinal], attempts=all_kept) == told(undisturbed[ordinal], attempts=all_kept)
        for position in range(len(specs)):
            if before.must_be_kept(position, ordinal, at):
                assert after.calls[position, ordinal] == 0
