"""The client against a real server: limits, errors, and what is known after a failure."""

from __future__ import annotations

import gzip
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
import httpx
import pytest

from batchrun.core.errors import HttpStatusError, InvalidValue, NodeError, ResponseError, TransportError
from batchrun.core.job import Resource
from batchrun.net.client import HttpClient
from batchrun.net.gate import Gate
from batchrun.net.transport import AiohttpTransport
from batchrun.testing.loopback import Answer, LoopbackServer, json_answer

CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut"


@asynccontextmanager
async def client_for(server: LoopbackServer, max_concurrency: int | None = None) -> AsyncIterator[HttpClient]:
    async with AiohttpTransport() as transport:
        yield HttpClient(transport, base_url=server.url, gate=Gate(Resource(base_url=server.url, max_concurrency=max_concurrency)))


async def until_in_flight(server: LoopbackServer, count: int) -> None:
    await anyio.to_thread.run_sync(server.wait_until, lambda server: server.in_flight == count)


async def test_an_answer_is_read_whole_and_decompressed() -> None:
    """A node sees what the service said, not how it travelled."""
    answer = Answer(status=201, headers={"Content-Encoding": "gzip", "X-Id": "7"}, body=gzip.compress(b"label"))
    with LoopbackServer({"/v1/labels": answer}) as server:
        async with AiohttpTransport() as transport:
            client = HttpClient(transport, base_url=server.url + "/v1/", headers={"X-Team": "a", "Accept": "text/plain"})
            request = client.build("POST", "labels?n=1", headers={"x-team": "b", "content-type": "text/x"}, content=b"text")
            got = await client.send(request, idempotent=False)
    assert (got.status, got.body, got.headers["x-id"]) == (201, b"label", "7")
    sent = server.requests[0]
    assert (sent.path, sent.body) == ("/v1/labels?n=1", b"text")
    assert (sent.headers["x-team"], sent.headers["accept"], sent.headers["accept-encoding"]) == ("b", "text/plain", "gzip, deflate")


async def test_a_client_that_has_more_headers_shares_all_else() -> None:
    """What a node says goes before what its resource says, and its requests count for the limits of the resource."""
    gate_of_all = Gate(Resource(base_url="http://service.test"))
    with LoopbackServer({"/": Answer()}) as server:
        async with AiohttpTransport() as transport:
            client = HttpClient(transport, base_url=server.url, headers={"X-Team": "a", "Accept": "text/plain"}, gate=gate_of_all)
            more = client.having({"accept": "application/json"})
            for one in (client, more):
                await one.send(one.build("GET", "", query="id=1", headers={"x-id": "7"}), idempotent=True)
    assert [request.headers["accept"] for request in server.requests] == ["text/plain", "application/json"]
    assert all((request.path, request.headers["x-team"], request.headers["x-id"]) == ("/?id=1", "a", "7") for request in server.requests)
    assert gate_of_all.state()["calls"] == 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(status=422, body="no such\nlabel\x1b[31m ü".encode()), r"POST URL/ answered 422: no such\nlabel\x1b[31m ü"),
        (Answer(status=404), "POST URL/ answered 404 with an empty body"),
        (Answer(status=500, body=b"x" * 5_000_000), "POST URL/ answered 500: " + "x" * 299 + "…"),
        (Answer(status=500, headers={"Content-Encoding": "gzip"}, body=b"broken"), "POST URL/ answered 500 with an empty body"),
        (Answer(raw=CUT.replace(b"200", b"503")), "POST URL/ answered 503 with an empty body"),
        (
            Answer(status=307, headers={"Location": "https://other/place?key=secret"}),
            "POST URL/ answered 307: redirects are not followed; it points to https://other/place?…",
        ),
        (Answer(status=304), "POST URL/ answered 304: redirects are not followed; it names no other address"),
    ],
    ids=["excerpt", "empty", "huge", "unreadable", "cut off", "redirect", "no target"],
)
async def test_an_error_status_says_who_answered_what(answer: Answer, message: str) -> None:
    """The failed row of a result must be enough to see what the service objected to."""
    with LoopbackServer({"/": answer}) as server:
        async with client_for(server) as client:
            with pytest.raises(HttpStatusError) as raised:
                await client.send(client.build("POST", "/?key=secret", content=b"x"), idempotent=False)
    assert str(raised.value) == message.replace("URL", server.url)
    assert raised.value.ambiguous is False


@pytest.mark.parametrize(("status", "retryable"), [(302, False), (400, False), (408, True), (429, True), (503, True)])
async def test_an_error_status_says_whether_and_when_to_try_again(status: int, *, retryable: bool) -> None:
    """The retry policy decides by these fields and never by the text."""
    with LoopbackServer({"/": Answer(status=status, headers={"Retry-After": "7"})}) as server:
        async with client_for(server) as client:
            with pytest.raises(HttpStatusError) as raised:
                await client.send(client.build("GET", "/"), idempotent=True)
    error = raised.value
    assert (error.http_status, error.retryable, error.retry_after_seconds) == (status, retryable, 7.0 if status >= 400 else None)


@pytest.mark.parametrize("idempotent", [True, False])
@pytest.mark.parametrize(
    "answer",
    [Answer(raw=b""), Answer(raw=b"", reset=True), Answer(raw=b"nonsense"), Answer(raw=CUT)],
    ids=["closed", "reset", "not HTTP", "cut"],
)
async def test_a_lost_answer_is_ambiguous_unless_the_request_is_idempotent(answer: Answer, *, idempotent: bool) -> None:
    """A payment that may have been made must not be made again."""
    with LoopbackServer({"/": answer}) as server:
        async with client_for(server) as client:
            with pytest.raises(TransportError, match=r"^POST http://[^ ]*/ failed: ") as raised:
                await client.send(client.build("POST", "/?key=secret"), idempotent=idempotent)
    assert raised.value.ambiguous is not idempotent
    assert "secret" not in str(raised.value)


async def test_a_refused_connection_is_never_ambiguous() -> None:
    """Nothing was sent, so any request may be tried again."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with AiohttpTransport() as transport:
            client = HttpClient(transport, base_url=f"http://127.0.0.1:{unused.getsockname()[1]}")
            with pytest.raises(TransportError, match="Connection refused") as raised:
                await client.send(client.build("POST", "/"), idempotent=False)
    assert (raised.value.ambiguous, raised.value.retryable) == (False, True)


async def test_a_request_that_cannot_be_written_down_is_not_tried_again() -> None:
    """The same item would make the same request."""
    async with AiohttpTransport() as transport:
        client = HttpClient(transport)
        for address in ("http://host:port/", "http://127.0.0.1/" + "a" * 70_000, "http://127.0.0.1/\n"):
            with pytest.raises(InvalidValue, match="cannot be written down"):
                client.build("GET", address)
        with pytest.raises(InvalidValue, match="only http and https"):
            await client.send(client.build("GET", "ftp://127.0.0.1/"), idempotent=True)


async def test_an_answer_that_is_too_large_says_what_to_raise() -> None:
    """The limit protects memory; the message must lead to the option."""
    with LoopbackServer({"/": Answer(body=b"x" * 101)}) as server:
        async with client_for(server) as client:
            with pytest.raises(ResponseError, match="answered 200, but the body has more than 100 bytes; raise max_response_bytes"):
                await client.send(client.build("GET", "/"), idempotent=True, max_response_bytes=100)


async def test_concurrency_is_exact_and_turns_are_in_order() -> None:
    """The service counts at most as many requests as it was promised, however many wait."""
    with LoopbackServer(lambda _received: Answer(held=True)) as server:
        async with client_for(server, max_concurrency=3) as client, anyio.create_task_group() as tasks:

            async def send(number: int) -> None:
                await client.send(client.build("GET", f"/{number}"), idempotent=True)

            for number in range(30):
                tasks.start_soon(send, number)
            for released in range(30):
                await anyio.to_thread.run_sync(server.wait_until, lambda server, n=released: len(server.requests) == min(n + 3, 30))
                server.release(1)
    assert server.most_in_flight == 3
    order = [int(request.path[1:]) for request in server.requests]
    assert sorted(order[:3]) == [0, 1, 2]
    assert order[3:] == list(range(3, 30))


async def test_a_cancelled_request_gives_its_turn_back() -> None:
    """A deadline that passes, in flight or in the queue, must not cost the service's limit a place for good."""
    with LoopbackServer({"/held": Answer(held=True), "/": json_answer(1)}) as server:
        async with client_for(server, max_concurrency=1) as client, anyio.create_task_group() as tasks:

            async def send(path: str, scope: anyio.CancelScope) -> None:
                with scope:
                    await client.send(client.build("GET", path), idempotent=True)

            in_flight, queued = anyio.CancelScope(), anyio.CancelScope()
            tasks.start_soon(send, "/held", in_flight)
            tasks.start_soon(send, "/held", queued)
            tasks.start_soon(send, "/", anyio.CancelScope())
            await until_in_flight(server, 1)
            queued.cancel()
            in_flight.cancel()
    assert [request.path for request in server.requests] == ["/held", "/"]


async def test_every_way_to_fail_gives_the_turn_back() -> None:
    """One place leaked per failure would stop a job after a few bad answers."""
    faults = [
        Answer(raw=b""),
        Answer(raw=b"nonsense"),
        Answer(raw=CUT),
        Answer(status=500),
        Answer(status=302),
        Answer(body=b"x" * 1_000_000),
        Answer(headers={"Content-Encoding": "gzip"}, body=b"broken"),
        Answer(headers={"Content-Encoding": "br"}, body=b"unknown"),
    ]
    with LoopbackServer({"/": [*faults, json_answer(1)]}) as server:
        async with client_for(server, max_concurrency=1) as client:
            for _ in faults:
                with pytest.raises(NodeError):
                    await client.send(client.build("POST", "/"), idempotent=True, max_response_bytes=1_000)
            with anyio.fail_after(60):
                assert (await client.send(client.build("POST", "/"), idempotent=True)).body == b"1"


async def test_any_httpx_transport_fits() -> None:
    """Tests of users run without a server, and special networks bring a transport of their own."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=gzip.compress(request.content), headers={"Content-Encoding": "gzip"})

    client = HttpClient(
        httpx.MockTransport(answer), base_url="http://service", gate=Gate(Resource(base_url="http://service", max_concurrency=1))
    )
    got = await client.send(client.build("PUT", "/x", content=b"echo"), idempotent=True)
    assert got.body == b"echo"
