"""Whatever becomes of the calls that items share: every item has its own output or its own error."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchrun.core.errors import HttpStatusError
from batchrun.core.executions import Stop
from batchrun.core.items import ItemResult
from batchrun.core.job import Batch, NodeOptions, Run
from batchrun.core.policies import Backoff, Retry
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.testing.rows import RowRun
from batchrun.workflows.node import NodeCall, NodeCompiler
from batchrun.workflows.scope import Scope

ITEMS = 14
KIND = st.sampled_from(["good"] * 6 + ["poison", "down", "flaky", "throttled", "missing", "slow", "hanging"])
HANGS = 10_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ListNode(NodeOptions):
    """Calls a function with a list."""

    type: str = "list"
    function: Any
    waits: bool

    def bind(self, _compiler: NodeCompiler) -> NodeCall:
        def call_many(scopes: Sequence[Scope]) -> Any:
            return self.function([scope.inputs["n"] for scope in scopes])

        return NodeCall(call=lambda scope: call_many([scope]), call_many=call_many, waits=self.waits)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One batched node as it was drawn: what each item does to the calls that it is in."""

    kinds: tuple[str, ...]
    batch: Batch
    timeout_seconds: float | None
    is_together: bool


@st.composite
def specs(draw: st.DrawFn, *, waits: bool) -> list[Spec]:
    kinds = KIND if waits else KIND.filter(lambda kind: kind not in ("slow", "hanging"))
    return [
        Spec(
            kinds=tuple(draw(st.lists(kinds, min_size=ITEMS, max_size=ITEMS))),
            batch=Batch(max_items=draw(st.integers(1, 8)), max_wait_ms=draw(st.sampled_from([0, 20, 3_000, 1e9])) if waits else 20),
            timeout_seconds=draw(st.sampled_from([7.0, 40.0])) if waits else None,
            is_together=draw(st.booleans()),
        )
        for _ in range(draw(st.integers(1, 3)))
    ]


@st.composite
def runs(draw: st.DrawFn, *, seconds: float) -> Run:
    parallelism = draw(st.integers(1, 4))
    return Run(
        parallelism=parallelism,
        max_open_items=draw(st.none() | st.integers(parallelism, ITEMS)),
        item_timeout_seconds=draw(st.sampled_from([None, 60 * seconds])),
        grace_seconds=draw(st.sampled_from([0.0, 3 * seconds, 1_000 * seconds])),
        retry=Retry(max_attempts=draw(st.integers(1, 3)), backoff=Backoff(initial_seconds=seconds, max_seconds=5 * seconds)),
    )


@dataclass
class Watch:
    """Runs drawn nodes, and writes down what must not happen."""

    specs: list[Spec]
    run: Run
    breaches: list[str] = field(default_factory=list)
    made: Counter[tuple[int, int]] = field(default_factory=Counter)
    active: Counter[int] = field(default_factory=Counter)
    ended: set[tuple[int, int]] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def nodes(self, *, waits: bool) -> list[ListNode]:
        return [self._node(position, spec, waits=waits) for position, spec in enumerate(self.specs)]

    def _node(self, position: int, spec: Spec, *, waits: bool) -> ListNode:
        async def call(n: list[int]) -> list[int]:
            with self.entered(position, n):
                kinds = {spec.kinds[each] for each in n}
                await anyio.sleep(HANGS if "hanging" in kinds else 5 if "slow" in kinds else 1)
                return self.outputs(position, n)

        def call_at_once(n: list[int]) -> list[int]:
            with self.entered(position, n):
                return self.outputs(position, n)

        return ListNode(
            id=f"n{position}",
            function=call if waits else call_at_once,
            waits=waits,
            inputs={"n": "{{ item.n }}"},
            needs=(f"n{position - 1}",) if position and not spec.is_together else (),
            batch=spec.batch,
            timeout_seconds=spec.timeout_seconds,
            on_failure="continue",
        )

    def entered(self, position: int, ns: list[int]) -> Entered:
        return Entered(self, position, ns)

    def outputs(self, position: int, ns: list[int]) -> list[int]:
        """What the call comes to; an error names the items that caused it."""
        kinds, tries = self.specs[position].kinds, {n: self.made[position, n] for n in ns}
        for kind, error in (("poison", TypeError), ("down", ConnectionError)):
            if bad := [n for n in ns if kinds[n] == kind]:
                raise error(bad)
        if [n for n in ns if kinds[n] == "flaky" and tries[n] == 1]:
            raise ConnectionError("flaky")
        if [n for n in ns if kinds[n] == "throttled" and tries[n] < 3]:
            raise HttpStatusError("busy", 429)
        with self.lock:
            found = [n + 100 * position for n in ns if kinds[n] != "missing"]
            if len(found) == len(ns):
                self.breaches += [f"node {position} ran again for item {n}" for n in ns if (position, n) in self.ended]
                self.ended.update((position, n) for n in ns)
        return found

    def check(self, results: list[ItemResult], loaded: int, *, is_stopped: bool) -> None:
        assert self.breaches == []
        assert [result.item.ordinal for result in results] == list(range(loaded))
        for result in results:
            n = result.item.ordinal
            for position, status, attempts, _, _, given_input, output, error, *_ in result.nodes:
                kind = self.specs[position].kinds[n]
                assert given_input == b'{"n":%d}' % n
                if status == "completed":
                    assert output == b"%d" % (n + 100 * position)
                    assert kind in ("good", "flaky", "throttled", "slow")
                elif status == "failed":
                    assert error is not None
                    self.check_error(kind, n, f"{error.type}: {error.message}")
                    assert attempts <= self.run.retry.max_attempts
            if not is_stopped:
                assert result.status in ("completed", "failed")

    def check_error(self, kind: str, n: int, error: str) -> None:
        own = {
            "poison": f"TypeError: [{n}]",
            "down": f"ConnectionError: [{n}]",
            "missing": "returned 0 outputs for 1 item;",
            "hanging": "Timeout: the call of 1 item ran longer than timeout_seconds",
            "flaky": "ConnectionError: flaky" if self.run.retry.max_attempts == 1 else "never",
        }
        # An item that has no time left for another attempt ends with what its last call came to, which others may have caused.
        is_late = self.run.item_timeout_seconds is not None and error.startswith(("Timeout", "ConnectionError", "HttpStatusError"))
        assert is_late or own.get(kind, "never") in error, (kind, n, error)


class Entered:
    """A call, as long as it runs."""

    def __init__(self, watch: Watch, position: int, ns: list[int]) -> None:
        self.watch, self.position, self.ns = watch, position, ns

    def __enter__(self) -> None:
        watch, spec = self.watch, self.watch.specs[self.position]
        with watch.lock:
            watch.made.update((self.position, n) for n in self.ns)
            watch.active[self.position] += 1
            if watch.active[self.position] > watch.run.parallelism:
                watch.breaches.append(f"{watch.active[self.position]} calls at once")
            if not 0 < len(self.ns) <= spec.batch.max_items or len(set(self.ns)) < len(self.ns):
                watch.breaches.append(f"called with {self.ns}")

    def __exit__(self, *_error: object) -> None:
        with self.watch.lock:
            self.watch.active[self.position] -= 1


@given(specs=specs(waits=True), run=runs(seconds=1.0), window=st.integers(1, ITEMS), stop_seconds=st.none() | st.floats(0, 60))
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_every_item_has_its_own_output_or_its_own_error(specs: list[Spec], run: Run, window: int, stop_seconds: float | None) -> None:
    """Poison, outages, throttling, hanging calls, deadlines and stops never give an item what is another's, nor lose one."""
    watch, dispatchers = Watch(specs=specs, run=run), list[Dispatcher[Any]]()

    def on_start(dispatcher: Dispatcher[Any]) -> None:
        dispatchers.append(dispatcher)
        if stop_seconds is not None:
            asyncio.get_running_loop().call_later(stop_seconds, dispatcher.stop, Stop("user", "enough"))

    row_run = RowRun(nodes=watch.nodes(waits=True), run=run, window=window, on_start=on_start)
    results = row_run.results_virtually([{"n": n} for n in range(ITEMS)])
    watch.check(results, dispatchers[0].loaded_items, is_stopped=dispatchers[0].stop_cause is not None)
    if stop_seconds is None:
        assert len(results) == ITEMS


@given(specs=specs(waits=False), run=runs(seconds=1e-3), window=st.integers(1, ITEMS), stops_after=st.none() | st.integers(1, 20))
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_the_same_holds_for_functions_in_threads(specs: list[Spec], run: Run, window: int, stops_after: int | None) -> None:
    """Threads are where things happen at the same time in earnest."""
    watch, dispatchers = Watch(specs=specs, run=run), list[Dispatcher[Any]]()
    row_run = RowRun(nodes=watch.nodes(waits=False), run=run, window=window, on_start=dispatchers.append)

    async def main() -> list[ItemResult]:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(stop_some_time)
                results = await row_run.results([{"n": n} for n in range(ITEMS)])
                group.cancel_scope.cancel()
        return results

    async def stop_some_time() -> None:
        while stops_after is None or watch.made.total() < stops_after:
            await anyio.lowlevel.checkpoint()
        dispatchers[0].stop(Stop("user", "enough"))

    results = anyio.run(main)
    watch.check(results, dispatchers[0].loaded_items, is_stopped=dispatchers[0].stop_cause is not None)
