"""Files from the web: one GET that follows redirects as far as the job trusts them, with a bound on size."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self
from urllib.parse import unquote

import httpx

from batchrun.core.errors import FileTooLarge, InvalidValue, ResponseError
from batchrun.core.files import File
from batchrun.net.address import address_problem
from batchrun.net.body import TooLarge, read_body
from batchrun.net.client import HttpClient
from batchrun.net.failures import describe, response_error, status_error, transport_error
from batchrun.net.hosts import AllowedHosts, PublicResolver
from batchrun.net.redirects import REDIRECTS, check_target, target_of
from batchrun.net.transport import AiohttpTransport
from batchrun.net.transports import proxy_of_environment

_MOST_REDIRECTS = 5
_UNKNOWN_TYPE = "application/octet-stream"


class Downloads:
    """Fetches files. Must be made on the event loop it is used on.

    Args:
        transport: for the host that the job names.
        guarded: for hosts that item data or a redirect names.
        trusted_host: host and port, as in an address, that the job itself names; null: none.
        allowed: the other hosts.
        max_bytes: the largest file taken, decompressed.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        guarded: httpx.AsyncBaseTransport,
        *,
        trusted_host: bytes | None,
        allowed: AllowedHosts,
        max_bytes: int,
    ) -> None:
        self._transport = transport
        self._guarded = guarded
        self._builder = HttpClient(transport)
        self._trusted_host = trusted_host
        self._allowed = allowed
        self._max_bytes = max_bytes

    @classmethod
    @asynccontextmanager
    async def opened(cls, *, trusted_host: bytes | None, allowed: AllowedHosts, max_bytes: int) -> AsyncIterator[Self]:
        """With connections of its own."""
        async with AiohttpTransport(proxy_of=proxy_of_environment) as transport, AiohttpTransport(resolver=PublicResolver()) as guarded:
            yield cls(transport, guarded, trusted_host=trusted_host, allowed=allowed, max_bytes=max_bytes)

    async def get(self, address: str) -> File:
        """Fetch a file.

        Raises:
            AddressRefused: the address, or one it redirects to, is not allowed.
            FileTooLarge: it has more than `max_bytes`.
            HttpStatusError, TransportError, ResponseError, InvalidValue: as `HttpClient.send`.
        """
        problem = address_problem(address)
        if problem:
            raise InvalidValue(f"the address {problem}")
        request = self._builder.build("GET", address)
        for _ in range(_MOST_REDIRECTS + 1):
            found = await self._exchange(request)
            if isinstance(found, File):
                return found
            request = self._builder.build("GET", str(found))
        raise ResponseError(f"{describe(request)} is the end of {_MOST_REDIRECTS} redirects and leads on; no more are followed")

    async def _exchange(self, request: httpx.Request) -> File | httpx.URL:
        """The file, or the address to go on to."""
        is_trusted = request.url.netloc == self._trusted_host
        if not is_trusted:
            self._allowed.check(request.url)
        try:
            response = await (self._transport if is_trusted else self._guarded).handle_async_request(request)
            try:
                if response.status_code in REDIRECTS and response.headers.get("location"):
                    return self._next(request, response)
                if response.status_code != 200:
                    raise await status_error(request, response)
                return await self._read(request, response)
            finally:
                await response.aclose()
        except httpx.TransportError as error:
            raise transport_error(request, error, idempotent=True) from error

    def _next(self, request: httpx.Request, response: httpx.Response) -> httpx.URL:
        target = target_of(request, response.status_code, response.headers["location"])
        if target.netloc != self._trusted_host:
            check_target(request, response.status_code, target, self._allowed)
        return target

    async def _read(self, request: httpx.Request, response: httpx.Response) -> File:
        said = response.headers.get("content-length", "")
        if said.isascii() and said.isdigit() and int(said) > self._max_bytes:
            raise self._too_large(request, f"{int(said):,}")
        try:
            content = await read_body(response, self._max_bytes)
        except TooLarge as error:
            raise self._too_large(request, f"more than {self._max_bytes:,}") from error
        except ResponseError as error:
            raise response_error(request, response, error) from error
        kind = response.headers.get("content-type", "").strip() or _UNKNOWN_TYPE
        return File(name=unquote(request.url.path.rpartition("/")[2]) or None, media_type=kind, content=content)

    def _too_large(self, request: httpx.Request, size: str) -> FileTooLarge:
        return FileTooLarge(f"{describe(request)} answered with {size} bytes, max_bytes is {self._max_bytes:,}; raise it to take the file")
