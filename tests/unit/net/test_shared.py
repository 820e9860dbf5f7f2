"""Sharing one client between the nodes that use a resource."""

from __future__ import annotations

import anyio
import anyio.to_thread

from batchrun.core.job import Resource
from batchrun.net.client import HttpClient
from batchrun.net.clients import client_of
from batchrun.testing.loopback import Answer, LoopbackServer


async def test_all_users_of_a_resource_share_its_limit() -> None:
    """`max_concurrency` is a promise to the service, whichever nodes call it."""
    with LoopbackServer({"/": Answer(held=True)}) as server:
        resource = Resource(base_url=server.url, max_concurrency=2)

        async def send(client: HttpClient) -> None:
            await client.send(client.build("GET", "/"), idempotent=True)

        async with client_of(resource) as first, client_of(resource) as second, anyio.create_task_group() as tasks:
            for client in (first, second) * 3:
                tasks.start_soon(send, client)
            for done in range(6):
                await anyio.to_thread.run_sync(server.wait_until, lambda server, n=done: len(server.requests) == min(n + 2, 6))
                server.release(1)
    assert server.most_in_flight == 2
    assert first is second


async def test_resources_with_equal_settings_are_still_two() -> None:
    """Two names in a job are two limits."""
    async with client_of(Resource(base_url="http://127.0.0.1")) as one, client_of(Resource(base_url="http://127.0.0.1")) as other:
        assert one is not other


async def test_a_client_is_closed_by_its_last_user_and_opened_anew_afterwards() -> None:
    """Connections of a finished execution must not stay open, nor reach into the next one."""
    with LoopbackServer({"/": Answer()}) as server:
        resource = Resource(base_url=server.url)
        for _ in range(2):
            async with client_of(resource) as outer:
                async with client_of(resource):
                    pass
                await outer.send(outer.build("GET", "/"), idempotent=True)
    assert server.connections == 2
