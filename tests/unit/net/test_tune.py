"""Changing the limit of a service while requests are under way, seen by the service."""

from __future__ import annotations

from functools import partial

import anyio
import anyio.to_thread
import pytest
from anyio.abc import TaskGroup

from batchrun.core.job import Resource
from batchrun.net.client import HttpClient
from batchrun.net.clients import client_of
from batchrun.net.shared import tune
from batchrun.testing.loopback import Answer, LoopbackServer


def send(tasks: TaskGroup, client: HttpClient, count: int) -> None:
    async def one() -> None:
        await client.send(client.build("GET", "/"), idempotent=True)

    for _ in range(count):
        tasks.start_soon(one)


async def until(server: LoopbackServer, *, requests: int, in_flight: int) -> None:
    await anyio.to_thread.run_sync(server.wait_until, lambda server: (len(server.requests), server.in_flight) == (requests, in_flight))


@pytest.mark.parametrize("max_concurrency", [2, None])
async def test_a_limit_holds_from_the_moment_it_is_changed(max_concurrency: int | None) -> None:
    """More requests go at once; fewer only as those under way end; with no limit before, those under way count all the same."""
    with LoopbackServer({"/": Answer(held=True)}) as server:
        resource = Resource(base_url=server.url, max_concurrency=max_concurrency)
        async with client_of(resource) as client, anyio.create_task_group() as tasks:
            if max_concurrency is None:
                send(tasks, client, 5)
                await until(server, requests=5, in_flight=5)
                tune(resource, max_concurrency=5)
                send(tasks, client, 7)
            else:
                send(tasks, client, 12)
                await until(server, requests=2, in_flight=2)
                tune(resource, max_concurrency=5)
            await until(server, requests=5, in_flight=5)
            tune(resource, max_concurrency=3)
            for ended in range(1, 12):
                server.release(1)
                sent = min(max(5, 3 + ended), 12)
                await until(server, requests=sent, in_flight=sent - ended)
            server.release(1)
    assert server.most_in_flight == 5


async def test_a_limit_changed_before_the_service_is_used_holds_when_it_is() -> None:
    """It must not matter whether a node has opened the service already; and another resource keeps its own limit."""
    with LoopbackServer({"/": Answer(held=True)}) as server:
        resource, other = Resource(base_url=server.url), Resource(base_url=server.url)
        tune(resource, max_concurrency=2)
        for _ in range(2):  # closed and opened again
            done = len(server.requests)
            async with client_of(resource) as client, anyio.create_task_group() as tasks:
                send(tasks, client, 3)
                await until(server, requests=done + 2, in_flight=2)
                server.release(1)
                await until(server, requests=done + 3, in_flight=2)
                server.release(2)
        assert server.most_in_flight == 2
        async with client_of(other) as client, anyio.create_task_group() as tasks:
            send(tasks, client, 4)
            await until(server, requests=10, in_flight=4)
            server.release(4)


def test_a_limit_ends_with_the_event_loop() -> None:
    """The same job run again in the same process begins with what the job says."""

    async def requests(server: LoopbackServer, resource: Resource, *, limit: int | None) -> None:
        if limit is not None:
            tune(resource, max_concurrency=limit)
        async with client_of(resource) as client, anyio.create_task_group() as tasks:
            send(tasks, client, 3)
            before = len(server.requests)
            await until(server, requests=before + (limit or 3), in_flight=limit or 3)
            tasks.cancel_scope.cancel()

    with LoopbackServer({"/": Answer(held=True)}) as server:
        resource = Resource(base_url=server.url)
        anyio.run(partial(requests, server, resource, limit=1))
        server.wait_until(lambda server: server.in_flight == 0)
        anyio.run(partial(requests, server, resource, limit=None))


async def test_a_limit_below_one_is_refused() -> None:
    """A service nothing can be sent to would only hang the run."""
    with pytest.raises(ValueError, match="max_concurrency: must be ≥ 1, got 0"):
        tune(Resource(base_url="http://127.0.0.1"), max_concurrency=0)
