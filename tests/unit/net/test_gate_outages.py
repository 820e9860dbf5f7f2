"""The gate in front of a service that is out of order."""

from __future__ import annotations

import asyncio

import anyio
import httpx
import pytest

from batchrun.core.errors import HttpStatusError, ServiceParked, TransportError
from batchrun.core.policies import Breaker
from batchrun.testing.clock import run_virtually
from tests.unit.net.counting import Service, answered, client_of, send, until_well, well


def out_of_order(service: Service) -> httpx.Response:
    """An outage from 1 s to 31 s."""
    if 1 <= anyio.current_time() < 31:
        raise httpx.ConnectError("nobody listens")
    return well(service)


def test_an_outage_parks_the_calls_and_single_ones_try() -> None:
    """What was in flight and a handful are sent into an outage, one at a time; soon after its end all is at full speed again."""

    async def run() -> None:
        service = Service(out_of_order)
        client, gate = client_of(service, max_concurrency=16)
        tasks = [asyncio.create_task(until_well(client)) for _ in range(3_000)]
        await anyio.sleep(15)
        state = gate.state()
        assert state["parked_at"] is not None and "nobody listens" in (state["parked_why"] or "")
        await asyncio.wait(tasks)
        into = [at for at in service.arrived if 1 <= at < 31]
        after = [at for at in service.arrived if at >= 31]
        assert len(into) <= 16 + 12
        assert after[0] < 36 and after[1] >= after[0] + 0.1
        assert after[-1] - after[0] < 3_000 / 16 * 0.1
        state = gate.state()
        assert (state["parked_at"], state["opened"]) == (None, 1)
        assert state["parked_seconds"] == pytest.approx(after[0] + 0.1 - 1.0, abs=0.2)

    run_virtually(run)


@pytest.mark.parametrize(
    ("failure", "outage"), [(httpx.ConnectError("gone"), "unreachable"), (httpx.ReadError("broke"), "broken"), (503, "broken")]
)
def test_calls_that_fail_in_an_outage_are_told_so(failure: httpx.TransportError | int, outage: str) -> None:
    """So that they use up no attempt; the ones before it is known to be one do, unless the service was well before."""

    async def run() -> None:
        def answer(_service: Service) -> httpx.Response:
            if isinstance(failure, httpx.TransportError):
                raise failure
            return answered(failure)

        client, gate = client_of(Service(answer), breaker=Breaker(failures=3))
        errors = [await send(client) for _ in range(5)]
        assert [error.outage for error in errors if error] == [None, None, outage, outage, outage]
        assert gate.state()["opened"] == 1
        off, _ = client_of(Service(answer), breaker=None)
        assert {error.outage for error in [await send(off) for _ in range(20)] if error} == {None}

    run_virtually(run)


def test_a_service_that_cannot_be_reached_any_more_is_out_of_order_from_the_first_call() -> None:
    """Once it has answered, a refused connection is not the fault of the job: a run of one item at a time loses none either."""

    async def run() -> None:
        client, _ = client_of(Service(out_of_order, seconds=1.0))
        assert await send(client) is None
        error = await send(client)
        assert error is not None and error.outage == "unreachable"

    run_virtually(run)


def test_an_answer_of_the_service_itself_is_no_outage() -> None:
    """Refused, throttled and unreadable calls are answers; they also end an outage."""

    async def run() -> None:
        statuses = [500, 500, 404, 500, 500, 429, 500, 500, 503, 500]
        service = Service(
            lambda service: answered(statuses[len(service.arrived) - 1], **({"retry_after": "0"} if len(service.arrived) == 9 else {}))
        )
        client, gate = client_of(service, breaker=Breaker(failures=3))
        for _ in statuses[:-1]:
            await send(client)
        assert gate.state()["opened"] == 0
        assert isinstance(await send(client), HttpStatusError)
        assert gate.state()["opened"] == 1

    run_virtually(run)


def test_calls_are_parked_for_no_longer_than_the_job_says() -> None:
    """Those that wait then, and those that come later, stop the execution, and say why."""

    async def run() -> None:
        client, _ = client_of(Service(out_of_order), breaker=Breaker(failures=1, max_parked_seconds=10))
        await anyio.sleep(2)
        assert isinstance(await send(client), TransportError)
        errors = [await task for task in [asyncio.create_task(send(client)) for _ in range(9)]]
        assert anyio.current_time() == pytest.approx(12.0)
        parked = [error for error in (*errors, await send(client)) if isinstance(error, ServiceParked)]
        assert len(parked) >= 6
        assert all(error.stops_execution and "max_parked_seconds; its last failure: " in str(error) for error in parked)

    run_virtually(run)


def test_a_call_that_hangs_while_it_tries_the_service_counts_as_failed() -> None:
    """Its item's deadline ends it, and the next one tries."""

    async def run() -> None:
        service = Service(lambda service: answered(503) if len(service.arrived) == 1 else well(service), seconds=60.0)
        client, gate = client_of(service, breaker=Breaker(failures=1))
        await send(client)
        with anyio.move_on_after(5):
            await send(client)
        assert gate.state()["parked_at"] is not None
        assert await send(client) is None
        assert (gate.state()["parked_at"], gate.state()["in_flight"]) == (None, 0)

    run_virtually(run)
