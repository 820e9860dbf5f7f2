"""One client per named service, shared by all nodes that use it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from anyio.lowlevel import RunVar

from batchrun.core.job import Resource
from batchrun.net.client import HttpClient
from batchrun.net.transport import AiohttpTransport


@dataclass(slots=True, kw_only=True)
class _Open:
    resource: Resource  # kept, so that its id stays taken
    transport: AiohttpTransport
    client: HttpClient
    users: int = 0


_open: dict[tuple[int, int], _Open] = {}
_tuned: RunVar[dict[int, tuple[Resource, Resource]]] = RunVar("batchrun_tuned")
"""By the id of a resource that was tuned on this event loop: itself, kept so that its id stays taken, and what it is now."""


@asynccontextmanager
async def client_of(resource: Resource) -> AsyncIterator[HttpClient]:
    """The client of a resource on the running event loop.

    Whoever enters first opens it and whoever leaves last closes it, so `max_concurrency` holds for all of them together.
    Resources are told apart by identity, not by their values: two names are two limits.
    """
    key = _key(resource)
    if key not in _open:
        _, now = _tuned.get({}).get(id(resource), (resource, resource))
        transport = AiohttpTransport()
        client = HttpClient(transport, base_url=now.base_url, headers=now.headers, max_concurrency=now.max_concurrency)
        _open[key] = _Open(resource=resource, transport=transport, client=client)
    shared = _open[key]
    shared.users += 1
    try:
        yield shared.client
    finally:
        shared.users -= 1
        if not shared.users:
            del _open[key]
            await shared.transport.aclose()


def tune(resource: Resource, max_concurrency: int | None) -> None:
    """Change the limit of a resource on the running event loop, whether its client is open now or opened later. Null: no limit.

    Waiting requests go at once when there is room for more. When there is room for fewer, none goes before enough of those
    under way have ended. `resource` itself stays as it is.

    Raises:
        ValueError: `max_concurrency` is below 1.
    """
    now = replace(resource, max_concurrency=max_concurrency)
    _tuned.set({**_tuned.get({}), id(resource): (resource, now)})
    shared = _open.get(_key(resource))
    if shared is not None:
        shared.client.limit(max_concurrency)


def _key(resource: Resource) -> tuple[int, int]:
    return id(resource), id(asyncio.get_running_loop())
