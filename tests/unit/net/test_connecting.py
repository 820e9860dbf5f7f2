"""How services are connected to: proxies, certificates, HTTP/2, and what is said when it cannot be."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import httpx
import pytest
import trustme

from batchrun.core.checks import InvalidFields
from batchrun.core.connection import Connection, Timeouts, Tls
from batchrun.core.errors import Problem, TransportError
from batchrun.core.job import Resource
from batchrun.net.clients import client_of
from batchrun.net.connecting import located, warnings_about
from batchrun.net.transports import proxy_of_environment
from batchrun.testing.loopback import Answer, LoopbackServer, json_answer

AUTHORITY = trustme.CA()


def files(folder: Path) -> dict[str, str]:
    """PEM files of an authority and of a client, by what they are."""
    client = AUTHORITY.issue_cert("batchrun@example.org")
    AUTHORITY.cert_pem.write_to_path(folder / "ca.pem")
    client.private_key_and_cert_chain_pem.write_to_path(folder / "client.pem")
    return {"ca_file": "ca.pem", "client_certificate": "client.pem"}


def problems(resource: Resource, folder: Path) -> list[str]:
    found: list[Problem] = []
    located({"api": resource}, folder, found.append)
    return list(map(str, found))


async def ask(resource: Resource, count: int = 1) -> list[bytes]:
    async with client_of(resource) as client:
        sent = [client.send(client.build("GET", f"/{number}"), idempotent=True) for number in range(count)]
        return [answer.body for answer in await asyncio.gather(*sent)]


@contextmanager
def served(*, tls: ssl.SSLContext | None, http2: bool = True) -> Iterator[tuple[str, list[str]]]:
    """The address of a server that answers each request with its path, and the protocol of each connection."""
    listener, protocols, open_ = socket.create_server(("127.0.0.1", 0)), list[str](), list[socket.socket]()

    def serve(connection: socket.socket) -> None:
        try:
            if tls is not None:
                connection = tls.wrap_socket(connection, server_side=True)
            open_.append(connection)
            is_http2 = http2 and (tls is None or (isinstance(connection, ssl.SSLSocket) and connection.selected_alpn_protocol() == "h2"))
            protocols.append("h2" if is_http2 else "http/1.1")
            (_answer_http2 if is_http2 else _answer_http1)(connection)
        except OSError:
            pass  # the client went away, or trusts nobody here
        finally:
            connection.close()

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{listener.getsockname()[1]}", protocols
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for each in open_:
            each.close()


def _answer_http1(connection: socket.socket) -> None:
    while data := connection.recv(65_536):
        path = data.split(b" ")[1]
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))


def _answer_http2(connection: socket.socket) -> None:
    state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    state.initiate_connection()
    connection.sendall(state.data_to_send())
    while data := connection.recv(65_536):
        for event in state.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                headers: dict[Any, Any] = dict(event.headers or ())
                state.send_headers(event.stream_id or 0, [(":status", "200")])
                state.send_data(event.stream_id or 0, headers[b":path"], end_stream=True)
        connection.sendall(state.data_to_send())


def server_context(*, wants_client: bool = False, http2: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("127.0.0.1").configure_cert(context)
    if http2:
        context.set_alpn_protocols(["h2", "http/1.1"])
    if wants_client:
        AUTHORITY.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def test_a_service_proves_who_it_is_with_the_authority_that_the_job_names(tmp_path: Path) -> None:
    """An authority of one's own is named, not switched off; without it nothing is sent."""
    told = located({"api": Resource(base_url="https://x", tls=Tls(**files(tmp_path)))}, tmp_path, pytest.fail)["api"].tls  # type: ignore[arg-type]
    with served(tls=server_context(), http2=False) as (url, _):
        assert await ask(Resource(base_url=url, tls=told)) == [b"/0"]
        assert await ask(Resource(base_url=url, tls=Tls(verify=False))) == [b"/0"]
        with pytest.raises(TransportError, match="certificate"):
            await ask(Resource(base_url=url, breaker=None))


async def test_a_client_certificate_is_shown_to_a_service_that_asks(tmp_path: Path) -> None:
    """Services inside of companies let nobody in without one."""
    told = located({"api": Resource(base_url="https://x", tls=Tls(**files(tmp_path)))}, tmp_path, pytest.fail)["api"].tls  # type: ignore[arg-type]
    with served(tls=server_context(wants_client=True), http2=False) as (url, _):
        assert await ask(Resource(base_url=url, tls=told)) == [b"/0"]
        with pytest.raises(TransportError):
            await ask(Resource(base_url=url, tls=Tls(ca_file=told.ca_file), breaker=None))


@pytest.mark.parametrize("is_encrypted", [True, False])
async def test_http2_takes_one_connection_for_many_requests(tmp_path: Path, *, is_encrypted: bool) -> None:
    """That is what it is for; without TLS, the service must know what comes."""
    told = located({"api": Resource(base_url="https://x", tls=Tls(**files(tmp_path)))}, tmp_path, pytest.fail)["api"].tls  # type: ignore[arg-type]
    with served(tls=server_context(http2=True) if is_encrypted else None) as (url, protocols):
        answers = await ask(Resource(base_url=url, http2=True, tls=told if is_encrypted else Tls()), count=20)
        assert answers == [f"/{number}".encode() for number in range(20)]
        assert set(protocols) == {"h2"} and len(protocols) < 20
        if is_encrypted:
            await ask(Resource(base_url=url, tls=told))
            assert protocols[-1] == "http/1.1"


async def test_a_service_without_http2_gets_what_it_knows(tmp_path: Path) -> None:
    """The option may be set before the service can do it."""
    told = located({"api": Resource(base_url="https://x", tls=Tls(**files(tmp_path)))}, tmp_path, pytest.fail)["api"].tls  # type: ignore[arg-type]
    with served(tls=server_context(), http2=False) as (url, protocols):
        assert await ask(Resource(base_url=url, http2=True, tls=told)) == [b"/0"]
    assert protocols == ["http/1.1"]


@pytest.mark.parametrize("http2", [False, True])
async def test_nobody_there_is_said_in_the_same_way_by_both_protocols(*, http2: bool) -> None:
    """The breaker tells a service that cannot be reached from one that broke."""
    with pytest.raises(TransportError) as raised:
        await ask(Resource(base_url="http://127.0.0.1:1", http2=http2))
    assert not raised.value.was_sent


async def test_requests_go_through_the_proxy_that_the_job_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """And through the one of the environment where it names none, but not with direct, NO_PROXY, or on this machine."""
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with LoopbackServer(lambda _received: json_answer("through")) as proxy, LoopbackServer({"/0": json_answer("direct")}) as server:
        named = proxy.url.replace("http://", "http://user:pass@")
        assert await ask(Resource(base_url="http://service.test/v1", proxy=named)) == [b'"through"']
        assert proxy.requests[0].path == "http://service.test/v1/0"
        assert proxy.requests[0].headers["proxy-authorization"].startswith("Basic ")
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert await ask(Resource(base_url="http://service.test")) == [b'"through"']
        assert await ask(Resource(base_url=server.url)) == [b'"direct"']
        with pytest.raises(TransportError, match=r"cannot connect to service\.test"):
            await ask(Resource(base_url="http://service.test", proxy="direct"))
        monkeypatch.setenv("NO_PROXY", ".test")
        with pytest.raises(TransportError, match=r"cannot connect to service\.test"):
            await ask(Resource(base_url="http://service.test"))


def test_the_environment_names_proxies_as_other_tools_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """By scheme or for all, with or without a scheme of its own; one that cannot be used is not passed over."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert proxy_of_environment("https", "example.org") is None
    monkeypatch.setenv("ALL_PROXY", "proxy:3128")
    assert proxy_of_environment("https", "example.org") == "http://proxy:3128"
    assert proxy_of_environment("https", "127.0.0.1") is proxy_of_environment("http", "localhost") is None
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy:1080")
    with pytest.raises(httpx.ProxyError, match="SOCKS proxies cannot be used"):
        proxy_of_environment("https", "example.org")


async def test_a_silent_service_ends_at_its_read_timeout() -> None:
    """One phase can be bounded closer than the attempt."""
    with LoopbackServer({"/0": Answer(held=True)}) as server, pytest.raises(TransportError, match="silent for too long"):
        await ask(Resource(base_url=server.url, timeouts=Timeouts(read_seconds=0.1)))


def test_what_cannot_be_connected_with_is_told_before_the_first_item(tmp_path: Path) -> None:
    """Each file by its name, and never the proxy, whose address may hold a password."""
    (tmp_path / "text.pem").write_text("nothing")
    ok = files(tmp_path)
    missing = problems(Resource(base_url="https://x", tls=Tls(ca_file="no.pem")), tmp_path)
    start = f"resources.api.tls.ca_file: there is no file {tmp_path / 'no.pem'}"
    assert missing == [f"{start}; relative paths start from the folder of the job file"]
    assert "in PEM form" in problems(Resource(base_url="https://x", tls=Tls(ca_file="text.pem")), tmp_path)[0]
    assert "private key" in problems(Resource(base_url="https://x", tls=Tls(client_certificate="ca.pem")), tmp_path)[0]
    assert problems(Resource(base_url="https://x", tls=Tls(**ok), http2=True), tmp_path) == []  # type: ignore[arg-type]
    for wrong in ({"client_key": "a"}, {"client_key_password": "a"}, {"ca_file": "a", "verify": False}):
        with pytest.raises(InvalidFields):
            Tls(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidFields, match="SOCKS proxies cannot be used") as refused:
        Connection(proxy="socks5://me:secret@proxy")
    assert "secret" not in str(refused.value)
    with pytest.raises(InvalidFields, match="must be > 0"):
        Timeouts(read_seconds=0)


def test_an_unproven_service_is_warned_about() -> None:
    """What is convenient for a moment stays for years."""
    (warning,) = warnings_about({"api": Resource(base_url="https://api.test", tls=Tls(verify=False)), "b": Resource(base_url="https://b")})
    assert warning.startswith("WARNING: resource api has tls.verify: false.") and "api.test" in warning
