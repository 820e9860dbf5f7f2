"""An httpx transport over aiohttp's connections.

The seam is `httpx.AsyncBaseTransport`, so any other transport fits in its place. This one exists because httpx's own
pool slows down with every connection it holds (183 against 3,700 requests per second with 100 in flight).
"""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from functools import lru_cache
from typing import TypeAlias, cast

import aiohttp
import httpx
import yarl
from aiohttp.abc import AbstractResolver

from batchrun.net.hosts import USUAL_PORTS
from batchrun.net.kept import Connector, Response
from batchrun.net.messages import LARGE_BODY_BYTES, ReceivedResponse, Target, WrittenRequest, target_of
from batchrun.net.transport_errors import as_httpx
from batchrun.net.ways import Way

# Many servers drop idle connections after 5 s. Dropping them earlier keeps requests from meeting a closing connection.
KEEP_ALIVE_SECONDS = 4.0
"""How long an idle connection is kept."""
_PIECE_BYTES = 65_536
_SKIPPED_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


_Body: TypeAlias = bytes | io.BytesIO | AsyncIterable[bytes] | None


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends requests over kept-alive HTTP/1.1 connections.

    It sends what it is given and returns what comes back: no redirects, no cookies, no decompression, no headers of its
    own, and **no second try**. aiohttp alone sends an idempotent request again when a connection breaks; here each call
    reaches the service at most once, so retrying stays a decision of the caller.

    Timeouts are read from `request.extensions["timeout"]` (seconds, null for none): `connect` includes the lookup of the
    host, `pool` is added to it when `max_connections` is given, `write` is the longest the service may take no more of a
    body that is sent in pieces, `read` is the longest silence while the answer is awaited.

    Must be made and closed on the event loop it is used on. A cancelled request closes its connection.

    Args:
        max_connections: the most connections at once; null for no limit.
        resolver: looks hosts up; connections go to the addresses it gives. Null: the one of the system.
        tls: what TLS connections are made with; null: the certificates of the system.
        proxy_of: says for scheme and host which proxy leads there, null for none; null: none is used.

    Example:
        >>> async def status(url: str) -> int:
        ...     async with AiohttpTransport() as transport:
        ...         return (await transport.handle_async_request(httpx.Request("GET", url))).status_code
    """

    def __init__(
        self,
        *,
        max_connections: int | None = None,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
        proxy_of: Callable[[str, str], str | None] | None = None,
    ) -> None:
        self._session = aiohttp.ClientSession(
            connector=Connector(limit=max_connections or 0, keepalive_timeout=KEEP_ALIVE_SECONDS, resolver=resolver, ssl=tls or True),
            response_class=Response,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_SKIPPED_HEADERS,
        )
        self._max_connections = max_connections
        self._proxy_of = None if proxy_of is None else lru_cache(maxsize=256)(proxy_of)
        self._way = lru_cache(maxsize=64)(Way)  # by their timeouts

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; the body of the response is still to be read from its stream.

        Raises:
            httpx.ConnectError: the host is unknown, refuses the connection, or its certificate is not trusted.
            httpx.ConnectTimeout: no connection in time; nothing was sent.
            httpx.ReadTimeout: the answer stayed away, or stopped.
            httpx.ProxyError: the proxy let nothing through; nothing was sent.
            httpx.WriteError, httpx.WriteTimeout: the request could not be sent in full, or not in time.
            httpx.ReadError: the connection broke while the answer was awaited.
            httpx.RemoteProtocolError: the connection was closed without an answer, or the answer is not HTTP.
            httpx.LocalProtocolError: the request cannot be written down, for example a line break in a header.
            httpx.UnsupportedProtocol: neither http nor https.
        """
        try:
            response = await (self._sent_again(request) or self._send(request))
            if response.closed:  # all of it is here, and its connection is free again
                stream: httpx.AsyncByteStream = httpx.ByteStream(response.content.read_nowait())
            else:
                stream = _ResponseStream(response, request)
        except httpx.TransportError as error:
            error.request = request
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise as_httpx(error, request) from error
        return ReceivedResponse(response.status, response.raw_headers, stream, response.reason or "")

    async def aclose(self) -> None:
        """Close every connection."""
        await self._session.close()

    def _sent_again(self, request: httpx.Request) -> Awaitable[aiohttp.ClientResponse] | None:
        """Send a request as one before it went; null: it needs what a session does for it."""
        if not isinstance(request, WrittenRequest) or not request.is_untouched:
            return None
        way, origin = self._way_of(request), request.target.origin
        if not way.is_known or not origin.host or origin.scheme not in USUAL_PORTS or self._proxy(request.target) is not None:
            return None
        message = request.message
        return None if message is None else way.send(request.method, origin, message)

    async def _send(self, request: httpx.Request) -> aiohttp.ClientResponse:
        body, write_seconds = _body(request), (request.extensions.get("timeout") or {}).get("write")
        if write_seconds is None or body is None or isinstance(body, bytes):
            return await self._send_body(request, body)
        return await self._send_watched(request, body, write_seconds)

    async def _send_body(self, request: httpx.Request, body: _Body) -> aiohttp.ClientResponse:
        target, way = _target(request), self._way_of(request)
        return await self._session.request(
            request.method,
            _url(target),
            headers=_headers(request),
            data=body,
            timeout=way.timeout,
            allow_redirects=False,
            proxy=self._proxy(target),
            middlewares=(way.go,),
        )

    async def _send_watched(self, request: httpx.Request, body: _Body, write_seconds: float) -> aiohttp.ClientResponse:
        """Send a request whose body must be taken in time, piece by piece."""
        loop, is_answered = asyncio.get_running_loop(), False

        async def pieces() -> AsyncIterator[bytes]:
            async for piece in _in_pieces(body):
                if not is_answered:  # a service may begin to answer while it takes the request
                    deadline.reschedule(loop.time() + write_seconds)
                yield piece
            if not is_answered:
                deadline.reschedule(None)

        try:
            async with asyncio.timeout(None) as deadline:
                response = await self._send_body(request, pieces())
                is_answered = True
                return response
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise httpx.WriteTimeout(f"the service took no more of the request for {write_seconds:g} s", request=request) from error

    def _proxy(self, target: Target) -> str | None:
        return self._proxy_of(target.origin.scheme, target.origin.host) if self._proxy_of is not None else None

    def _way_of(self, request: httpx.Request) -> Way:
        given: dict[str, float | None] = request.extensions.get("timeout") or {}
        connect = given.get("connect")
        pool = given.get("pool") if self._max_connections else 0.0
        return self._way(None if connect is None or pool is None else connect + pool, connect, given.get("read"))


class _ResponseStream(httpx.AsyncByteStream):
    """The body of an answer as it arrives, still compressed."""

    def __init__(self, response: aiohttp.ClientResponse, request: httpx.Request) -> None:
        self._response = response
        self._request = request

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise as_httpx(error, self._request) from error
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        # A connection whose answer was read to the end went back to the pool then; any other one is closed here.
        self._response.close()


def _url(target: Target) -> yarl.URL:
    (scheme, host, port, _), path, query = target
    host = f"[{host}]" if ":" in host else host  # an address of IPv6, whose brackets `encoded` leaves to us
    return yarl.URL.build(scheme=scheme, host=host, port=port, path=path, query_string=query, encoded=True)


def _target(request: httpx.Request) -> Target:
    # Without user and password: aiohttp would turn them into an Authorization header.
    return request.target if isinstance(request, WrittenRequest) and request.is_untouched else target_of(request.url)


async def _in_pieces(body: _Body) -> AsyncIterator[bytes]:
    if isinstance(body, io.BytesIO):
        while piece := body.read(_PIECE_BYTES):
            yield piece
    elif not isinstance(body, bytes | None):
        async for piece in body:
            yield piece


def _body(request: httpx.Request) -> _Body:
    if isinstance(request, WrittenRequest) and request.is_untouched and isinstance(request.body, bytes):
        return _of_bytes(request.body)
    if not isinstance(request.stream, httpx.ByteStream):
        return cast("AsyncIterable[bytes]", request.stream)
    return _of_bytes(request.read())


def _of_bytes(content: bytes) -> _Body:
    return io.BytesIO(content) if len(content) > LARGE_BODY_BYTES else content or None


def _headers(request: httpx.Request) -> Mapping[str, str] | list[tuple[str, str]]:
    if isinstance(request, WrittenRequest) and request.is_untouched and "transfer-encoding" not in request.fields:
        return request.fields
    # aiohttp refuses Transfer-Encoding from outside and sets it itself for bodies of unknown length.
    return [(name.decode("ascii"), value.decode()) for name, value in request.headers.raw if name.lower() != b"transfer-encoding"]
