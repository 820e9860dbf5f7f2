"""Following the events of a run: they tell when it is time to ask how it is doing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx

from batchrun.core.errors import HttpStatusError, NodeError, ResponseError
from batchrun.net.answers import Steps, taken
from batchrun.net.client import HttpClient
from batchrun.net.server_events import ServerEvent, server_events
from batchrun.nodes.remote_parts import Poll
from batchrun.nodes.remote_states import States

_NO_STREAM = (400, 401, 403, 404, 405, 406, 410, 501)


class Ear:
    """Listens to the stream of one run.

    Args:
        client: of the service.
        request: opens the stream.
        state: leads to the state in the data of an event; null: each event is news.
        states: what states mean.

    Attributes:
        is_open: whether the stream is open now.
    """

    def __init__(self, client: HttpClient, request: httpx.Request, state: Steps | None, states: States) -> None:
        self._client = client
        self._request = request
        self._state = state
        self._states = states
        self._news = asyncio.Event()
        self._last_id: str | None = None
        self.is_open = False

    @asynccontextmanager
    async def listening(self, poll: Poll) -> AsyncIterator[None]:
        """Listen for as long as this is entered."""
        task = asyncio.create_task(self._listen(poll))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def wait(self, seconds: float) -> None:
        """Return when there is news of the run, at the latest after `seconds`."""
        with anyio.move_on_after(seconds):
            await self._news.wait()
        self._news.clear()

    async def _listen(self, poll: Poll) -> None:
        wait = poll.initial_seconds
        while True:
            try:
                async for event in self._events():
                    wait = event.retry_seconds or poll.initial_seconds
                    if self._is_news(event):
                        self._news.set()
            except HttpStatusError as error:
                if error.http_status in _NO_STREAM:
                    return  # there is none: what is left is to poll
            except (NodeError, httpx.TransportError):
                pass  # it broke off: whoever asks how the run is doing finds out whether the service is away
            finally:
                self.is_open = False
            self._news.set()  # what was told while nobody listened is lost
            await anyio.sleep(wait)
            wait = min(wait * poll.multiplier, poll.max_seconds)

    async def _events(self) -> AsyncIterator[ServerEvent]:
        request = self._request
        if self._last_id is not None:
            headers = [*request.headers.raw, (b"last-event-id", self._last_id.encode())]
            request = httpx.Request(request.method, request.url, headers=headers, stream=request.stream, extensions=request.extensions)
        async with self._client.stream(request) as response:
            self.is_open = True
            async for event in server_events(response):
                self._last_id = event.id
                yield event

    def _is_news(self, event: ServerEvent) -> bool:
        if self._state is None:
            return True
        try:
            state = taken(json.loads(event.data), self._state, self._request)
        except (ValueError, ResponseError):
            return False
        return self._states.meaning(state) != "running"
