"""The transport against a real server: what is sent, what comes back, and which error each fault becomes."""

from __future__ import annotations

import gzip
import socket
from collections.abc import AsyncIterator, Callable

import anyio
import anyio.to_thread
import httpx
import pytest

from batchrun.net.messages import WrittenRequest, target_of
from batchrun.net.transport import AiohttpTransport
from batchrun.testing.loopback import Answer, LoopbackServer, json_answer

HEAD = b"HTTP/1.1 200 OK\r\n"


def written(method: str, url: str, *, read: float | None = None, **fields: str) -> WrittenRequest:
    """A request as nodes make it; the second one with the same timeouts is sent as the first one went."""
    target, body = target_of(url), b"body" if method in ("POST", "PUT") else b""
    of_body = {"content-type": "text/plain", "content-length": str(len(body))} if body else {}
    return WrittenRequest(method, target, {"host": target.origin.netloc, **of_body, **fields}, body, {"timeout": {"read": read}})


async def exchange(transport: httpx.AsyncBaseTransport, request: httpx.Request) -> tuple[httpx.Response, bytes]:
    response = await transport.handle_async_request(request)
    try:
        return response, b"".join([chunk async for chunk in response.aiter_raw()])
    finally:
        await response.aclose()


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(raw=b""), httpx.RemoteProtocolError),
        (Answer(raw=b"", reset=True), httpx.ReadError),
        (Answer(raw=b"NONSENSE\r\n\r\n"), httpx.RemoteProtocolError),
        (Answer(raw=HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"), httpx.RemoteProtocolError),
        (Answer(raw=HEAD + b"Content-Length: 100\r\n\r\npart"), httpx.RemoteProtocolError),
        (Answer(raw=HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"), httpx.RemoteProtocolError),
        (Answer(raw=HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"), httpx.RemoteProtocolError),
        (Answer(held=True), httpx.ReadTimeout),
    ],
)
@pytest.mark.parametrize("before", [0, 1])
async def test_faults_become_the_right_error_and_are_never_sent_again(
    answer: Answer, expected: type[httpx.TransportError], method: str, before: int
) -> None:
    """Retrying is the caller's decision, so a broken answer must reach it under its right name after exactly one request."""
    with LoopbackServer({"/": answer, "/fine": Answer()}) as server:
        async with AiohttpTransport() as transport:
            for _ in range(before):
                await exchange(transport, written("GET", f"{server.url}/fine", read=0.05))
            request = written(method, f"{server.url}/", read=0.05)
            with pytest.raises(expected) as raised:
                await exchange(transport, request)
    assert type(raised.value) is expected
    assert raised.value.request is request
    assert len(server.requests) == 1 + before


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest.mark.parametrize("made", [httpx.Request, written])
async def test_a_connection_that_went_stale_is_not_sent_to_twice(method: str, made: Callable[[str, str], httpx.Request]) -> None:
    """On kept-alive connections that break, aiohttp repeats idempotent requests; here nothing repeats behind the caller's back."""
    with LoopbackServer({"/": [Answer(), Answer(raw=b"")]}) as server:
        async with AiohttpTransport() as transport:
            await exchange(transport, made(method, f"{server.url}/"))
            with pytest.raises(httpx.RemoteProtocolError):
                await exchange(transport, made(method, f"{server.url}/"))
    assert (len(server.requests), server.connections) == (2, 1)


async def test_what_keeps_a_connection_from_opening_is_a_connect_error() -> None:
    """Nothing was sent, so these are safe to try again whatever the method."""
    with socket.socket() as unused, LoopbackServer({}, drop_connections=1) as server:
        unused.bind(("127.0.0.1", 0))
        refused = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with AiohttpTransport() as transport:
            for address in (refused, "http://name.invalid", server.url.replace("http:", "https:")):
                with pytest.raises(httpx.ConnectError, match="cannot connect to"):
                    await exchange(transport, httpx.Request("POST", address))


async def test_addresses_of_ipv6_are_connected_to() -> None:
    """Their colons are no port, however often a request goes there."""
    request = written("GET", "http://[::1]:1/items")
    async with AiohttpTransport() as transport:
        for _ in range(2):
            with pytest.raises(httpx.ConnectError, match="cannot connect to"):  # nobody listens there, with IPv6 or without
                await exchange(transport, request)


async def test_a_connection_that_does_not_open_in_time_is_a_connect_timeout() -> None:
    """A service that does not even accept was not asked anything."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        address = f"http://127.0.0.1:{full.getsockname()[1]}/path?key=secret"
        async with AiohttpTransport() as transport:
            with pytest.raises(httpx.ConnectTimeout) as raised:
                await exchange(transport, httpx.Request("POST", address, extensions={"timeout": {"connect": 0.05}}))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "headers", "expected"),
    [
        ("ftp://127.0.0.1/", {}, httpx.UnsupportedProtocol),
        ("http://127.1/", {}, httpx.LocalProtocolError),
        ("http://127.0.0.1:1/", {b"X": b"a\r\nY: b"}, httpx.LocalProtocolError),
        ("http://127.0.0.1:1/", {b"X": b"\xff"}, httpx.LocalProtocolError),
    ],
)
async def test_what_cannot_be_sent_is_refused(address: str, headers: dict[bytes, bytes], expected: type[Exception]) -> None:
    """A request that breaks HTTP must never reach a connection."""
    with LoopbackServer({}) as server:
        async with AiohttpTransport() as transport:
            with pytest.raises(expected):
                await exchange(
                    transport, httpx.Request("GET", address.replace("http://127.0.0.1:1", server.url), headers=list(headers.items()))
                )
    assert server.requests == []


async def test_only_what_is_given_is_sent_and_answers_come_back_untouched() -> None:
    """Cookies, logins in addresses, redirects and compression are decisions of the caller, not of the transport."""
    moved = Answer(
        status=302, headers={"Location": "/other", "Set-Cookie": "a=1", "Content-Encoding": "gzip"}, body=gzip.compress(b"moved")
    )
    with LoopbackServer({"/a%2Fb": moved}) as server:
        async with AiohttpTransport() as transport:
            for _ in range(2):
                address = server.url.replace("127.0.0.1", "user:password@localhost") + "/a%2Fb?c=%20d#part"
                response, body = await exchange(
                    transport, httpx.Request("PUT", address, headers={b"X-Name": "ü".encode()}, content=b"sent")
                )
    assert (response.status_code, gzip.decompress(body)) == (302, b"moved")
    assert server.connections == 1
    for request in server.requests:
        assert (request.method, request.path, request.body) == ("PUT", "/a%2Fb?c=%20d", b"sent")
        assert request.headers.keys() == {"host", "x-name", "content-length"}
        assert request.headers["x-name"].encode("latin-1").decode() == "ü"


@pytest.mark.parametrize("size", [0, 100, 3_000_000])
async def test_bodies_of_any_size_arrive_whole(size: int) -> None:
    """Large bodies and bodies of unknown length take other ways through aiohttp than small ones."""
    content = b"x" * size

    async def parts() -> AsyncIterator[bytes]:
        yield content[: size // 2]
        yield content[size // 2 :]

    with LoopbackServer({"/": Answer()}) as server:
        async with AiohttpTransport() as transport:
            await exchange(transport, httpx.Request("POST", server.url, content=content))
            await exchange(transport, httpx.Request("POST", server.url, content=parts()))
    assert [request.body == content for request in server.requests] == [True, True]


async def test_an_answer_that_is_not_read_to_its_end_closes_its_connection() -> None:
    """The rest of an answer nobody wants must neither be read nor be taken for the next answer."""
    with LoopbackServer({"/": Answer(body=b"x" * 5_000_000)}) as server:
        async with AiohttpTransport() as transport:
            response = await transport.handle_async_request(httpx.Request("GET", server.url))
            async for chunk in response.aiter_raw():
                assert len(chunk) < 1_000_000
                break
            await response.aclose()
            _, body = await exchange(transport, httpx.Request("GET", server.url))
    assert (len(body), server.connections) == (5_000_000, 2)


async def test_a_slow_body_is_read_as_it_comes() -> None:
    """The read timeout is about silence, not about the whole answer."""
    with LoopbackServer({"/": Answer(body=b"slow", drip_seconds=0.01)}) as server:
        async with AiohttpTransport() as transport:
            _, body = await exchange(transport, httpx.Request("GET", server.url, extensions={"timeout": {"read": 5.0}}))
    assert body == b"slow"


async def test_a_cancelled_request_closes_its_connection() -> None:
    """A service must be able to stop working for a caller that is gone."""
    with LoopbackServer({"/": Answer(held=True)}) as server:
        async with AiohttpTransport() as transport, anyio.create_task_group() as tasks:
            tasks.start_soon(exchange, transport, httpx.Request("POST", server.url, content=b"x"))
            await anyio.to_thread.run_sync(server.wait_until, lambda server: server.in_flight == 1)
            tasks.cancel_scope.cancel()
        await anyio.to_thread.run_sync(server.wait_until, lambda server: server.in_flight == 0)


async def test_connections_can_be_limited() -> None:
    """A service that takes one connection gets one, and requests wait for it."""
    with LoopbackServer({"/": json_answer(1)}) as server:
        async with AiohttpTransport(max_connections=1) as transport, anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(exchange, transport, httpx.Request("GET", server.url, extensions={"timeout": {"pool": 30, "connect": 5}}))
                tasks.start_soon(exchange, transport, written("GET", f"{server.url}/"))
    assert (len(server.requests), server.connections) == (10, 1)


async def test_proxies_are_used_only_where_the_caller_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy set for a shell must not see data by accident: whether it counts is decided in one place, not here."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with LoopbackServer({"/": Answer()}) as server:
        async with AiohttpTransport() as direct, AiohttpTransport(proxy_of=lambda *_: "http://127.0.0.1:1") as through_proxy:
            await exchange(direct, httpx.Request("GET", server.url))
            with pytest.raises(httpx.ConnectError):
                await exchange(through_proxy, httpx.Request("GET", server.url))
    assert len(server.requests) == 1


async def test_a_request_that_is_taken_no_further_ends_when_it_should() -> None:
    """A service that stops reading holds no upload for ever; one that reads slowly is no such service."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"

    async with AiohttpTransport() as transport:
        request = httpx.Request("POST", url, content=bytes(64 * 2**20), extensions={"timeout": {"write": 0.2}})
        with pytest.raises(httpx.WriteTimeout, match=r"took no more of the request for 0\.2 s"):
            await exchange(transport, request)
    listener.close()
    with LoopbackServer({"/": json_answer(1)}) as server:
        async with AiohttpTransport() as transport:
            request = httpx.Request("POST", server.url, content=bytes(3 * 2**20), extensions={"timeout": {"write": 30}})
            await exchange(transport, request)
    assert len(server.requests[0].body) == 3 * 2**20


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
async def test_a_request_that_is_sent_as_one_before_it_went_is_the_same_request(method: str) -> None:
    """What is left out for the later requests must change nothing but the time they take."""
    with LoopbackServer({"/a": json_answer(1)}) as server:
        async with AiohttpTransport() as transport:
            answers = [await exchange(transport, written(method, f"{server.url}/a?b=%20c", **{"x-name": "ü"})) for _ in range(3)]
    assert [(response.status_code, body) for response, body in answers] == [(200, b"" if method == "HEAD" else b"1")] * 3
    first, *later = [(request.method, request.path, dict(request.headers), request.body) for request in server.requests]
    assert later == [first, first]
    assert first[2].keys() - {"content-type", "content-length"} == {"host", "x-name"}
    assert server.connections == 1


@pytest.mark.parametrize("size", [1, 65_000, 70_000, 1_000_000, 2**20, 3_000_000])
async def test_later_bodies_of_any_size_arrive_whole(size: int) -> None:
    """Small ones are written with their headers, those a service may take a while for by a task, the largest by a session."""
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    with LoopbackServer({"/": json_answer(1)}) as server:
        target = target_of(f"{server.url}/")
        fields = {"host": target.origin.netloc, "content-type": "text/plain", "content-length": str(size)}
        async with AiohttpTransport() as transport:
            for _ in range(3):
                response, _body = await exchange(transport, WrittenRequest("POST", target, fields, content, {"timeout": {"read": 30.0}}))
                assert response.status_code == 200
    assert [(request.body == content, dict(request.headers)) for request in server.requests] == [(True, fields)] * 3
    assert server.connections == 1


async def test_a_later_request_meets_what_the_first_one_did_not() -> None:
    """Hosts, headers and timeouts are judged for each request, whatever went well before it."""
    with LoopbackServer({"/": Answer(), "/held": Answer(held=True)}) as server, socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refused = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        async with AiohttpTransport() as transport:
            await exchange(transport, written("GET", f"{server.url}/"))
            for request, expected in [
                (written("GET", refused), httpx.ConnectError),
                (written("GET", "ftp://127.0.0.1/"), httpx.UnsupportedProtocol),
                (written("GET", "http://127.1/"), httpx.LocalProtocolError),
                (written("GET", f"{server.url}/", x="a\r\nY: b"), httpx.LocalProtocolError),
                (written("GET", f"{server.url}/held", read=0.05), httpx.ReadTimeout),
            ]:
                with pytest.raises(expected):
                    await exchange(transport, request)
            await exchange(transport, written("GET", f"{server.url}/"))
    assert [request.path for request in server.requests] == ["/", "/held", "/"]


async def test_a_later_request_that_is_cancelled_closes_its_connection() -> None:
    """A service must be able to stop working for a caller that is gone."""
    with LoopbackServer({"/": Answer(), "/held": Answer(held=True)}) as server:
        async with AiohttpTransport() as transport, anyio.create_task_group() as tasks:
            await exchange(transport, written("GET", f"{server.url}/"))
            tasks.start_soon(exchange, transport, written("GET", f"{server.url}/held"))
            await anyio.to_thread.run_sync(server.wait_until, lambda server: server.in_flight == 1)
            tasks.cancel_scope.cancel()
        await anyio.to_thread.run_sync(server.wait_until, lambda server: server.in_flight == 0)
