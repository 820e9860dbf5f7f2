"""A service on a virtual clock that counts what reaches it, and calls of it through a gate."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import anyio
import httpx

from batchrun.core.errors import NodeError
from batchrun.core.job import Resource
from batchrun.net.client import HttpClient
from batchrun.net.gate import Gate

CHANCE = random.Random(7)  # noqa: S311 - no secret


class Service(httpx.AsyncBaseTransport):
    """Answers after a while, as it is told to.

    Attributes:
        arrived: when each request arrived.
        most: the most that were there at once.
    """

    def __init__(self, answer: Callable[[Service], httpx.Response], *, seconds: float = 0.1) -> None:
        self.arrived: list[float] = []
        self.present = self.most = 0
        self._answer = answer
        self._seconds = seconds

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.arrived.append(anyio.current_time())
        self.present += 1
        self.most = max(self.most, self.present)
        try:
            answer = self._answer(self)
            if answer.status_code == 200:
                await anyio.sleep(self._seconds)
            return answer
        finally:
            self.present -= 1


def well(_service: Service) -> httpx.Response:
    return httpx.Response(200, stream=httpx.ByteStream(b"{}"))


def answered(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()}, stream=httpx.ByteStream(b""))


def client_of(service: httpx.AsyncBaseTransport, **options: Any) -> tuple[HttpClient, Gate]:
    gate = Gate(Resource(base_url="http://service", **options), chance=lambda: 0.5)
    return HttpClient(service, base_url="http://service", gate=gate), gate


async def send(client: HttpClient, sent: Callable[[], None] = lambda: None) -> NodeError | None:
    try:
        await client.send(client.build("GET", "/"), idempotent=True, on_send=sent)
    except NodeError as error:
        return error
    return None


async def until_well(client: HttpClient, pause_seconds: float = 0.0) -> int:
    """Send again until it goes well; says how often it had to be sent."""
    count = 1
    while await send(client) is not None:
        count += 1
        await anyio.sleep(pause_seconds * CHANCE.random())
    return count


async def all_of(count: int, function: Callable[..., Any], *args: Any) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(function, *args)
