"""Sending requests as one before them went.

A session of aiohttp looks, for each request, at cookies, redirects, users, proxies, default headers and second tries. Requests
of batchrun have none of these, and looking takes as long as a third of what it takes to send one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

import aiohttp
import yarl
from aiohttp.typedefs import LooseHeaders
from multidict import CIMultiDict

from batchrun.net.transport_errors import as_httpx

_IS_TRIED = aiohttp.__version__.startswith("3.14.")
"""That a handler can be used again is not promised: with versions that were not tried, each request goes through the session."""


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

    def send(self, method: str, url: yarl.URL, fields: Mapping[str, str], body: bytes | None) -> Awaitable[aiohttp.ClientResponse]:
        """Send a request as it is, without a proxy. What goes wrong is raised as aiohttp and the operating system say it.

        Args:
            method: in upper case.
            url: percent-encoded.
            fields: all headers: the host, and with a body its length and type included.
            body: what is sent.
        """
        if self._handler is None:
            raise RuntimeError("no request has gone this way")
        return self._handler(_CompleteRequest(method, url, headers=CIMultiDict(fields), data=body, **self._like))


class _CompleteRequest(aiohttp.ClientRequest):
    """One that has all its headers. What is sent would be the same without these methods: they leave out what changes nothing."""

    def update_headers(self, headers: LooseHeaders | None) -> None:
        self.headers = headers  # type: ignore[assignment]  # see `Way.send`

    def update_auto_headers(self, skip_auto_headers: object) -> None:
        """None are missing."""

    def update_host(self, url: yarl.URL) -> None:
        """It has one, and no user."""
