"""One client per named service, shared by all nodes that use it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from batchrun.core.job import Resource
from batchrun.net.auth import signing
from batchrun.net.client import HttpClient
from batchrun.net.shared import gate_of
from batchrun.net.transports import transport_to


@dataclass(slots=True, kw_only=True)
class _Open:
    transport: httpx.AsyncBaseTransport
    client: HttpClient
    users: int = 0


_open: dict[tuple[int, int], _Open] = {}


@asynccontextmanager
async def client_of(resource: Resource) -> AsyncIterator[HttpClient]:
    """The client of a resource on the running event loop.

    Whoever enters first opens it and whoever leaves last closes it, so its limits hold for all of them together.
    Resources are told apart by identity, not by their values: two names are two limits.
    """
    key = id(resource), id(asyncio.get_running_loop())
    if key not in _open:
        transport = signing(transport_to(resource), resource.auth)
        gate = gate_of(resource)
        client = HttpClient(transport, base_url=resource.base_url, headers=resource.headers, gate=gate, timeouts=resource.timeouts)
        _open[key] = _Open(transport=transport, client=client)
    shared = _open[key]
    shared.users += 1
    try:
        yield shared.client
    finally:
        shared.users -= 1
        if not shared.users:
            del _open[key]
            await shared.transport.aclose()
