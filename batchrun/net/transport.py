"""An httpx transport over aiohttp's connections.

The seam is `httpx.AsyncBaseTransport`, so any other transport fits in its place. This one exists because httpx's own
pool slows down with every connection it holds (183 against 3,700 requests per second with 100 in flight).
"""

from __future__ import annotations

import asyncio
import io
import os
import socket
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from functools import lru_cache
from typing import TypeAlias, cast

import aiohttp
import httpx
import yarl
from aiohttp.abc import AbstractResolver

from batchrun.net.messages import ReceivedResponse, Target, WrittenRequest, target_of

# Many servers drop idle connections after 5 s. Dropping them earlier keeps requests from meeting a closing connection.
KEEP_ALIVE_SECONDS = 4.0
"""How long an idle connection is kept."""
# aiohttp warns about larger bodies given as one bytes object, because it copies them in one go.
_LARGE_BODY_BYTES = 2**20
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
            connector=aiohttp.TCPConnector(
                limit=max_connections or 0, keepalive_timeout=KEEP_ALIVE_SECONDS, resolver=resolver, ssl=tls or True
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_SKIPPED_HEADERS,
            middlewares=(_without_second_try,),
        )
        self._max_connections = max_connections
        self._proxy_of = None if proxy_of is None else lru_cache(maxsize=256)(proxy_of)

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
        body, write_seconds = _body(request), (request.extensions.get("timeout") or {}).get("write")
        try:
            if write_seconds is None or body is None or isinstance(body, bytes):
                response = await self._send(request, body)
            else:
                response = await self._send_watched(request, body, write_seconds)
        except httpx.TransportError as error:
            error.request = request
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _as_httpx(error, request) from error
        return ReceivedResponse(response.status, response.raw_headers, _ResponseStream(response, request), response.reason or "")

    async def aclose(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def _send(self, request: httpx.Request, body: _Body) -> aiohttp.ClientResponse:
        (scheme, host, port, _), path, query = _target(request)
        return await self._session.request(
            request.method,
            yarl.URL.build(scheme=scheme, host=host, port=port, path=path, query_string=query, encoded=True),
            headers=_headers(request),
            data=body,
            timeout=self._timeout(request),
            allow_redirects=False,
            proxy=self._proxy_of(scheme, host) if self._proxy_of is not None else None,
        )

    async def _send_watched(self, request: httpx.Request, body: _Body, write_seconds: float) -> aiohttp.ClientResponse:
        """Send a request whose body must be taken in time, piece by piece."""
        loop = asyncio.get_running_loop()

        async def pieces() -> AsyncIterator[bytes]:
            async for piece in _in_pieces(body):
                deadline.reschedule(loop.time() + write_seconds)
                yield piece
            deadline.reschedule(None)

        try:
            async with asyncio.timeout(None) as deadline:
                return await self._send(request, pieces())
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise httpx.WriteTimeout(f"the service took no more of the request for {write_seconds:g} s", request=request) from error

    def _timeout(self, request: httpx.Request) -> aiohttp.ClientTimeout:
        given: dict[str, float | None] = request.extensions.get("timeout") or {}
        connect = given.get("connect")
        pool = given.get("pool") if self._max_connections else 0.0
        return _client_timeout(None if connect is None or pool is None else connect + pool, connect, given.get("read"))


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
            raise _as_httpx(error, self._request) from error
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        # A connection whose answer was read to the end went back to the pool then; any other one is closed here.
        self._response.close()


async def _without_second_try(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Hide broken connections from aiohttp, which would send idempotent requests again."""
    try:
        return await send(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _as_httpx(error) from error


@lru_cache(maxsize=64)
def _client_timeout(connect: float | None, sock_connect: float | None, sock_read: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect, sock_connect=sock_connect, sock_read=sock_read)


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
    return io.BytesIO(content) if len(content) > _LARGE_BODY_BYTES else content or None


def _headers(request: httpx.Request) -> Mapping[str, str] | list[tuple[str, str]]:
    if isinstance(request, WrittenRequest) and request.is_untouched and "transfer-encoding" not in request.fields:
        return request.fields
    # aiohttp refuses Transfer-Encoding from outside and sets it itself for bodies of unknown length.
    return [(name.decode("ascii"), value.decode()) for name, value in request.headers.raw if name.lower() != b"transfer-encoding"]


def _as_httpx(error: Exception, request: httpx.Request | None = None) -> httpx.TransportError:
    """The httpx error that says what happened. Its text never holds the address, whose query may hold secrets."""
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        # asyncio puts the address into its messages; the number says it better.
        reason: str | None
        if isinstance(cause, ssl.SSLCertVerificationError):
            reason = f"its certificate is not trusted, {cause.verify_message}; tls.ca_file names an authority of your own"
        elif isinstance(cause, ssl.SSLError | socket.gaierror) or not cause.errno:
            reason = cause.strerror
        else:
            reason = os.strerror(cause.errno)
        return httpx.ConnectError(f"cannot connect to {error.host}:{error.port}: {reason or cause}", request=request)
    if isinstance(error, aiohttp.ClientOSError):
        if isinstance(error.__cause__, aiohttp.ClientConnectionResetError):
            return httpx.WriteError("the connection broke while the request was sent", request=request)
        reason = os.strerror(error.errno) if error.errno else str(error)
        return httpx.ReadError(f"the connection broke: {reason}", request=request)
    for kind, mapped, text in _MAPPED:
        if isinstance(error, kind):
            return mapped(text or str(error), request=request)
    if isinstance(error, aiohttp.ClientResponseError):
        # What follows the colon is the malformed data itself.
        return httpx.RemoteProtocolError(f"the answer is not valid HTTP: {error.message.partition(':')[0]}", request=request)
    return httpx.ReadError(str(error), request=request)


_MAPPED: tuple[tuple[type[Exception], type[httpx.TransportError], str], ...] = (
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout, "no connection in time"),
    (TimeoutError, httpx.ReadTimeout, "the service was silent for too long"),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError, "the service closed the connection without an answer"),
    (aiohttp.ClientPayloadError, httpx.RemoteProtocolError, "the answer broke off before its end"),
    (aiohttp.ClientHttpProxyError, httpx.ProxyError, "the proxy refused the connection"),
    (aiohttp.ClientConnectionResetError, httpx.WriteError, "the connection broke while the request was sent"),
    (aiohttp.NonHttpUrlClientError, httpx.UnsupportedProtocol, "only http and https can be used"),
    (aiohttp.InvalidURL, httpx.LocalProtocolError, "the host is not valid"),
    (ValueError, httpx.LocalProtocolError, ""),
)
