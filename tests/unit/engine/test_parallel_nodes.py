"""How many nodes of one item wait at the same time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.core.errors import HttpStatusError
from batchrun.core.job import FallbackOnFailure, Run
from batchrun.core.policies import Backoff, Retry
from batchrun.testing.rows import RowRun
from tests.unit.engine.small_nodes import ONCE, node


@dataclass
class Gauge:
    """Counts the calls of each item that wait at the same time."""

    now: Counter[int] = field(default_factory=Counter)
    most: Counter[int] = field(default_factory=Counter)
    begun: list[str] = field(default_factory=list)

    def node(self, id: str, seconds: float = 1, *, fails: type[Exception] | None = None, times: int = 99, **options: Any) -> Any:
        """A node that waits, and then fails for the first calls of each item."""
        calls = Counter[int]()

        async def call(n: int) -> str:
            self.begun.append(id)
            self.now[n] += 1
            self.most[n] = max(self.most[n], self.now[n])
            await anyio.sleep(seconds)
            self.now[n] -= 1
            calls[n] += 1
            if fails is not None and calls[n] <= times:
                raise fails(id)
            return id

        return node(id, call, inputs={"n": "{{ item.n }}"}, **options)


@given(
    durations=st.lists(st.integers(1, 9), min_size=1, max_size=7),
    most=st.none() | st.integers(1, 8),
    parallelism=st.integers(1, 3),
)
@settings(deadline=None, max_examples=60)
def test_each_item_has_that_many_calls_and_no_more(durations: list[int], most: int | None, parallelism: int) -> None:
    """The limit is reached where there is enough to do, never passed, and is one for each item; a free place is taken at once."""
    gauge = Gauge()
    nodes = [gauge.node(f"n{number}", seconds) for number, seconds in enumerate(durations)]
    rows = [{"n": n} for n in range(parallelism)]
    results = RowRun(nodes=nodes, run=Run(parallelism=parallelism, max_parallel_nodes=most)).results_virtually(rows)
    places = min(most or len(durations), len(durations))
    assert gauge.most == dict.fromkeys(range(parallelism), places)
    free_at = [0] * places
    for seconds in durations:  # whichever place is free first takes the next node, in the order of the job
        free_at.sort()
        free_at[0] += seconds
    assert [round(result.duration_ms) for result in results] == [1000 * max(free_at)] * parallelism


def test_nodes_begin_in_the_order_of_the_job() -> None:
    """Those that have to wait for a place get it in turn."""
    gauge = Gauge()
    nodes = [gauge.node("d", 3), gauge.node("b", 1), gauge.node("c", 1), gauge.node("a", 1)]
    RowRun(nodes=nodes, run=Run(max_parallel_nodes=2)).results_virtually([{"n": 0}])
    assert gauge.begun == ["d", "b", "c", "a"]


def test_an_item_that_has_failed_begins_no_more_of_its_nodes() -> None:
    """The calls beside it end, those that had no place yet are not made."""
    gauge = Gauge()
    nodes = [gauge.node("long", 5), gauge.node("bad", 1, fails=ValueError), gauge.node("late")]
    (result,) = RowRun(nodes=nodes, run=Run(max_parallel_nodes=2, retry=ONCE.retry)).results_virtually([{"n": 0}])
    assert (result.status, gauge.begun) == ("failed", ["long", "bad"])
    assert sorted((record[0], record[1]) for record in result.nodes) == [(0, "completed"), (1, "failed")]


class BusyError(HttpStatusError):
    def __init__(self, message: str) -> None:
        super().__init__(message, 429)


@pytest.mark.parametrize("error", [ConnectionError, BusyError])
@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_place_is_free_again_while_its_node_waits_to_be_tried_again(most: int, error: type[Exception]) -> None:
    """Nothing is held up by a call that is sent back, and the one that is made again counts like the first."""
    gauge = Gauge()
    retry = Retry(max_attempts=3, backoff=Backoff(initial_seconds=60, max_seconds=60))
    nodes = [gauge.node("flaky", fails=error, times=2), *(gauge.node(f"n{number}") for number in range(3))]
    (result,) = RowRun(nodes=nodes, run=Run(max_parallel_nodes=most, retry=retry)).results_virtually([{"n": 0}])
    assert (result.status, gauge.most[0]) == ("completed", most)
    assert gauge.begun == ["flaky", "n0", "n1", "n2", "flaky", "flaky"]


def test_fallbacks_count_like_any_node() -> None:
    """They wait for a place as well."""
    gauge = Gauge()
    nodes = []
    for number in range(4):
        nodes += [
            gauge.node(f"n{number}", fails=ValueError, on_failure=FallbackOnFailure(fallback=f"f{number}"), retry=ONCE.retry),
            gauge.node(f"f{number}"),
        ]
    (result,) = RowRun(nodes=nodes, run=Run(max_parallel_nodes=3)).results_virtually([{"n": 0}])
    assert (result.status, gauge.most[0], round(result.duration_ms)) == ("completed", 3, 4000)
    assert gauge.begun == [*(f"n{number}" for number in range(4)), *(f"f{number}" for number in range(4))]


async def test_functions_in_lanes_take_no_place() -> None:
    """The functions of an item run one after another anyway."""
    gauge = Gauge()
    nodes = [gauge.node("a", 0), node("b", lambda: 1), gauge.node("c", 0), node("d", lambda: 1)]
    (result,) = await RowRun(nodes=nodes, run=Run(max_parallel_nodes=1)).results([{"n": 0}])
    assert (result.status, gauge.most[0]) == ("completed", 1)
