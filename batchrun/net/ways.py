"""Sending requests as one before them went.

A session of aiohttp looks, for each request, at cookies, redirects, users, proxies, default headers and second tries. Requests
of batchrun have none of these, and looking takes as long as a third of what it takes to send one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import cached_property, lru_cache, partial
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import yarl
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http import StreamWriter

from batchrun.net.messages import Origin
from batchrun.net.transport_errors import as_httpx

_IS_TRIED = aiohttp.__version__.startswith("3.14.")
"""That a handler can be used again is not promised: with versions that were not tried, each request goes through the session."""
_AT_ONCE_BYTES = 65_536  # aiohttp waits for the service only after more than that
_WRITTEN = cast("AbstractStreamWriter", SimpleNamespace(output_size=0))
"""What is asked for of something that writes by those who find all of it written."""


class Way:
    """A way to a service, known once a session has sent a request on it.

    aiohttp hands its middlewares what takes a connection and sends a request over it, which they may use as often as they
    like: this one keeps that, and uses it for the requests that come later. It depends on the session and its timeouts only,
    as long as there is none for all phases together, whose timer would be that of the first request.

    Args:
        connect: seconds until there is a connection, its turn included; null: no limit.
        sock_connect: the same, from its turn.
        sock_read: seconds of silence; null: no limit.

    Attributes:
        timeout: all of them.
    """

    def __init__(self, connect: float | None, sock_connect: float | None, sock_read: float | None) -> None:
        self.timeout = aiohttp.ClientTimeout(total=None, connect=connect, sock_connect=sock_connect, sock_read=sock_read)
        self._handler: aiohttp.ClientHandlerType | None = None
        self._like: dict[str, Any] = {}
        self._blank = lru_cache(maxsize=64)(self._new_blank)

    @property
    def is_known(self) -> bool:
        """Whether a request has gone it."""
        return self._handler is not None

    async def go(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """The middleware. It also hides broken connections from aiohttp, which would send idempotent requests again."""
        self._like = {"loop": request.loop, "session": request.session, "response_class": request.response_class}
        self._handler = handler if _IS_TRIED else None
        try:
            return await handler(request)
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            raise as_httpx(error) from error

    def send(self, method: str, origin: Origin, message: bytes) -> Awaitable[aiohttp.ClientResponse]:
        """Send a request as it is, without a proxy. What goes wrong is raised as aiohttp and the operating system say it.

        Args:
            method: in upper case.
            origin: where it goes.
            message: all of it as it goes over a connection.
        """
        if self._handler is None:
            raise RuntimeError("no request has gone this way")
        return self._handler(self._blank(method, origin).saying(message))

    def _new_blank(self, method: str, origin: Origin) -> _CompleteRequest:
        blank = _CompleteRequest(method, yarl.URL.build(scheme=origin.scheme, host=origin.host, port=origin.port, path="/"), **self._like)
        _ = blank.connection_key, blank.answer  # found once, for all that are made of it
        return blank


class _CompleteRequest(aiohttp.ClientRequest):
    """One that is written down already: what aiohttp needs of it beyond that is the same for all to one origin, and copied."""

    _message = b""

    def saying(self, message: bytes) -> _CompleteRequest:
        """One like it that says this."""
        request = _CompleteRequest.__new__(_CompleteRequest)
        request.__dict__ = {**self.__dict__, "_message": message}
        return request

    @cached_property
    def connection_key(self) -> ConnectionKey:
        """Tells its connections from those to other origins."""
        return super().connection_key

    @cached_property
    def answer(self) -> Callable[..., aiohttp.ClientResponse]:
        """Makes the response of any of them; of those that a task writes, with that task."""
        return partial(
            self.response_class,
            self.method,
            self.url,
            writer=None,
            continue100=None,
            timer=self._timer,
            request_info=self.request_info,
            traces=self._traces,
            loop=self.loop,
            session=self._session,
            stream_writer=_WRITTEN,
        )

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Write it to a connection. aiohttp takes a task for each body, which is only needed where it has to wait for the service."""
        protocol = conn.protocol
        if protocol is None or (transport := protocol.transport) is None or transport.is_closing():
            raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
        if len(self._message) <= _AT_ONCE_BYTES:
            transport.write(self._message)
            protocol.start_timeout()
            return self.answer()
        self._body, writer = aiohttp.BytesPayload(self._message), StreamWriter(protocol, self.loop)
        return self.answer(writer=asyncio.create_task(self.write_bytes(writer, conn)), stream_writer=writer)
