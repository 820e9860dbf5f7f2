"""Connections that are kept between requests, against services that do what few do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx
import pytest

from batchrun.core.errors import FileUnreadable
from batchrun.net.messages import WrittenRequest, target_of
from batchrun.net.transport import AiohttpTransport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
READ_SECONDS = 1.0  # a busy machine answers in less
DESCRIPTORS = Path("/proc/self/fd")

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Pieces(httpx.AsyncByteStream):
    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces


def open_descriptors() -> int:
    return len(list(DESCRIPTORS.iterdir()))


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    """A service that says on each connection just what `serve` writes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
            await reader.read()  # until the client goes
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def asking(
    url: str, *, body: bytes | httpx.AsyncByteStream = b"", size: int = 0, read: float | None = None, write: float | None = None
) -> WrittenRequest:
    target = target_of(url)
    fields = {"host": target.origin.netloc, "content-length": str(size)}
    return WrittenRequest("POST", target, fields, body, {"timeout": {"read": read, "write": write}})


async def answer_to(transport: httpx.AsyncBaseTransport, request: httpx.Request) -> bytes:
    response = await transport.handle_async_request(request)
    assert isinstance(response.stream, httpx.AsyncByteStream)
    try:
        return b"".join([part async for part in response.stream])
    finally:
        await response.stream.aclose()


@pytest.mark.parametrize("is_first", [True, False])
async def test_an_answer_too_many_is_never_that_of_the_next_request(is_first: bool) -> None:
    """Else each item would get the answer of the one before it, and nobody would know."""
    has_begun = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
            if path != b"/tw":
                writer.write(OK + path[1:])
                continue
            writer.write(OK + b"t")
            await has_begun.wait()
            writer.write(b"w" + OK + b"XX")

    async with serving(serve) as url, AiohttpTransport() as transport:
        if not is_first:
            assert await answer_to(transport, asking(f"{url}/00")) == b"00"
        response = await transport.handle_async_request(asking(f"{url}/tw"))
        has_begun.set()
        assert b"".join([part async for part in response.aiter_raw()]) == b"tw"
        for number in (b"01", b"02"):
            assert await answer_to(transport, asking(f"{url}/{number.decode()}")) == number


@pytest.mark.parametrize("is_first", [True, False])
async def test_silence_is_counted_after_an_interim_answer_too(is_first: bool) -> None:
    """A service that only says that it goes on has not answered, and would be waited for without end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not is_first:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK + b"ok")
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")

    with anyio.fail_after(30):
        async with serving(serve) as url, AiohttpTransport() as transport:
            if not is_first:
                assert await answer_to(transport, asking(url, read=READ_SECONDS)) == b"ok"
            with pytest.raises(httpx.ReadTimeout):
                await answer_to(transport, asking(url, read=READ_SECONDS))


@pytest.mark.parametrize("meanwhile", [b"HTTP/1.1 100 Continue\r\n\r\n", b""])
async def test_silence_is_not_counted_while_a_request_is_sent(meanwhile: bytes) -> None:
    """A service that asks for the rest of a request has nothing to say before it has that."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK + b"ok")
        await reader.readuntil(b"\r\n\r\n")
        writer.write(meanwhile)
        await reader.readexactly(2)
        writer.write(OK + b"ok")

    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.sleep(1.2 * READ_SECONDS)  # longer than the service may be silent
        yield b"b"

    async with serving(serve) as url, AiohttpTransport() as transport:
        assert await answer_to(transport, asking(url, read=READ_SECONDS)) == b"ok"
        assert await answer_to(transport, asking(url, body=Pieces(pieces()), size=2, read=READ_SECONDS)) == b"ok"


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="only Linux lists open descriptors there")
async def test_a_request_that_is_given_up_leaves_no_connection_open() -> None:
    """A service that takes nothing would keep it, and what is still to be written, for as long as it likes."""
    is_over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await is_over.wait()

    async with serving(serve) as url, AiohttpTransport() as transport:
        before, size = open_descriptors(), 64 * 2**20
        with pytest.raises(httpx.WriteTimeout):
            await answer_to(transport, asking(url, body=bytes(size), size=size, write=0.2))
        with anyio.fail_after(30):
            while open_descriptors() > before + 1:  # that of the service
                await anyio.lowlevel.checkpoint()
        is_over.set()


async def test_a_service_may_begin_to_answer_while_it_takes_the_request() -> None:
    """What is left of the request is still sent, however long the service may take for each piece of it."""
    size = 3 * 2**20

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"o")
        await reader.readexactly(size)
        writer.write(b"k")

    has_begun = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield bytes(2**20)
        await has_begun.wait()
        yield bytes(2**20)
        yield bytes(2**20)

    with anyio.fail_after(30):
        async with serving(serve) as url, AiohttpTransport() as transport:
            response = await transport.handle_async_request(asking(url, body=Pieces(pieces()), size=size, write=20.0))
            has_begun.set()
            assert b"".join([part async for part in response.aiter_raw()]) == b"ok"


async def test_a_body_that_cannot_be_had_is_told_without_the_proxy() -> None:
    """Its password would be in the result; why the body cannot be had is all that counts."""

    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        raise FileUnreadable("data.bin was changed while it was sent", retryable=True)

    async with serving(serve) as url, AiohttpTransport(proxy_of=lambda *_: url.replace("//", "//user:secret@")) as transport:
        with pytest.raises(httpx.WriteError) as raised:
            await answer_to(transport, asking("http://service.test/", body=Pieces(pieces()), size=2))
    assert str(raised.value) == "the request could not be sent in full: data.bin was changed while it was sent"
