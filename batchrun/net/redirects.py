"""Redirects: where they lead, what is sent there, and whether they are followed at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import httpx

from batchrun.core.errors import AddressRefused, HttpStatusError, NodeError, ResponseError, TransportError
from batchrun.net.client import HttpAnswer, HttpClient
from batchrun.net.failures import describe
from batchrun.net.hosts import USUAL_PORTS, AllowedHosts

REDIRECTS = (301, 302, 303, 307, 308)
"""The statuses that name another address for the same request, or for what came of it."""

# What says nothing about who sends the request; all else may be a credential, whatever its name is.
_HARMLESS = (b"accept", b"accept-encoding", b"accept-language", b"content-type", b"content-length", b"idempotency-key", b"user-agent")
_OF_THE_BODY = (b"content-", b"idempotency-key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """How a request is sent: see `HttpClient.send`."""

    idempotent: bool
    max_response_bytes: int
    on_send: Callable[[], None]  # of the first request: all that it leads to is one attempt


class Redirects:
    """Sends requests and follows where their answers lead.

    To the same place all goes as it was, and so it does from http to https of the same host. Another host must be one of
    `allowed`; nothing that could be a credential goes there.

    Args:
        client: for the place that the request itself names.
        elsewhere: for all others; refuses addresses inside the network.
        allowed: the other hosts.
        most: the most redirects in a row.
    """

    def __init__(self, client: HttpClient, elsewhere: HttpClient, allowed: AllowedHosts, most: int) -> None:
        self._client = client
        self._elsewhere = elsewhere
        self._allowed = allowed
        self._most = most

    async def send(self, request: httpx.Request, sending: Sending) -> HttpAnswer:
        """Send a request, and what its answers lead to.

        Raises:
            AddressRefused: it leads to a host that the job does not allow.
            ResponseError: it leads in a circle, too far, or nowhere.
            TransportError: what a request that has done its work leads to could not be fetched; ambiguous.
            NodeError: as `HttpClient.send`.
        """
        client, now, seen, on_send = self._client, request, {(request.method, str(request.url))}, sending.on_send
        while True:
            idempotent = sending.idempotent or now.method != request.method
            try:
                return await client.send(now, idempotent=idempotent, max_response_bytes=sending.max_response_bytes, on_send=on_send)
            except HttpStatusError as error:
                if error.location is None:
                    raise _of_all(request, now, error, sending) from error
                if len(seen) > self._most:
                    raise ResponseError(f"{describe(request)}: more than {self._most} redirects in a row; raise max_redirects") from None
                before, now = now, self._next(now, error.http_status or 0, error.location)
                if not is_same_place(before.url, now.url):
                    client = self._elsewhere  # for good: another host must not choose what is asked for in our name
            except NodeError as error:
                raise _of_all(request, now, error, sending) from error
            if (now.method, str(now.url)) in seen:
                raise ResponseError(f"{describe(request)}: the redirects go in a circle, back to {describe(now)}")
            seen.add((now.method, str(now.url)))
            on_send = _nothing

    def _next(self, request: httpx.Request, status: int, location: str) -> httpx.Request:
        target = target_of(request, status, location)
        stays = is_same_place(request.url, target)
        if not stays:
            check_target(request, status, target, self._allowed)
        becomes_get = (status == 303 and request.method != "HEAD") or (status in (301, 302) and request.method == "POST")
        headers = [(b"host", target.netloc)]
        for name, value in request.headers.raw:
            lower = name.lower()
            if lower == b"host" or (becomes_get and lower.startswith(_OF_THE_BODY)) or not (stays or lower in _HARMLESS):
                continue
            headers.append((name, value))
        method, stream = ("GET", httpx.ByteStream(b"")) if becomes_get else (request.method, request.stream)
        return httpx.Request(method, target, headers=headers, stream=stream, extensions=request.extensions)


def target_of(request: httpx.Request, status: int, location: str) -> httpx.URL:
    """The address that an answer leads to.

    Raises:
        ResponseError: it is none.
        HttpStatusError: it is not encrypted, and the one before was.
    """
    answered = f"{describe(request)} answered {status}"
    try:
        target = request.url.join(location).copy_with(fragment=None)
        host = target.host
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ResponseError(f"{answered}, but what it points to is not an address") from error
    if target.scheme not in (request.url.scheme, "https") or not host:
        raise HttpStatusError(f"{answered}: it points to {_place(target)}, which is not encrypted, and is not followed", status)
    if target.userinfo:
        raise ResponseError(f"{answered}: it points to an address with a user or a password, which is not followed")
    return target


def check_target(request: httpx.Request, status: int, target: httpx.URL, allowed: AllowedHosts) -> None:
    """Refuse an address on another host that the job does not allow.

    Raises:
        AddressRefused: it is not allowed.
    """
    try:
        allowed.check(target)
    except AddressRefused as refused:
        raise AddressRefused(
            f"{describe(request)} answered {status} and points to {_place(target)}, which is not followed: {refused}"
        ) from None


def is_same_place(one: httpx.URL, other: httpx.URL) -> bool:
    """Whether two addresses have the same scheme, host and port, or the second is the encrypted form of the first."""
    if (one.scheme, one.netloc) == (other.scheme, other.netloc):
        return True
    is_upgrade = (one.scheme, other.scheme) == ("http", "https") and one.host == other.host
    return is_upgrade and all(url.port in (None, USUAL_PORTS[url.scheme]) for url in (one, other))


def _of_all(request: httpx.Request, now: httpx.Request, error: NodeError, sending: Sending) -> NodeError:
    """The error of a request that has led to another one."""
    if now.method == request.method or sending.idempotent:
        return error
    # Its work is done: to send it again because of what came after would do it twice.
    return TransportError(f"{describe(request)} was taken, but what its answer leads to cannot be had: {error}", ambiguous=True)


def _place(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def _nothing() -> None:
    """What is told of the requests that follow the first one."""
