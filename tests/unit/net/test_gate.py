"""The gate in front of a service: turns, limits, and what the service asks for."""

from __future__ import annotations

import asyncio
import random

import anyio
import httpx
import pytest

from batchrun.testing.clock import run_virtually
from tests.unit.net.counting import Service, all_of, answered, client_of, send, until_well, well


def test_calls_get_their_turn_in_the_order_they_came() -> None:
    """Nobody waits longer because others are luckier; whoever is cancelled leaves its place."""

    async def run() -> list[int]:
        client, gate = client_of(Service(well), requests_per_minute=60, max_concurrency=3)
        order: list[int] = []
        tasks = [asyncio.create_task(send(client, lambda number=number: order.append(number))) for number in range(30)]
        await anyio.sleep(4.5)
        for number in (5, 9):
            tasks[number].cancel()
        await asyncio.wait(tasks)
        assert (gate.state()["in_flight"], gate.state()["queued"], gate.state()["calls"]) == (0, 0, 28)
        return order

    assert run_virtually(run) == [number for number in range(30) if number not in (5, 9)]


@pytest.mark.parametrize("seconds", [0.01, 25.0])
def test_a_service_never_counts_too_many_in_a_minute(seconds: float) -> None:
    """Whatever comes at once or takes long; and at least nine tenths of what is allowed is used."""

    async def run() -> list[float]:
        service = Service(well, seconds=seconds)
        client, _ = client_of(service, requests_per_minute=120)
        async with anyio.create_task_group() as tasks:
            for number in range(1_000):
                tasks.start_soon(send, client)
                await anyio.sleep(0 if number % 100 else 7)
        return service.arrived

    times = run_virtually(run)
    assert all(later - earlier >= 60 for earlier, later in zip(times, times[120:], strict=False))
    assert len(times) == 1_000
    assert times[-1] - times[0] <= 1_000 / 120 * 60 / 0.9


@pytest.mark.parametrize("max_concurrency", [None, 64])
def test_an_adaptive_limit_finds_what_a_service_can_take(max_concurrency: int | None) -> None:
    """A capacity of 20 behind answers of 429: within a quarter of it, and at least 85 % of its throughput, started from nothing."""

    async def run() -> None:
        service = Service(lambda service: well(service) if service.present <= 20 else answered(429))
        client, gate = client_of(service, adaptive=True, max_concurrency=max_concurrency)
        tasks = [asyncio.create_task(until_well(client, 1.0)) for _ in range(5_000)]
        await anyio.sleep(3)
        limits = []
        for _ in range(150):
            await anyio.sleep(0.1)
            limits.append(gate.state()["limit"] or 0)
        assert min(limits) >= 15 and max(limits) <= 25
        await asyncio.wait(tasks)
        assert anyio.current_time() <= 5_000 / 20 * 0.1 / 0.85

    run_virtually(run)


def test_what_a_service_asks_for_holds_for_all_calls() -> None:
    """Retry-After of one answer closes an adaptive resource for that long, jitter on top; then it goes on."""

    async def run() -> list[float]:
        service = Service(lambda service: answered(429, retry_after="30") if len(service.arrived) == 1 else well(service))
        client, _ = client_of(service, adaptive=True, max_concurrency=1)
        await all_of(3, send, client)
        return service.arrived

    assert run_virtually(run) == pytest.approx([0.0, 31.5, 31.6])


@pytest.mark.parametrize(
    "headers",
    [
        {"ratelimit_remaining": "0", "ratelimit_reset": "20"},
        {"x_ratelimit_remaining_requests": "7", "x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "19s1000ms"},
    ],
)
def test_no_call_is_sent_once_a_service_says_that_none_is_left(headers: dict[str, str]) -> None:
    """It is not tried out by being refused."""

    async def run() -> list[float]:
        def answer(service: Service) -> httpx.Response:
            return answered(200, **headers) if len(service.arrived) == 1 else well(service)

        service = Service(answer, seconds=0.0)
        client, _ = client_of(service, max_concurrency=1)
        await all_of(2, send, client)
        return service.arrived

    assert run_virtually(run) == pytest.approx([0.0, 21.0])


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_whatever_happens(seed: int) -> None:
    """Calls that are cancelled anywhere, fail in any way, and limits that change meanwhile: in the end all seats are free."""

    async def run() -> None:
        chance = random.Random(seed)  # noqa: S311 - no secret

        def answer(service: Service) -> httpx.Response:
            if chance.random() < 0.1:
                raise chance.choice([httpx.ConnectError("refused"), httpx.ReadError("broke"), httpx.UnsupportedProtocol("no")])
            return answered(chance.choice([429, 500, 503])) if chance.random() < 0.3 else well(service)

        service = Service(answer)
        client, gate = client_of(service, adaptive=seed % 2 == 0, max_concurrency=8, requests_per_minute=3_000)

        async def one() -> None:
            with anyio.move_on_after(chance.expovariate(0.5)):
                await until_well(client)

        async with anyio.create_task_group() as tasks:
            for number in range(500):
                tasks.start_soon(one)
                if number % 50 == 0:
                    gate.limit(max_concurrency=chance.randint(1, 8), requests_per_minute=chance.choice([None, 3_000]))
                    await anyio.sleep(chance.random())
        assert (gate.state()["in_flight"], gate.state()["queued"], service.present) == (0, 0, 0)
        assert service.most <= 8

    run_virtually(run)
