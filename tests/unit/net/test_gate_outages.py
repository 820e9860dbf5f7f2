"""The gate in front of a service that is out of order."""

from __future__ import annotations

import asyncio

import anyio
import httpx
import pytest

from batchrun.core.errors import HttpStatusError, ServiceParked, TransportError
from batchrun.core.policies import Breaker
from batchrun.net.client import OUTAGE, HttpClient
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


def test_an_answer_to_a_call_from_before_an_outage_does_not_end_it() -> None:
    """It was on its way when the service broke: were the others let go for it, all of them would be sent into the outage once more."""

    async def run() -> None:
        async def slow_at_first(request: httpx.Request) -> httpx.Response:
            if anyio.current_time() < 1:
                await anyio.sleep(2)
                return well(service)
            return await broken(request)

        service = Service(lambda _service: answered(500))
        broken, service.handle_async_request = service.handle_async_request, slow_at_first  # type: ignore[method-assign]
        client, gate = client_of(service, breaker=Breaker(failures=3, probe_initial_seconds=60, probe_max_seconds=60))
        first = asyncio.create_task(send(client))
        await anyio.sleep(1.5)
        others = [asyncio.create_task(until_well(client)) for _ in range(8)]
        assert await first is None
        await anyio.sleep(20)
        assert gate.state()["opened"] == 1 and gate.state()["parked_at"] is not None
        assert len(service.arrived) == 3
        for task in others:
            task.cancel()

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


@pytest.mark.parametrize("others_answer", [True, False])
def test_calls_that_hang_together_park_the_service_and_some_beside_good_ones_do_not(*, others_answer: bool) -> None:
    """A hundred rows that hang are bad rows while others are answered; without any answer it is the service."""

    async def run() -> None:
        async def hang(client: HttpClient) -> None:
            request = client.build("GET", "/")
            with anyio.move_on_after(10):
                await client.send(request, idempotent=True)
            outages.append(request.extensions[OUTAGE])

        outages: list[str | None] = []
        hanging, answering = Service(well, seconds=60.0), Service(well)
        client, gate = client_of(hanging)
        good = HttpClient(answering, base_url="http://service", gate=gate)
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(hang, client)
            for _ in range(90 if others_answer else 10):
                await send(good)
        assert gate.state()["opened"] == (0 if others_answer else 1)
        assert outages == ([None] * 8 if others_answer else [None] * 4 + ["silent"] * 4)
        if not others_answer:
            assert "was not answered before its deadline" in (gate.state()["parked_why"] or "")

    run_virtually(run)


def test_calls_that_are_given_up_for_other_reasons_say_nothing_about_the_service() -> None:
    """A node beside them failed, or the execution ends."""

    async def run() -> None:
        client, gate = client_of(Service(well, seconds=60.0))
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(send, client)
            await anyio.sleep(1)
            tasks.cancel_scope.cancel()
        assert (gate.state()["opened"], gate.state()["in_flight"]) == (0, 0)

    run_virtually(run)
