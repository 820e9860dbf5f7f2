"""Saying who sends a request: a transport that signs what goes through it."""

from __future__ import annotations

import asyncio
import base64
import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote, quote_plus

import anyio
import httpx
import orjson

from batchrun.core.auth import Auth, OAuth2
from batchrun.core.errors import NodeError, ResponseError, TransportError
from batchrun.net.client import HttpClient
from batchrun.net.messages import has_field, with_field
from batchrun.net.parts import form_body

_FETCH_SECONDS = 30.0
_MAX_TOKEN_BYTES = 2**20
_MARGIN_SECONDS = 30.0  # a token is renewed so long before it expires, or after nine tenths of its life where that is later
_NAME = "authorization"


def signing(transport: httpx.AsyncBaseTransport, auth: Auth | None) -> httpx.AsyncBaseTransport:
    """A transport that signs requests before they go through `transport`, which is closed with it; that one when there is no `auth`.

    Must be made on the event loop it is used on.
    """
    return transport if auth is None else _Signing(transport, auth)


class _Signing(httpx.AsyncBaseTransport):
    """A header that the request has already stays: what a node says about a request goes before what is said about all of them."""

    def __init__(self, transport: httpx.AsyncBaseTransport, auth: Auth) -> None:
        self._transport = transport
        self._header, self._query = _fixed(auth)
        self._tokens = Tokens(auth.oauth2, transport) if auth.oauth2 is not None else None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sign a request and send it; after a 401, once more with a new token.

        Raises:
            NodeError: there is no token.
            httpx.TransportError: as the transport it goes through.
        """
        if self._query and self._query[0] not in request.url.params:  # where a redirect leads may have it already
            request = _with_query(request, *self._query)
        if self._tokens is None or has_field(request, _NAME):
            return await self._transport.handle_async_request(with_field(request, *self._header) if self._header else request)
        token = await self._tokens.get()
        response = await self._transport.handle_async_request(with_field(request, _NAME, f"Bearer {token}"))
        if response.status_code == 401:  # the service has done nothing: it may get the request again
            await response.aclose()
            token = await self._tokens.get(instead_of=token)
            response = await self._transport.handle_async_request(with_field(request, _NAME, f"Bearer {token}"))
        return response

    async def aclose(self) -> None:
        """Close it and the transport below."""
        if self._tokens is not None:
            await self._tokens.close()
        await self._transport.aclose()


class Tokens:
    """Tokens of one OAuth2 client: each is fetched once, however many requests ask for it, and renewed before it expires.

    Args:
        options: of the client.
        transport: what the requests for tokens go through.
        clock: seconds, for the age of tokens.
    """

    def __init__(self, options: OAuth2, transport: httpx.AsyncBaseTransport, clock: Callable[[], float] = time.monotonic) -> None:
        self._options = options
        self._client = HttpClient(transport)
        self._clock = clock
        self._token: str | None = None
        self._renew_at = 0.0
        self._fetching: asyncio.Task[None] | None = None

    async def get(self, *, instead_of: str | None = None) -> str:
        """A token that is valid, and is not the one that was refused.

        Raises:
            HttpStatusError, TransportError, ResponseError: the token server gave none.
        """
        while self._token is None or self._token == instead_of or self._clock() >= self._renew_at:
            if self._fetching is None:
                self._fetching = asyncio.create_task(self._fetch())
                self._fetching.add_done_callback(self._is_fetched)
            fetching = self._fetching
            await asyncio.wait([fetching])  # it is not this item's alone: it goes on when the item is cancelled
            failure = None if fetching.cancelled() else fetching.exception()
            if failure is not None:
                raise failure.with_traceback(None)
            instead_of = None  # what comes is new, even if it looks the same
        return self._token

    async def close(self) -> None:
        """Fetch no more."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    def _is_fetched(self, _task: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _fetch(self) -> None:
        options, address = self._options, self._options.token_url
        values = {"grant_type": "client_credentials", "scope": options.scope, **options.parameters}
        headers = {"accept": "application/json", "content-type": "application/x-www-form-urlencoded"}
        if options.send_in == "body":
            values |= {"client_id": options.client_id, "client_secret": options.client_secret}
        else:  # RFC 6749, 2.3.1: encoded as in a form first
            headers[_NAME] = _basic(quote_plus(options.client_id), quote_plus(options.client_secret))
        request = self._client.build("POST", address, headers=headers, content=form_body(values, "oauth2"))
        try:
            with anyio.fail_after(_FETCH_SECONDS):
                answer = await self._client.send(request, idempotent=True, max_response_bytes=_MAX_TOKEN_BYTES)
        except TimeoutError:
            raise TransportError(f"no OAuth2 token from {address} within {_FETCH_SECONDS:g} s") from None
        except NodeError as error:
            error.args = (f"no OAuth2 token: {error}",)
            raise
        self._token, life_seconds = _read(address, answer.body)
        self._renew_at = self._clock() + max(life_seconds - _MARGIN_SECONDS, 0.9 * life_seconds)


def _read(address: str, body: bytes) -> tuple[str, float]:
    """A token, and for how many seconds it is valid."""
    said: Any = None
    with suppress(orjson.JSONDecodeError):
        said = orjson.loads(body)
    token = said.get("access_token") if isinstance(said, dict) else None
    if not isinstance(token, str) or not token or not (token.isascii() and token.isprintable()):
        what = "JSON that has no access_token" if said else "no JSON"
        raise ResponseError(f"no OAuth2 token: {address} answered with {what}")
    try:
        life_seconds = float(said.get("expires_in") or math.inf)
    except (TypeError, ValueError):
        life_seconds = math.inf
    return token, life_seconds


def _fixed(auth: Auth) -> tuple[tuple[str, str] | None, tuple[str, str] | None]:
    """The header and the query parameter that all requests get."""
    if auth.bearer is not None:
        return (_NAME, f"Bearer {auth.bearer}"), None
    if auth.basic is not None:
        return (_NAME, _basic(auth.basic.user, auth.basic.password)), None
    if auth.api_key is not None and auth.api_key.query is not None:
        return None, (auth.api_key.query, auth.api_key.value)
    if auth.api_key is not None and auth.api_key.header is not None:
        return (auth.api_key.header.lower(), auth.api_key.value), None
    return None, None


def _basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def _with_query(request: httpx.Request, name: str, value: str) -> httpx.Request:
    url = httpx.URL(f"{request.url}{'&' if request.url.query else '?'}{quote(name, safe='')}={quote(value, safe='')}")
    return httpx.Request(request.method, url, headers=request.headers.raw, stream=request.stream, extensions=request.extensions)
