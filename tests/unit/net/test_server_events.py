"""Server-sent events, however the network cuts them up."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from batchrun.core.errors import ResponseError
from batchrun.net.server_events import ServerEvent, server_events

STREAM = (
    b"\xef\xbb\xbf: a comment\r\nretry: 1500\r\nid: 7\r\nevent: state\r\ndata: one\r\ndata:two\r\n\r\n"
    b"event: nothing\n\ndata\n\rdata: \xc3\xbc\nid: a\0b\rretry: soon\n\ndata: cut off"
)
EVENTS = [ServerEvent("state", "one\ntwo", "7", 1.5), ServerEvent("message", "", "7", 1.5), ServerEvent("message", "ü", "7", 1.5)]


class Chunks(httpx.AsyncByteStream):
    """A body that comes in pieces of this size."""

    def __init__(self, body: bytes, size: int) -> None:
        self._pieces = [body[start : start + size] for start in range(0, len(body), size)]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
async def test_events_are_the_same_however_they_arrive(size: int) -> None:
    """Lines end in three ways, characters and line ends are cut in two, and what was not finished is no event."""
    found = [event async for event in server_events(httpx.Response(200, stream=Chunks(STREAM, size)))]
    assert found == EVENTS


async def test_a_line_without_an_end_is_refused() -> None:
    """A service that never ends a line must not fill the memory."""
    with pytest.raises(ResponseError, match="a line of more than 1,048,576 characters"):
        async for _ in server_events(httpx.Response(200, stream=Chunks(b"x" * (2**20 + 70_000), 65_536))):
            pass
