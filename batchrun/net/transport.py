"""An httpx transport over aiohttp's connections.

The seam is `httpx.AsyncBaseTransport`, so any other transport fits in its place. This one exists because httpx's own
pool slows down with every connection it holds (183 against 3,700 requests per second with 100 in flight).
"""

from __future__ import annotations

import io
import os
import socket
from collections.abc import AsyncIterable, AsyncIterator
from typing import cast

import aiohttp
import httpx
import yarl
from aiohttp.abc import AbstractResolver

# Many servers drop idle connections after 5 s. Dropping them earlier keeps requests from meeting a closing connection.
_KEEP_ALIVE_SECONDS = 4.0
# aiohttp warns about larger bodies given as one bytes object, because it copies them in one go.
_LARGE_BODY_BYTES = 2**20
_SKIPPED_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends requests over kept-alive HTTP/1.1 connections.

    It sends what it is given and returns what comes back: no redirects, no cookies, no decompression, no headers of its
    own, and **no second try**. aiohttp alone sends an idempotent request again when a connection breaks; here each call
    reaches the service at most once, so retrying stays a decision of the caller.

    Timeouts are read from `request.extensions["timeout"]` (seconds, null for none): `connect` includes the lookup of the
    host, `pool` is added to it when `max_connections` is given, `read` is the longest silence while the answer is
    awaited. `write` is not kept: a caller that needs it sets a deadline around the call.

    Must be made and closed on the event loop it is used on. A cancelled request closes its connection.

    Args:
        max_connections: the most connections at once; null for no limit.
        trust_env: take proxies and `.netrc` logins from the environment.
        resolver: looks hosts up; connections go to the addresses it gives. Null: the one of the system.

    Example:
        >>> async def status(url: str) -> int:
        ...     async with AiohttpTransport() as transport:
        ...         return (await transport.handle_async_request(httpx.Request("GET", url))).status_code
    """

    def __init__(self, *, max_connections: int | None = None, trust_env: bool = False, resolver: AbstractResolver | None = None) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=max_connections or 0, keepalive_timeout=_KEEP_ALIVE_SECONDS, resolver=resolver),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_SKIPPED_HEADERS,
            trust_env=trust_env,
            middlewares=(_without_second_try,),
        )
        self._max_connections = max_connections

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; the body of the response is still to be read from its stream.

        Raises:
            httpx.ConnectError: the host is unknown, refuses the connection, or its certificate is not trusted.
            httpx.ConnectTimeout: no connection in time; nothing was sent.
            httpx.ReadTimeout: the answer stayed away, or stopped.
            httpx.WriteError: the request could not be sent in full.
            httpx.ReadError: the connection broke while the answer was awaited.
            httpx.RemoteProtocolError: the connection was closed without an answer, or the answer is not HTTP.
            httpx.LocalProtocolError: the request cannot be written down, for example a line break in a header.
            httpx.UnsupportedProtocol: neither http nor https.
        """
        try:
            response = await self._session.request(
                request.method,
                yarl.URL(_address(request.url), encoded=True),
                headers=_headers(request),
                data=_body(request),
                timeout=self._timeout(request),
                allow_redirects=False,
            )
        except httpx.TransportError as error:
            error.request = request
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _as_httpx(error, request) from error
        return httpx.Response(
            response.status,
            headers=cast("list[tuple[bytes, bytes]]", response.raw_headers),
            stream=_ResponseStream(response, request),
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": (response.reason or "").encode("ascii", "replace")},
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._session.close()

    def _timeout(self, request: httpx.Request) -> aiohttp.ClientTimeout:
        given: dict[str, float | None] = request.extensions.get("timeout") or {}
        connect = given.get("connect")
        pool = given.get("pool") if self._max_connections else 0.0
        total = None if connect is None or pool is None else connect + pool
        return aiohttp.ClientTimeout(total=None, connect=total, sock_connect=connect, sock_read=given.get("read"))


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


def _address(url: httpx.URL) -> str:
    # Without user and password: aiohttp would turn them into an Authorization header.
    return f"{url.scheme}://{url.netloc.decode('ascii')}{url.raw_path.decode('ascii')}"


def _body(request: httpx.Request) -> bytes | io.BytesIO | AsyncIterable[bytes] | None:
    if not isinstance(request.stream, httpx.ByteStream):
        return cast("AsyncIterable[bytes]", request.stream)
    content = request.read()
    return io.BytesIO(content) if len(content) > _LARGE_BODY_BYTES else content or None


def _headers(request: httpx.Request) -> list[tuple[str, str]]:
    # aiohttp refuses Transfer-Encoding from outside and sets it itself for bodies of unknown length.
    return [(name.decode("ascii"), value.decode()) for name, value in request.headers.raw if name.lower() != b"transfer-encoding"]


def _as_httpx(error: Exception, request: httpx.Request | None = None) -> httpx.TransportError:
    """The httpx error that says what happened. Its text never holds the address, whose query may hold secrets."""
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        # asyncio puts the address into its messages; the number says it better.
        reason = cause.strerror if isinstance(cause, socket.gaierror) or not cause.errno else os.strerror(cause.errno)
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
