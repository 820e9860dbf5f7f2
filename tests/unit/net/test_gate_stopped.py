"""Calls that wait at the gate of a service when the execution stops: nothing of them was sent, so nothing is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import anyio
import httpx
import pytest

from batchrun.core.errors import ServiceParked
from batchrun.core.executions import Stop
from batchrun.core.items import ItemResult
from batchrun.core.job import Resource, Run
from batchrun.core.policies import Backoff, Breaker, Budget, Retry
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.engine.item_run import ItemRun
from batchrun.flow.budget import Spending, Spent
from batchrun.net.client import SLOT, HttpClient
from batchrun.nodes.python import PythonNode
from batchrun.testing.clock import run_virtually
from batchrun.testing.rows import RowRun
from batchrun.workflows.decisions import StoppedAtRest
from batchrun.workflows.scope import Held
from tests.unit.net.counting import Service, answered, client_of, well

GRACE_SECONDS = 1_000.0
STOPPED_AT = 20.0


async def send(client: HttpClient, ends: list[str], *, has_slot: bool = True) -> None:
    request = client.build("GET", "/")
    if has_slot:
        request.extensions[SLOT] = Held()
    try:
        await client.send(request, idempotent=True)
        ends.append("well")
    except (StoppedAtRest, ServiceParked, httpx.HTTPError) as error:
        ends.append(type(error).__name__)


def test_calls_that_wait_for_their_turn_end_and_those_in_flight_go_on() -> None:
    """A call for no item, such as one that cancels a run elsewhere, waits for its turn all the same."""

    async def run() -> None:
        service = Service(well, seconds=10.0)
        client, gate = client_of(service, max_concurrency=2)
        ends = list[str]()
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(send, client, ends)
            await anyio.sleep(1)
            tasks.start_soon(partial(send, client, ends, has_slot=False))
            await anyio.sleep(1)
            gate.stop()
            await anyio.sleep(1)
            assert ends == ["StoppedAtRest"] * 8
            tasks.start_soon(send, client, ends)
            await anyio.sleep(1)
            assert ends == ["StoppedAtRest"] * 9
        assert ends == ["StoppedAtRest"] * 9 + ["well"] * 3
        assert (gate.state()["in_flight"], gate.state()["queued"], len(service.arrived)) == (0, 0, 3)
        await send(client, ends)
        assert ends[-1] == "well"  # what need not wait goes, also while the execution stops

    run_virtually(run)


def test_calls_that_are_parked_end_at_once() -> None:
    """All of them: the one that is to try the service next, and those that have given their slots back."""

    async def run() -> None:
        breaker = Breaker(failures=1, probe_initial_seconds=500, probe_max_seconds=500)
        client, gate = client_of(Service(lambda _service: answered(500)), breaker=breaker)
        ends = list[str]()
        with pytest.raises(Exception, match="500"):
            await client.send(client.build("GET", "/"), idempotent=True)
        tasks = [asyncio.create_task(send(client, ends)) for _ in range(10)]
        await anyio.sleep(5)
        assert gate.state()["queued"] == 10
        gate.stop()
        await asyncio.wait(tasks)
        assert ends == ["StoppedAtRest"] * 10 and anyio.current_time() < 6

    run_virtually(run)


class BrokenError(Exception):
    """What a client library of a service may raise."""

    http_status = 503


async def ask(n: int) -> int:
    await anyio.sleep(1)
    if anyio.current_time() > 5:
        raise BrokenError("broken")
    return n


def ended(rows: list[Mapping[str, Any]], spending: Spending | None = None, **options: Any) -> tuple[list[ItemResult], float]:
    """The results of a run that is stopped in an outage, and when it has ended."""

    def stop(dispatcher: Dispatcher[ItemRun]) -> None:
        asyncio.get_running_loop().call_later(STOPPED_AT, dispatcher.stop, Stop("signal", "SIGINT"))

    async def timed() -> tuple[list[ItemResult], float]:
        return await run.results(rows), anyio.current_time()

    node = PythonNode(**{"id": "ask", "call": ask, "inputs": {"n": "{{ item.n }}"}, "resource": "api", **options})
    run = RowRun(
        nodes=[node],
        run=Run(
            parallelism=4,
            grace_seconds=GRACE_SECONDS,
            retry=Retry(max_attempts=100, backoff=Backoff(initial_seconds=0.1, max_seconds=0.1)),
        ),
        resources={"api": Resource(max_concurrency=2, breaker=Breaker(failures=3, probe_initial_seconds=500, probe_max_seconds=500))},
        spending=spending,
        on_start=stop,
    )
    return run_virtually(timed)


def test_a_stop_in_an_outage_does_not_wait_for_the_grace_period() -> None:
    """Items that are parked end as not done, and a budget of calls gets back what was never made."""
    spending = Spending(Budget(max_calls=1_000))
    results, at = ended([{"n": n} for n in range(40)], spending)
    statuses = [result.status for result in results]
    assert STOPPED_AT <= at < STOPPED_AT + 5
    assert set(statuses) == {"completed", "cancelled"}
    made = statuses.count("completed") + 3  # and those that failed until the service was parked
    assert made <= spending.spent.calls <= made + 1 and spending.spent == Spent(calls=spending.spent.calls)
