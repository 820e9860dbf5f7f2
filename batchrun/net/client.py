"""The HTTP client of node types: one request in, one whole answer out, errors in batchrun's words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, cast

import httpx

from batchrun.core.connection import Timeouts
from batchrun.core.errors import InvalidValue, NodeError, ResponseError, Timeout
from batchrun.net.body import ACCEPT_ENCODING, ReadBody, read_body
from batchrun.net.failures import describe, response_error, status_error, transport_error
from batchrun.net.gate import Gate
from batchrun.net.messages import WrittenRequest, field_names, raw_headers, target_of
from batchrun.net.rate_headers import tell_limits, used_up_seconds

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""The methods a request can have."""

IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
"""Methods whose request may reach a service twice without harm, unless the job says otherwise."""

MAX_RESPONSE_BYTES = 16 * 2**20
"""The largest answer taken unless a caller says otherwise."""

READ = "batchrun.read"
OUTAGE = "batchrun.outage"
SLOT = "batchrun.slot"
_TIMEOUTS = Timeouts()
_DEADLINE = "; reason: deadline"  # as anyio and the engine name it
_WITH_BODY = ("POST", "PUT", "PATCH")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCount:
    """What a request uses of a limit of tokens.

    Attributes:
        expected: the most it is expected to use.
        used: reads from its answer what it has used; null: the answer does not say.
    """

    expected: int
    used: Callable[[HttpAnswer], int | None]


class HttpAnswer(NamedTuple):
    """A successful answer, read to its end and decompressed."""

    response: httpx.Response
    body: bytes

    @property
    def status(self) -> int:
        """Its status: 2xx."""
        return self.response.status_code

    @property
    def headers(self) -> httpx.Headers:
        """Its headers."""
        return self.response.headers


class Upload(httpx.AsyncByteStream):
    """A body that is sent piece by piece, as often as it is asked for.

    Attributes:
        size_bytes: how large it is.
    """

    size_bytes: int


class HttpClient:
    """Sends requests to one service.

    Requests go straight to the transport: no redirects, no cookies, no retries. A turn at the gate lasts until the answer is
    read or the request failed.

    Must be made on the event loop it is used on. The transport is not closed with it.

    Args:
        transport: what carries the requests.
        base_url: what addresses are appended to; null when addresses are complete.
        headers: sent with every request, unless the request has its own.
        gate: lets requests through when the service can take them; null: all go at once.
        timeouts: of the phases of a request. Everything else is bounded by the deadline of the attempt.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        *,
        base_url: str | None = None,
        headers: Mapping[str, str] | None = None,
        gate: Gate | None = None,
        timeouts: Timeouts = _TIMEOUTS,
    ) -> None:
        self._transport = transport
        self._base_url = (base_url or "").rstrip("/")
        self._headers = {"user-agent": "batchrun", "accept": "*/*", "accept-encoding": ACCEPT_ENCODING}
        self._headers |= {name.lower(): value for name, value in (headers or {}).items()}
        self._common = lru_cache(maxsize=16)(self._common_fields)
        self._gate = gate
        self._timeouts = timeouts
        seconds = {"connect": timeouts.connect_seconds, "read": timeouts.read_seconds, "write": timeouts.write_seconds}
        self._extensions: dict[str, Any] = {"timeout": seconds}

    def having(self, headers: Mapping[str, str]) -> HttpClient:
        """This client, with more headers that it sends with every request: names in lower case, in place of its own of the same name."""
        return HttpClient(
            self._transport, base_url=self._base_url, headers={**self._headers, **headers}, gate=self._gate, timeouts=self._timeouts
        )

    def build(
        self, method: str, address: str, *, query: str = "", headers: Mapping[str, str] | None = None, content: bytes | Upload = b""
    ) -> httpx.Request:
        """A request to `address`, percent-encoded and relative to `base_url` if there is one.

        Args:
            method: one of `METHODS`.
            address: path and query, or a complete URL.
            query: appended to that of the address, percent-encoded.
            headers: names in lower case; they replace the client's headers of the same name.
            content: the body, or a stream of it whose size is known.

        Raises:
            InvalidValue: the address or a header cannot be written down.
        """
        if self._base_url:
            address = self._base_url + ("" if not address or address[0] in "/?" else "/") + address
        try:
            target = target_of(address, query)
            fields = self._common(target.origin.netloc)
            if headers:
                fields = {**fields, **_checked(headers)}
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise InvalidValue(f"this request cannot be written down: {error}") from error
        size_bytes = len(content) if isinstance(content, bytes) else content.size_bytes
        if size_bytes or method in _WITH_BODY:
            fields = {**fields, "content-length": str(size_bytes)}
        return WrittenRequest(method, target, fields, content, self._extensions.copy())

    async def send(
        self,
        request: httpx.Request,
        *,
        idempotent: bool,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        on_send: Callable[[], None] = lambda: None,
        tokens: TokenCount | None = None,
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> HttpAnswer:
        """Send a request and read its whole answer.

        Args:
            request: usually from `build`. Its extension `READ` reads the body of a success in the place of `read_body`; `OUTAGE` is
                set when the call is cut off at its deadline in an outage; `SLOT` is that of the item, given back while it is parked.
            idempotent: whether the request may safely reach the service twice.
            max_response_bytes: the largest answer taken, decompressed.
            on_send: called when the request has its turn and is about to be sent.
            tokens: what it uses of a limit of tokens; null: none.
            prepare: awaited when the request has its turn, before `on_send`; null: there is nothing to do.

        Raises:
            HttpStatusError: the status is not 2xx; redirects are not followed.
            TransportError: the service could not be reached or broke off; `ambiguous` when it may have done the work.
            ResponseError: the body is too large or its compression is broken.
            InvalidValue: the request cannot be sent at all.
            ServiceParked: the service has been out of order for too long.
        """
        gate = self._gate
        if gate is None:
            if prepare is not None:
                await prepare()
            on_send()
            return await self._exchange(request, idempotent=idempotent, max_response_bytes=max_response_bytes)
        expected = tokens.expected if tokens is not None else 0
        turn = gate.turn(expected) or await gate.enter(expected, request.extensions.get(SLOT))
        failed, is_cut_off, used = None, True, None
        try:
            if prepare is not None:
                await prepare()
            on_send()
            answer = await self._exchange(request, idempotent=idempotent, max_response_bytes=max_response_bytes)
            is_cut_off, used = False, tokens.used(answer) if tokens is not None else None
        except NodeError as error:
            failed, is_cut_off = error, False
            used = 0 if error.http_status is not None else None  # a refused call uses no tokens
            raise
        except asyncio.CancelledError as cancelled:
            # Given up for any other reason, it says nothing about the service.
            failed = Timeout(f"{describe(request)} was not answered before its deadline") if _DEADLINE in str(cancelled) else None
            raise
        finally:
            gate.leave(turn, failed, is_cut_off=is_cut_off, tokens=used)
            if is_cut_off and failed is not None:
                request.extensions[OUTAGE] = failed.outage
        return answer

    def _common_fields(self, netloc: str) -> Mapping[str, str]:
        return _checked({"host": netloc, **self._headers})

    @asynccontextmanager
    async def stream(self, request: httpx.Request) -> AsyncIterator[httpx.Response]:
        """Send a request that changes nothing, and hand its answer over before the body is read: `response.stream` gives it as it comes.

        Its turn at the gate ends where the body begins, which may come for hours.

        Raises:
            NodeError: as in `send`.
        """
        gate = self._gate
        turn, failed, is_cut_off = await gate.enter() if gate is not None else None, None, True
        try:
            response = await self._opened(request)
            is_cut_off = False
        except NodeError as error:
            failed, is_cut_off = error, False
            raise
        finally:
            if gate is not None and turn is not None:
                gate.leave(turn, failed, is_cut_off=is_cut_off)
        try:
            yield response
        finally:
            await response.aclose()

    async def _opened(self, request: httpx.Request) -> httpx.Response:
        try:
            response = await self._transport.handle_async_request(request)
        except httpx.TransportError as error:
            raise transport_error(request, error, idempotent=True) from error
        if 200 <= response.status_code < 300:
            return response
        try:
            raise await status_error(request, response)
        finally:
            await response.aclose()

    async def _exchange(self, request: httpx.Request, *, idempotent: bool, max_response_bytes: int) -> HttpAnswer:
        try:
            response = await self._transport.handle_async_request(request)
            if self._gate is not None and tell_limits(field_names(response)) and (seconds := used_up_seconds(raw_headers(response))):
                self._gate.close_for(seconds)
            try:
                if not 200 <= response.status_code < 300:
                    raise await status_error(request, response)
                read: ReadBody = request.extensions.get(READ, read_body)
                body = await read(response, max_response_bytes)
            except ResponseError as error:
                raise response_error(request, response, error) from error
            finally:
                if not isinstance(response.stream, httpx.ByteStream):  # that has nothing to close
                    # Not response.aclose(), which does this and more.
                    await cast("httpx.AsyncByteStream", response.stream).aclose()
        except httpx.TransportError as error:
            raise transport_error(request, error, idempotent=idempotent) from error
        return HttpAnswer(response, body)


def _checked(fields: Mapping[str, str]) -> Mapping[str, str]:
    """Headers as they were. Raises `UnicodeEncodeError` for those that cannot be written down."""
    "".join(fields).encode("ascii")
    "".join(fields.values()).encode()
    return fields
