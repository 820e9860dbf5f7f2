"""Server-sent events: what a service tells as it happens, over one answer that goes on."""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterable, AsyncIterator
from typing import NamedTuple, cast

import httpx

from batchrun.core.errors import ResponseError

_LONGEST_LINE = 2**20


class ServerEvent(NamedTuple):
    """One event.

    Attributes:
        name: its type; `message` where it has none.
        data: its text.
        id: of the last event that had one; a stream that is opened again may go on from there. Null: none had.
        retry_seconds: how long the service asks to be left alone before the stream is opened again; null: it does not say.
    """

    name: str
    data: str
    id: str | None = None
    retry_seconds: float | None = None


async def server_events(response: httpx.Response) -> AsyncIterator[ServerEvent]:
    """The events of an answer, as they come. It ends where the answer does.

    Raises:
        ResponseError: a line has no end.
        httpx.TransportError: the connection broke or went silent.

    Example:
        >>> async def names(response: httpx.Response) -> list[str]:
        ...     return [event.name async for event in server_events(response)]
    """
    name, data, last_id, retry = "", list[str](), None, None
    async for line in _lines(response):
        if not line:
            if data:
                yield ServerEvent(name or "message", "\n".join(data), last_id, retry)
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id" and "\0" not in value:
            last_id = value
        elif field == "retry" and value.isascii() and value.isdigit():
            retry = int(value[:9]) / 1_000


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    r"""Lines may end with `\n`, `\r\n` or `\r`."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    left, after_return = "", False
    async for chunk in cast("AsyncIterable[bytes]", response.stream):
        text = decoder.decode(chunk)
        if after_return and text:
            text, after_return = text.removeprefix("\n"), False
        after_return = after_return or text.endswith("\r")
        *lines, left = (left + text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for line in lines:
            yield line
        if len(left) > _LONGEST_LINE:
            raise ResponseError(f"an event has a line of more than {_LONGEST_LINE:,} characters")
