from __future__ import annotations

from collections import Counter
from typing import Literal

import anyio
import pytest

from batchrun.core.errors import HttpStatusError, TransportError
from batchrun.core.job import Run
from batchrun.core.policies import Backoff, Match, Retry, RetryRule
from batchrun.testing.rows import RowRun
from tests.unit.engine.small_nodes import SOON, node, outputs


def test_a_failed_node_is_tried_again_and_completed_nodes_are_not() -> None:
    """A retry continues at the node that failed, after its backoff; attempts are counted for item and node."""
    calls: Counter[str] = Counter()

    async def steady(n: int) -> int:
        calls["steady"] += 1
        return n

    async def flaky(n: int) -> int:
        calls["flaky"] += 1
        if calls["flaky"] < 3:
            raise TransportError("the line went dead")
        return n

    nodes = [node("steady", steady, inputs={"n": "{{ item.n }}"}), node("flaky", flaky, inputs={"n": "{{ nodes.steady.output }}"})]
    (result,) = RowRun(nodes=nodes, run=Run(retry=Retry(max_attempts=3, backoff=Backoff(initial_seconds=60)))).results_virtually([{"n": 5}])
    assert calls == {"steady": 1, "flaky": 3}
    assert (result.status, result.attempts, [record[2] for record in result.nodes]) == ("completed", 3, [1, 3])


async def test_a_sync_node_is_tried_again_too() -> None:
    """Items of a chunk that failed go on their own way and come back with the right counts."""
    calls: Counter[int] = Counter()

    def flaky(n: int) -> int:
        calls[n] += 1
        if n % 10 == 0 and calls[n] < 3:
            raise ConnectionError("not yet")
        return n

    results = await RowRun(nodes=[node("flaky", flaky, inputs={"n": "{{ item.n }}"}, retry=SOON)]).results([{"n": n} for n in range(100)])
    assert outputs(results) == list(range(100))
    assert {result.attempts for result in results[::10]} == {3}
    assert sum(calls.values()) == 100 + 2 * 10


def test_being_throttled_uses_up_no_attempt_and_no_item_time() -> None:
    """A service that asks for patience a hundred times gets it, beyond max_attempts and the item's deadline."""
    calls = Counter[str]()

    async def busy(n: int) -> int:
        calls["busy"] += 1
        if calls["busy"] <= 100:
            raise HttpStatusError("slow down", 429, retry_after_seconds=30)
        return n

    run = Run(retry=Retry(max_attempts=2), item_timeout_seconds=60)
    (result,) = RowRun(nodes=[node("busy", busy, inputs={"n": "{{ item.n }}"})], run=run).results_virtually([{"n": 1}])
    assert (result.status, result.attempts, result.nodes[0][2], calls["busy"]) == ("completed", 1, 1, 101)


@pytest.mark.parametrize(("status", "action", "calls"), [(429, "retry", 3), (500, "throttle", 51)])
def test_the_rule_decides_what_uses_up_an_attempt(status: int, action: Literal["retry", "throttle"], calls: int) -> None:
    """A rule can make a throttled call count as an attempt, and any other error not count."""
    made = Counter[str]()

    async def call(n: int) -> int:
        made["calls"] += 1
        if made["calls"] <= 50:
            raise HttpStatusError("busy", status)
        return n

    rules = (RetryRule(match=Match(http_status=(status,)), action=action),)
    RowRun(nodes=[node("call", call, inputs={"n": "{{ item.n }}"})], run=Run(retry=Retry(max_attempts=3, rules=rules))).results_virtually(
        [{"n": 1}]
    )
    assert made["calls"] == calls


def test_an_async_call_is_cancelled_at_its_deadline() -> None:
    """The attempt's deadline and the item's deadline each end a call that waits, and say which it was."""

    async def forever(n: int) -> None:
        await anyio.sleep_forever()

    by_attempt = node("wait", forever, inputs={"n": "{{ item.n }}"}, timeout_seconds=5, retry=Retry(max_attempts=2))
    (result,) = RowRun(nodes=[by_attempt]).results_virtually([{"n": 1}])
    assert result.error is not None
    assert (result.status, result.attempts, result.error.type) == ("failed", 2, "Timeout")
    assert "timeout_seconds: 5" in result.error.message
    by_item = node("wait", forever, inputs={"n": "{{ item.n }}"})
    (result,) = RowRun(nodes=[by_item], run=Run(item_timeout_seconds=7)).results_virtually([{"n": 1}])
    assert result.error is not None
    assert (result.attempts, result.error.retryable) == (1, False)
    assert "item_timeout_seconds: 7" in result.error.message


def test_a_stop_rule_stops_the_execution_and_leaves_the_item_undone() -> None:
    """A spent quota burns no items: the one that met it is not failed, and no more are started."""
    rules = (RetryRule(match=Match(error_type="QuotaExhausted"), action="stop"),)

    class QuotaExhausted(Exception):
        pass

    async def call(n: int) -> int:
        if n == 5:
            raise QuotaExhausted("no credit")
        return n

    run = Run(parallelism=1, retry=Retry(rules=rules))
    results = RowRun(nodes=[node("call", call, inputs={"n": "{{ item.n }}"})], run=run, window=4).results_virtually(
        [{"n": n} for n in range(8)]
    )
    assert [result.status for result in results] == ["completed"] * 5 + ["cancelled"] * 3
    assert results[5].error is None
