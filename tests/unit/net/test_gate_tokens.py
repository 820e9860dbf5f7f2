"""The gate with a limit of tokens."""

from __future__ import annotations

import anyio
import httpx

from batchrun.core.errors import NodeError
from batchrun.core.job import Resource
from batchrun.net.client import HttpClient, TokenCount
from batchrun.net.clients import client_of as shared_client
from batchrun.net.shared import states, tune
from batchrun.testing.clock import run_virtually
from tests.unit.net.counting import Service, answered, client_of, send, well


async def ask(client: HttpClient, expected: int, used: int | None) -> NodeError | None:
    try:
        await client.send(client.build("GET", "/"), idempotent=True, tokens=TokenCount(expected=expected, used=lambda _answer: used))
    except NodeError as error:
        return error
    return None


def test_a_service_never_counts_too_many_tokens_in_a_minute() -> None:
    """What calls may use is held back before, and given back when they used less; nothing is left unused for long."""

    async def run() -> list[float]:
        service = Service(well, seconds=1.0)
        client, gate = client_of(service, tokens_per_minute=60_000, max_concurrency=50)
        async with anyio.create_task_group() as tasks:
            for _ in range(1_000):
                tasks.start_soon(ask, client, 2_000, 500)
        assert gate.state()["tokens"] == 500_000
        assert gate.state()["tokens_per_minute"] == 60_000
        return service.arrived

    times = run_virtually(run)
    assert all(later - earlier >= 60 for earlier, later in zip(times, times[120:], strict=False))
    assert times[-1] - times[0] <= 1_000 / 120 * 60 / 0.9


def test_calls_without_tokens_do_not_wait_for_any() -> None:
    """An HTTP node may share the service of a model; so may a refused call, which has used none."""

    async def run() -> None:
        client, gate = client_of(Service(lambda _service: answered(400)), tokens_per_minute=60)
        before = anyio.current_time()
        assert await ask(client, 1_000, 1_000) is not None
        assert await send(client) is not None
        assert await ask(client, 60, 60) is not None
        assert anyio.current_time() - before < 1
        assert gate.state()["tokens"] == 0

    run_virtually(run)


def test_a_cancelled_call_gives_its_tokens_back() -> None:
    """Else each item that is stopped would leave the service idle for a minute."""

    async def run() -> None:
        client, gate = client_of(Service(well), tokens_per_minute=600)
        turn = await gate.enter(600)
        with anyio.move_on_after(1):
            await ask(client, 100, 100)
        gate.leave(turn, tokens=0)
        before = anyio.current_time()
        assert await ask(client, 600, 600) is None
        assert anyio.current_time() - before < 1

    run_virtually(run)


async def test_the_limit_can_be_tuned_while_calls_wait() -> None:
    """`batchrun tune` reaches the gate, whether there was a limit before or not."""
    resource = Resource(base_url="http://127.0.0.1:9", tokens_per_minute=60)
    async with shared_client(resource):
        tune(resource, tokens_per_minute=1_000_000)
        assert states({"llm": resource})["llm"]["tokens_per_minute"] == 1_000_000
        tune(resource, tokens_per_minute=None)
        assert states({"llm": resource})["llm"]["tokens_per_minute"] is None
        tune(resource, tokens_per_minute=30)
        assert states({"llm": resource})["llm"]["tokens_per_minute"] == 30


def test_headers_that_say_that_no_tokens_are_left_close_the_gate() -> None:
    """The service knows better than any estimate."""

    async def run() -> float:
        told = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20s"}
        client, _ = client_of(Service(lambda _service: httpx.Response(200, headers=told, stream=httpx.ByteStream(b"{}"))))
        before = anyio.current_time()
        await ask(client, 10, 10)
        await ask(client, 10, 10)
        return anyio.current_time() - before

    assert run_virtually(run) >= 20
