"""The HTTP client of node types: one request in, one whole answer out, errors in batchrun's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import httpx

from batchrun.core.errors import InvalidValue, NodeError, ResponseError
from batchrun.net.body import ACCEPT_ENCODING, read_body
from batchrun.net.failures import response_error, status_error, transport_error
from batchrun.net.gate import Gate
from batchrun.net.rate_headers import used_up_seconds

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""The methods a request can have."""

IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
"""Methods whose request may reach a service twice without harm, unless the job says otherwise."""

CONNECT_TIMEOUT_SECONDS = 10.0
"""How long a connection may take to open. Everything else is bounded by the deadline of the attempt."""

MAX_RESPONSE_BYTES = 16 * 2**20
"""The largest answer taken unless a caller says otherwise."""

_EXTENSIONS = {"timeout": {"connect": CONNECT_TIMEOUT_SECONDS}}
_WITH_BODY = ("POST", "PUT", "PATCH")
# Parsing takes 13 µs, and most jobs send all their requests to a few addresses.
_parsed = lru_cache(maxsize=256)(httpx.URL)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """A successful answer, read to its end and decompressed."""

    status: int
    headers: httpx.Headers
    body: bytes


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
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        *,
        base_url: str | None = None,
        headers: Mapping[str, str] | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._transport = transport
        self._base_url = (base_url or "").rstrip("/")
        self._headers = {"user-agent": "batchrun", "accept": "*/*", "accept-encoding": ACCEPT_ENCODING}
        self._headers |= {name.lower(): value for name, value in (headers or {}).items()}
        self._gate = gate

    def build(self, method: str, address: str, *, headers: Mapping[str, str] | None = None, content: bytes = b"") -> httpx.Request:
        """A request to `address`, percent-encoded and relative to `base_url` if there is one.

        Args:
            method: one of `METHODS`.
            address: path and query, or a complete URL.
            headers: names in lower case; they replace the client's headers of the same name.
            content: the body.

        Raises:
            InvalidValue: the address or a header cannot be written down.
        """
        if self._base_url:
            address = self._base_url + ("" if not address or address[0] in "/?" else "/") + address
        try:
            url = _parsed(address)
            merged = {"host": url.netloc.decode("ascii"), **self._headers, **(headers or {})}
            pairs = [(name.encode("ascii"), value.encode()) for name, value in merged.items()]
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise InvalidValue(f"this request cannot be written down: {error}") from error
        if content or method in _WITH_BODY:
            pairs.append((b"content-length", b"%d" % len(content)))
        # Given a stream, httpx adds no headers of its own, which halves the cost of a request.
        return httpx.Request(method, url, headers=pairs, stream=httpx.ByteStream(content), extensions=_EXTENSIONS)

    async def send(
        self,
        request: httpx.Request,
        *,
        idempotent: bool,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        on_send: Callable[[], None] = lambda: None,
    ) -> HttpAnswer:
        """Send a request and read its whole answer.

        Args:
            request: usually from `build`.
            idempotent: whether the request may safely reach the service twice.
            max_response_bytes: the largest answer taken, decompressed.
            on_send: called when the request has its turn and is about to be sent.

        Raises:
            HttpStatusError: the status is not 2xx; redirects are not followed.
            TransportError: the service could not be reached or broke off; `ambiguous` when it may have done the work.
            ResponseError: the body is too large or its compression is broken.
            InvalidValue: the request cannot be sent at all.
            ServiceParked: the service has been out of order for too long.
        """
        gate = self._gate
        if gate is None:
            on_send()
            return await self._exchange(request, idempotent=idempotent, max_response_bytes=max_response_bytes)
        turn, failed, is_cut_off = await gate.enter(), None, True
        try:
            on_send()
            answer = await self._exchange(request, idempotent=idempotent, max_response_bytes=max_response_bytes)
            is_cut_off = False
        except NodeError as error:
            failed, is_cut_off = error, False
            raise
        finally:
            gate.leave(turn, failed, is_cut_off=is_cut_off)
        return answer

    async def _exchange(self, request: httpx.Request, *, idempotent: bool, max_response_bytes: int) -> HttpAnswer:
        try:
            response = await self._transport.handle_async_request(request)
            if self._gate is not None and (seconds := used_up_seconds(response.headers)):
                self._gate.close_for(seconds)
            try:
                if not 200 <= response.status_code < 300:
                    raise await status_error(request, response)
                body = await read_body(response, max_response_bytes)
            except ResponseError as error:
                raise response_error(request, response, error) from error
            finally:
                await response.aclose()
        except httpx.TransportError as error:
            raise transport_error(request, error, idempotent=idempotent) from error
        return HttpAnswer(status=response.status_code, headers=response.headers, body=body)
