"""The calls of one `http` node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypedDict

import httpx

from batchrun.core.auth import Auth
from batchrun.core.errors import InvalidValue, ResponseError, Unsuccessful
from batchrun.core.job import Resource
from batchrun.net.address import Address, address_problem
from batchrun.net.answers import Read, Steps, taken
from batchrun.net.auth import signing
from batchrun.net.bodies import WriteBody
from batchrun.net.client import OUTAGE, SLOT, HttpAnswer, HttpClient, Upload
from batchrun.net.clients import client_of
from batchrun.net.failures import describe, excerpt
from batchrun.net.hosts import AllowedHosts, PublicResolver
from batchrun.net.pages import Pages, PageTurner
from batchrun.net.parts import header_value, query_string, text_of
from batchrun.net.redirects import Redirects, Sending
from batchrun.net.success import Success
from batchrun.net.transport import AiohttpTransport
from batchrun.net.transports import proxy_of_environment
from batchrun.nodes.http_files import Files, UploadedFile, Uploads
from batchrun.workflows.node import Render
from batchrun.workflows.scope import Scope

CALL_KEY = "idempotency-key"
"""The header that the call key is sent in."""
_KEPT_BYTES = 65_536  # of an answer, for retry rules


class OwnHeaders(TypedDict):
    """What a node adds to a request: see `Parts`."""

    own_headers: dict[str, str]
    sends_media_type: bool
    sends_call_key: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A request, compiled.

    Attributes:
        address: its address, when the job names the host.
        url: the same, when item data does.
        own_headers: what the node adds, unless the job says otherwise.
        sends_media_type: whether the type of the body is told, unless the job says so itself.
    """

    method: str
    address: Address | None
    url: Render | None
    query: Render | None
    headers: Render | None
    body: Render | None
    write_body: WriteBody | None
    own_headers: dict[str, str]
    sends_media_type: bool
    sends_call_key: bool

    def request(self, client: HttpClient, scope: Scope, call_key: str | None, upload: UploadedFile | None = None) -> httpx.Request:
        """The request for one item; with a file as its body, where there is one."""
        address = self.address(scope) if self.address is not None else self._named(scope)
        query = query_string(self.query(scope), "query") if self.query else ""
        headers: dict[str, str] = {}
        content: bytes | Upload = b""
        media_type = None
        if upload is not None:
            content, media_type = upload
        elif self.body is not None and self.write_body is not None:
            content, media_type = self.write_body(self.body(scope))
        if self.sends_media_type and media_type is not None:
            headers["content-type"] = media_type
        if self.headers:
            for name, value in self.headers(scope).items():
                if value is not None:
                    headers[name.lower()] = header_value(value, name)
        if self.sends_call_key and call_key is not None:
            headers[CALL_KEY] = call_key
        return client.build(self.method, address, query=query, headers=headers, content=content)

    def _named(self, scope: Scope) -> str:
        address = text_of(self.url(scope) if self.url is not None else None, "url").partition("#")[0]
        problem = address_problem(address)
        if problem:
            raise InvalidValue(f"url {problem}")
        return address


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What is made of an answer.

    Attributes:
        read: reads it.
        success: whether it is one; null: each is.
        steps: lead to the output in it.
        pages: how it comes in pages; null: it does not.
    """

    read: Read
    success: Success | None
    steps: Steps
    pages: Pages | None

    def value(self, request: httpx.Request, answer: HttpAnswer) -> Any:
        """What was answered.

        Raises:
            ResponseError: it cannot be read.
            Unsuccessful: it is no success.
        """
        value = self.read(request, answer)
        if self.success is not None and not self.success(value, answer.status):
            failure = Unsuccessful(f"{describe(request)} answered {answer.status}, which is no success: {excerpt(answer.body)}")
            failure.response_body = answer.body[:_KEPT_BYTES]
            raise failure
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How requests get to the service.

    Attributes:
        resource: the named service; null: there is none.
        auth: who sends them, without a resource.
        allowed: hosts that item data may name; null: it names none.
        idempotent: whether a request may reach the service twice.
        max_response_bytes: the largest answer taken.
        max_redirects: how many redirects in a row are followed.
        elsewhere: other hosts that they may lead to.
    """

    resource: Resource | None
    auth: Auth | None
    allowed: AllowedHosts | None
    idempotent: bool
    max_response_bytes: int
    max_redirects: int
    elsewhere: AllowedHosts


class Disk(NamedTuple):
    """Files that go to the service and come from it.

    Attributes:
        uploads: opens those that are sent; null: none are.
        takes: whether answers are taken into files.
    """

    uploads: Uploads | None = None
    takes: bool = False


class HttpCall:
    """Sends the requests of one node.

    Args:
        parts: what is sent.
        reading: what is made of the answer.
        way: how it gets there.
        disk: which files go there and come from there.

    Attributes:
        files: the folder that files are taken into.
    """

    def __init__(self, parts: Parts, reading: Reading, way: Way, disk: Disk) -> None:
        self.files = Files()
        self._disk = disk
        self._redirects: Redirects | None = None
        self._parts = parts
        self._reading = reading
        self._way = way
        self._client: HttpClient

    async def __call__(self, scope: Scope) -> Any:
        """The output for one item."""
        uploads = self._disk.uploads
        upload = await uploads.open(scope, self.files) if uploads is not None else None
        request = self._parts.request(self._client, scope, scope.call_key, upload)
        if self._way.allowed is not None:
            self._way.allowed.check(request.url)
        reading = self._reading
        if reading.pages is not None:
            return await self._all_pages(request, reading.pages, scope)
        if self._disk.takes:
            saving = self.files.saving(request)
            await self._send(request, scope, self._way.max_response_bytes)
            return saving.found
        value = reading.value(request, await self._send(request, scope, self._way.max_response_bytes))
        return taken(value, reading.steps, request) if reading.steps else value

    def key(self, scope: Scope) -> Any:
        """All that is sent, the call key and auth aside: what the resource says counts where the request ends up with it."""
        request = self._parts.request(self._client, scope, None)
        return [request.method, str(request.url), repr(request.headers.raw), request.read().decode("latin-1")]

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Hold connections open."""
        way = self._way
        async with AsyncExitStack() as stack:
            if way.resource is not None:
                self._client = await stack.enter_async_context(client_of(way.resource))
            elif way.allowed is not None:
                self._client = HttpClient(await stack.enter_async_context(AiohttpTransport(resolver=PublicResolver())))
            else:
                transport = signing(AiohttpTransport(proxy_of=proxy_of_environment), way.auth)
                self._client = HttpClient(await stack.enter_async_context(transport))
            self._client = self._client.having(self._parts.own_headers)
            if way.max_redirects:
                elsewhere = HttpClient(await stack.enter_async_context(AiohttpTransport(resolver=PublicResolver())))
                self._redirects = Redirects(self._client, elsewhere, way.elsewhere, way.max_redirects)
            if self._disk != Disk():
                self.files.open()
            yield

    async def _send(self, request: httpx.Request, scope: Scope, max_bytes: int, *, is_first: bool = True) -> HttpAnswer:
        idempotent = self._way.idempotent
        # All pages together are one attempt.
        sending = partial(scope.sending, in_doubt=not idempotent) if is_first else _nothing
        request.extensions[SLOT] = scope.slot
        try:
            if self._redirects is not None:
                return await self._redirects.send(request, Sending(idempotent=idempotent, max_response_bytes=max_bytes, on_send=sending))
            return await self._client.send(request, idempotent=idempotent, max_response_bytes=max_bytes, on_send=sending)
        except asyncio.CancelledError:
            scope.outage = request.extensions.get(OUTAGE)
            raise

    async def _all_pages(self, request: httpx.Request, pages: Pages, scope: Scope) -> list[Any]:
        """The items of all pages, one after another.

        Raises:
            ResponseError: there are more pages or bytes than the job takes.
        """
        turner, left = PageTurner(pages), pages.max_bytes
        url: httpx.URL | None = turner.first(request)
        for number in range(pages.max_pages):
            if url is None:
                break
            page = httpx.Request(request.method, url, headers=request.headers.raw, stream=request.stream, extensions=request.extensions)
            answer = await self._send(page, scope, min(self._way.max_response_bytes, max(left, 1)), is_first=number == 0)
            left -= len(answer.body)
            if left < 0:
                raise ResponseError(f"{describe(request)}: the pages have more than {pages.max_bytes:,} bytes; raise pages.max_bytes")
            url = turner.turn(page, answer.headers, self._reading.value(page, answer))
        if url is not None:
            raise ResponseError(f"{describe(request)}: there are more than {pages.max_pages:,} pages; raise pages.max_pages")
        return turner.found


def _nothing() -> None:
    """What is told of the later requests of a call."""
