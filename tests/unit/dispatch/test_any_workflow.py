from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchrun.core.executions import Stop
from batchrun.core.items import ItemResult
from batchrun.core.job import DefaultOnFailure, NodeOptions, Run, Workflow
from batchrun.core.policies import Backoff, Match, Retry, RetryRule
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.nodes.python import PythonNode
from batchrun.testing.rows import RowRun
from tests.unit.engine.any_ways import Walk, Ways, any_ways

ITEMS = 12
CALL = st.sampled_from(["value", "value", "value", "wait", "wait", "retryable", "final", "throttled", "long"])
ON_FAILURE = st.sampled_from(["stop", "continue", DefaultOnFailure(default=0)])


class ThrottledError(Exception):
    """What a busy service answers."""

    http_status = 429
    retryable = True


@dataclass(frozen=True)
class Spec:
    """One node as it was drawn: what its first calls do, item by item."""

    behaviour: tuple[str, ...]
    on_failure: Any
    when: int | None
    timeout_seconds: float | None
    is_async: bool


@dataclass(frozen=True)
class Drawn:
    """A workflow: a graph, and what its nodes do."""

    ways: Ways
    specs: tuple[Spec, ...]


@st.composite
def workflows(draw: st.DrawFn, sync: bool) -> Drawn:
    """Any workflow of up to six nodes."""
    ways = draw(any_ways())
    specs = [
        Spec(
            behaviour=tuple(draw(st.lists(CALL, min_size=1, max_size=6))),
            on_failure=draw(ON_FAILURE),
            when=None if ways.is_fallback(position) else draw(st.none() | st.integers(0, ITEMS)),
            timeout_seconds=None if sync else draw(st.none() | st.just(5.0)),
            is_async=not sync or draw(st.booleans()),
        )
        for position in range(len(ways.needs))
    ]
    return Drawn(ways, tuple(specs))


@dataclass
class Watch:
    """Runs a drawn workflow and writes down every breach of what the dispatcher promises."""

    drawn: Drawn
    run: Run
    is_virtual: bool
    stops_after: int | None = None
    on_call: Callable[[], object] = lambda: None
    breaches: list[str] = field(default_factory=list)
    active: Counter[int] = field(default_factory=Counter)
    calls: Counter[tuple[int, int]] = field(default_factory=Counter)
    ended: set[tuple[int, int]] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        specs = self.drawn.specs
        self.walk = Walk(self.drawn.ways, tuple(spec.when for spec in specs), tuple(spec.on_failure for spec in specs))

    def workflow(self) -> Workflow:
        nodes = tuple(self._node(position, spec) for position, spec in enumerate(self.drawn.specs))
        return Workflow(nodes=nodes, output={node.id: f"{{{{ nodes.{node.id}.output }}}}" for node in nodes})

    def _node(self, position: int, spec: Spec) -> NodeOptions:
        async def call(n: int, **_read: Any) -> str:
            kind = self._enter(position, n)
            try:
                await anyio.sleep({"wait": 2, "long": 50}.get(kind, 0) if self.is_virtual else 0)
            finally:
                self._leave(n)
            return self._end(position, n, kind)

        def call_at_once(n: int, **_read: Any) -> str:
            kind = self._enter(position, n)
            self._leave(n)
            return self._end(position, n, kind)

        ways = self.drawn.ways
        options: dict[str, Any] = {
            "on_failure": ways.on_failure(position, spec.on_failure),
            "when": None if spec.when is None else f"{{{{ item.n < {spec.when} }}}}",
        }
        if position in ways.cases:
            return ways.switch(position, **options)
        return PythonNode(
            id=f"n{position}",
            call=call if spec.is_async else call_at_once,
            inputs={"n": "{{ item.n }}", **{f"x{need}": f"{{{{ nodes.n{need}.output }}}}" for need in ways.needs[position]}},
            timeout_seconds=spec.timeout_seconds,
            **options,
        )

    def _enter(self, position: int, n: int) -> str:
        with self.lock:
            spec = self.drawn.specs[position]
            if (position, n) in self.ended:
                self.breaches.append(f"node {position} ran again for item {n} after it had completed")
            self.active[n] += 1
            if sum(count > 0 for count in self.active.values()) > self.run.parallelism:
                self.breaches.append(f"items at work: {dict(self.active)}")
            if self.active[n] > (self.run.max_parallel_nodes or ITEMS):
                self.breaches.append(f"calls of item {n}: {self.active[n]}")
            number = self.calls[position, n]
            self.calls[position, n] += 1
            if self.calls.total() == self.stops_after:
                self.on_call()
            return spec.behaviour[(n + number) % len(spec.behaviour)]

    def _leave(self, n: int) -> None:
        with self.lock:
            self.active[n] -= 1

    def _end(self, position: int, n: int, kind: str) -> str:
        if kind in ("value", "wait", "long"):
            with self.lock:
                self.ended.add((position, n))
            return self.walk.given(position, n)
        raise {"retryable": ConnectionError, "final": TypeError, "throttled": ThrottledError}[kind](n)

    def check(self, results: list[ItemResult], loaded: int) -> None:
        assert self.breaches == []
        assert [result.item.ordinal for result in results] == list(range(loaded))
        for result in results:
            assert (result.error is not None) == (result.status == "failed")
            assert (result.started_at is None) == (result.attempts == 0)
            ended = [record for record in result.nodes if record[1] in ("completed", "skipped", "failed")]
            outputs = self.walk.outputs(result.item.ordinal, ended)
            if result.status == "completed":
                assert orjson.loads(result.output) == {f"n{position}": outputs[position] for position in range(len(self.drawn.specs))}
            if result.status in ("completed", "skipped"):
                assert len(ended) == len(self.drawn.specs)
                assert all(record[1] == "skipped" for record in ended) == (result.status == "skipped")


@st.composite
def runs(draw: st.DrawFn, *, initial_seconds: float) -> Run:
    """Run policies; some of them stop the run by a rule."""
    parallelism = draw(st.integers(1, 4))
    rules = (RetryRule(match=Match(error_type="TypeError"), action="stop"),) if draw(st.integers(0, 4)) == 0 else ()
    return Run(
        parallelism=parallelism,
        max_open_items=parallelism + draw(st.integers(0, 4)),
        max_parallel_nodes=draw(st.none() | st.integers(1, 3)),
        item_timeout_seconds=draw(st.sampled_from([None, 30.0, 600.0])),
        grace_seconds=draw(st.sampled_from([0.0, 3.0, 100.0])) if initial_seconds > 0.5 else 1.0,
        max_throttled_seconds=60 * initial_seconds,
        retry=Retry(
            max_attempts=draw(st.integers(1, 3)),
            backoff=Backoff(initial_seconds=initial_seconds, max_seconds=10 * initial_seconds),
            rules=rules,
        ),
    )


@given(
    drawn=workflows(sync=False), run=runs(initial_seconds=1.0), window=st.integers(1, ITEMS + 1), stop_seconds=st.none() | st.floats(0, 60)
)
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_any_workflow_that_waits_ends_every_item_once(drawn: Drawn, run: Run, window: int, stop_seconds: float | None) -> None:
    """Whatever fails, is throttled, skipped, late or stopped: one result per loaded item, in the order the graph asks for."""
    watch, dispatchers = Watch(drawn=drawn, run=run, is_virtual=True), []

    def on_start(dispatcher: Dispatcher[Any]) -> None:
        dispatchers.append(dispatcher)
        if stop_seconds is not None:
            asyncio.get_running_loop().call_later(stop_seconds, dispatcher.stop, Stop("user", "enough"))

    results = RowRun(workflow=watch.workflow(), run=run, window=window, on_start=on_start).results_virtually(
        [{"n": n} for n in range(ITEMS)]
    )
    watch.check(results, dispatchers[0].loaded_items)
    if dispatchers[0].stop_cause is None:
        assert len(results) == ITEMS
        assert all(result.status != "cancelled" for result in results)


@given(
    drawn=workflows(sync=True), run=runs(initial_seconds=1e-4), window=st.integers(1, ITEMS + 1), stops_after=st.none() | st.integers(1, 20)
)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_any_workflow_in_lanes_ends_every_item_once(drawn: Drawn, run: Run, window: int, stops_after: int | None) -> None:
    """The same with functions in threads, on the real clock, alone and mixed with nodes that wait."""
    watch, dispatchers = Watch(drawn=drawn, run=run, is_virtual=False, stops_after=stops_after), []
    row_run = RowRun(workflow=watch.workflow(), run=run, window=window, on_start=dispatchers.append)

    async def main() -> list[ItemResult]:
        loop = asyncio.get_running_loop()
        watch.on_call = lambda: loop.call_soon_threadsafe(dispatchers[0].stop, Stop("user", "enough"))
        with anyio.fail_after(20):
            return await row_run.results([{"n": n} for n in range(ITEMS)])

    watch.check(anyio.run(main), dispatchers[0].loaded_items)
