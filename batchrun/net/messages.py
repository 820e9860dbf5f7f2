"""Requests and responses of httpx that are only taken apart when somebody looks.

httpx spends 40 µs on the address and the headers of one exchange, a third of what all the rest of it takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

import httpx

# What httpx leaves as it is, but for some that it would only sometimes; a segment that begins with a dot may lead elsewhere.
_TEXT = r"[A-Za-z0-9_~!$&'()*+,;=:@.-]*(?:%[0-9A-Fa-f]{2}[A-Za-z0-9_~!$&'()*+,;=:@.-]*)*"
_PLAIN = re.compile(rf"(https?://[^/?#@]+)((?:/(?!\.){_TEXT})+)(?:\?({_TEXT.replace('@', '@/?')}))?")
LARGE_BODY_BYTES = 2**20
"""aiohttp warns about larger bodies given as one bytes object, because it copies them in one go."""
_WITHOUT_BODY = ("GET", "HEAD", "OPTIONS")
_name_of: Callable[[tuple[bytes, bytes]], bytes] = itemgetter(0)  # of a header
_LOOKED_AT = frozenset({"transfer-encoding", "expect"})
_SHORT_ADDRESS = 256
_LONGEST_ADDRESS = 65_536  # that httpx takes


class Origin(NamedTuple):
    """Where requests go.

    Attributes:
        scheme: http or https.
        host: in ASCII, an IPv6 address without brackets.
        port: null: that of the scheme.
        netloc: host and port as the Host header has them.
    """

    scheme: str
    host: str
    port: int | None
    netloc: str


class Target(NamedTuple):
    """A complete address as it is sent, percent-encoded.

    Attributes:
        origin: where it is.
        path: begins with a slash.
        query: without the question mark; empty: there is none, or nothing in it.
    """

    origin: Origin
    path: str
    query: str


class WrittenRequest(httpx.Request):
    """A request as it is sent, which becomes one of httpx as soon as somebody asks for anything else of it.

    Args:
        method: in upper case.
        target: its address.
        fields: the headers, names in lower case; all of it has a UTF-8 form.
        body: what is sent, or a stream of it.
        extensions: as of any request of httpx.

    Attributes:
        is_untouched: whether it is still as it was written: nobody has seen, and so nobody has changed, what httpx made of it.
    """

    def __init__(
        self, method: str, target: Target, fields: Mapping[str, str], body: bytes | httpx.AsyncByteStream, extensions: dict[str, Any]
    ) -> None:
        self.is_untouched = True
        self.method = method
        self.target = target
        self.fields = fields
        self.body = body
        self.extensions = extensions

    @property
    def message(self) -> bytes | None:
        """All of it as it goes over a connection; null: it is large, or whoever sends it must look at it first."""
        body, fields, (_, path, query) = self.body, self.fields, self.target
        if not isinstance(body, bytes) or not _LOOKED_AT.isdisjoint(fields):
            return None
        told = fields.get("content-length")
        if told != str(len(body)) if told is not None else body:
            return None
        lines = [f"{self.method} {path}{'?' if query else ''}{query} HTTP/1.1", *map(": ".join, fields.items())]
        if told is None and self.method not in _WITHOUT_BODY:
            lines.append("content-length: 0")
        if not "".join(lines).isprintable():  # a line break may be in it
            return None
        head = "\r\n".join([*lines, "", ""]).encode()
        return head + body if len(head) + len(body) <= LARGE_BODY_BYTES else None

    def __getattr__(self, name: str) -> Any:
        if not self.__dict__.get("is_untouched"):
            raise AttributeError(name)
        self.is_untouched = False
        (scheme, _, _, netloc), path, query = self.target
        # Given a stream, httpx adds no headers of its own.
        super().__init__(
            self.method,
            f"{scheme}://{netloc}{path}{'?' if query else ''}{query}",
            headers=[(key.encode("ascii"), value.encode()) for key, value in self.fields.items()],
            stream=httpx.ByteStream(self.body) if isinstance(self.body, bytes) else self.body,
            extensions=self.extensions,
        )
        return getattr(self, name)


class ReceivedResponse(httpx.Response):
    """A response as it came, which becomes one of httpx as soon as somebody asks for anything else of it.

    Args:
        status_code: as of any response of httpx.
        raw_headers: names and values as they came.
        stream: gives the body.
        reason: what came after the status.

    Attributes:
        names: of the headers, in lower case.
    """

    def __init__(self, status_code: int, raw_headers: tuple[tuple[bytes, bytes], ...], stream: httpx.AsyncByteStream, reason: str) -> None:
        self.status_code = status_code
        self.raw_headers = raw_headers
        self.names = _in_lower_case(tuple(map(_name_of, raw_headers)))
        self.stream = stream
        self._reason: str | None = reason

    def __getattr__(self, name: str) -> Any:
        reason = self.__dict__.get("_reason")
        if reason is None:
            raise AttributeError(name)
        self._reason = None
        extensions = {"http_version": b"HTTP/1.1", "reason_phrase": reason.encode("ascii", "replace")}
        super().__init__(self.status_code, headers=list(self.raw_headers), stream=self.stream, extensions=extensions)
        return getattr(self, name)


def raw_headers(response: httpx.Response) -> Sequence[tuple[bytes, bytes]]:
    """The names and values of a response's headers as they came."""
    return response.raw_headers if isinstance(response, ReceivedResponse) else response.headers.raw


def field_names(response: httpx.Response) -> frozenset[bytes]:
    """The names of a response's headers, in lower case."""
    return response.names if isinstance(response, ReceivedResponse) else frozenset(name.lower() for name, _ in response.headers.raw)


# A service names the same headers in most of its answers. Few are kept: one that means harm could name a megabyte of them.
@lru_cache(maxsize=32)
def _in_lower_case(names: tuple[bytes, ...]) -> frozenset[bytes]:
    return frozenset(map(bytes.lower, names))


def has_field(request: httpx.Request, name: str) -> bool:
    """Whether a request has a header, its name in lower case."""
    return name in (request.fields if isinstance(request, WrittenRequest) and request.is_untouched else request.headers)


def with_field(request: httpx.Request, name: str, value: str) -> httpx.Request:
    """The request with one more header; the same one when it is there already. Others are made from the one that was given."""
    if has_field(request, name):
        return request
    if isinstance(request, WrittenRequest) and request.is_untouched:
        return WrittenRequest(request.method, request.target, {**request.fields, name: value}, request.body, request.extensions)
    headers = [*request.headers.raw, (name.encode("ascii"), value.encode())]
    return httpx.Request(request.method, request.url, headers=headers, stream=request.stream, extensions=request.extensions)


def target_of(address: str | httpx.URL, query: str = "") -> Target:
    """A complete address as it is sent: percent-encoded where it was not, without user and password.

    Args:
        address: the address.
        query: more of its query, which is percent-encoded: of letters, digits and `-_.~%&=`.

    Raises:
        httpx.InvalidURL: it is none.

    Example:
        >>> target_of("http://LocalHost:80/items?id=a b")
        Target(origin=Origin(scheme='http', host='localhost', port=None, netloc='localhost'), path='/items', query='id=a%20b')
    """
    if isinstance(address, str) and len(address) <= _SHORT_ADDRESS:
        origin, path, own_query = _target_of_short(address)
        if len(query) <= _LONGEST_ADDRESS - _SHORT_ADDRESS:
            return Target(origin, path, f"{own_query}&{query}" if own_query and query else query or own_query)
    if not query:
        return _target(address)
    whole = str(address).partition("#")[0]  # a query that comes after a fragment would be part of it
    return _target(f"{whole}{'&' if '?' in whole else '?'}{query}")


# Many jobs send all their requests to one address, but for the query.
@lru_cache(maxsize=256)
def _target_of_short(address: str) -> Target:
    return _target(address)


def _target(address: str | httpx.URL) -> Target:
    if isinstance(address, str) and len(address) <= _LONGEST_ADDRESS and (found := _PLAIN.fullmatch(address)):
        return Target(_origin_of(found[1]), found[2], found[3] or "")
    url = httpx.URL(address)
    path, _, query = url.raw_path.decode("ascii").partition("?")
    return Target(_origin(url), path, query)


def _origin(url: httpx.URL) -> Origin:
    return Origin(url.scheme, url.raw_host.decode("ascii"), url.port, url.netloc.decode("ascii"))


# Most jobs send all their requests to a few hosts.
@lru_cache(maxsize=256)
def _origin_of(address: str) -> Origin:
    return _origin(httpx.URL(address))
