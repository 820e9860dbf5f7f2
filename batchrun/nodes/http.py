"""The `http` node: one request per item, its answer as JSON or text."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
import pydantic_core

from batchrun.core.checks import at_least, refuse
from batchrun.core.errors import ResponseError, known_values
from batchrun.core.job import NodeOptions, Resource
from batchrun.net.address import Address, address_problem, compile_path, compile_url
from batchrun.net.client import IDEMPOTENT_METHODS, MAX_RESPONSE_BYTES, METHODS, HttpAnswer, HttpClient
from batchrun.net.failures import describe, excerpt
from batchrun.net.parts import form_body, header_value, json_body, query_string, text_of
from batchrun.net.shared import client_of
from batchrun.net.transport import AiohttpTransport
from batchrun.workflow.node import NodeCall, NodeCompiler, Render
from batchrun.workflow.scope import Scope

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE)
_CALL_KEY = "idempotency-key"
_SET_BY_THE_CLIENT = ("content-length", "transfer-encoding", "connection")
_BODIES: dict[str, tuple[str, Callable[[Any], bytes]]] = {
    "json": ("application/json", json_body),
    "text": ("text/plain; charset=utf-8", lambda value: text_of(value, "text").encode()),
    "form": ("application/x-www-form-urlencoded", lambda value: form_body(value, "form")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """What is sent. All texts below, header names aside, are templates."""

    method: str = "GET"
    """GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS."""
    path: str | None = None
    """Appended to the resource's base_url. What a template inserts is percent-encoded and cannot leave its segment."""
    url: str | None = None
    """A complete address, without a resource. Scheme and host are literal or come from vars."""
    query: dict[str, Any] = field(default_factory=dict)
    """Appended to the address; nulls are left out, a list repeats its key."""
    headers: dict[str, Any] = field(default_factory=dict)
    """Sent besides those of the resource, and in their place where names are equal; nulls are left out."""
    json: Any = None
    """A JSON body."""
    text: str | None = None
    """A text body in UTF-8."""
    form: dict[str, Any] | None = None
    """A form body; nulls are left out, a list repeats its key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpNode(NodeOptions):
    """Sends a request for each item; the output is the answer.

    Any status but 2xx fails the call; redirects are not followed. Requests other than GET and HEAD carry the call key as
    `Idempotency-Key`, unless the job sets that header itself.
    """

    type: Literal["http"] = "http"
    """Sends an HTTP request."""
    resource: str | None = None
    """The named service that is called; its headers and its limit apply."""
    request: HttpRequest
    """What is sent."""
    response: Literal["json", "text"] = "json"
    """What the answer is read as. An empty answer read as JSON is null."""
    idempotent: bool | None = None
    """Whether a request may reach the service twice and so is tried again when its answer got lost; null: all but POST and PATCH may."""
    max_response_bytes: int = MAX_RESPONSE_BYTES
    """The largest answer taken, decompressed."""

    def __post_init__(self) -> None:
        NodeOptions.__post_init__(self)  # a class with slots is made twice, which breaks super()
        refuse(at_least(1, max_response_bytes=self.max_response_bytes))

    def bind(self, compiler: NodeCompiler) -> NodeCall | None:
        """Check the request and compile its templates."""
        request, resource = self.request, None
        if self.resource is not None:
            resource = compiler.resource(self.resource, "resource")
        self._check_method(compiler)
        self._check_header_names(compiler)
        address = self._address(resource, compiler)
        bodies = [name for name in _BODIES if getattr(request, name) is not None]
        if len(bodies) > 1:
            compiler.problem(f"must have at most one body, has {' and '.join(bodies)}", "request")
        query = compiler.template(request.query, "request", "query") if request.query else None
        headers = compiler.template(request.headers, "request", "headers") if request.headers else None
        body = compiler.template(getattr(request, bodies[0]), "request", bodies[0]) if bodies else None
        if address is None:
            return None
        given = {name.lower() for name in (*request.headers, *(resource.headers if resource else ()))}
        parts = _Parts(
            method=request.method.upper(),
            address=address,
            query=query,
            headers=headers,
            body=body,
            write_body=_BODIES[bodies[0]][1] if bodies else json_body,
            own_headers={name: value for name, value in self._own_headers(bodies).items() if name not in given},
            sends_call_key=request.method.upper() not in ("GET", "HEAD") and _CALL_KEY not in given,
        )
        self._check_sharing(compiler)
        call = _HttpCall(self, parts, resource)
        return NodeCall(call=call, key=call.key, waits=True, queues=True, sends_call_key=parts.sends_call_key, lifespan=call.lifespan)

    def _own_headers(self, bodies: list[str]) -> dict[str, str]:
        accept = {"accept": "application/json"} if self.response == "json" else {}
        return accept | ({"content-type": _BODIES[bodies[0]][0]} if bodies else {})

    def _check_method(self, compiler: NodeCompiler) -> None:
        method = self.request.method.upper()
        if method not in METHODS:
            compiler.problem(f"unknown method {method!r}; {known_values(method, METHODS, kind='methods')}", "request", "method")

    def _check_sharing(self, compiler: NodeCompiler) -> None:
        """A request that changes something must be sent for each item, unless the job says that once is enough."""
        method = self.request.method.upper()
        if self.idempotent or (self.idempotent is None and method in ("GET", "HEAD")):
            return
        for name in ("cache", "dedupe"):
            if getattr(self, name):
                compiler.problem(
                    f"a {method} request may do something each time it is sent, and fewer would be sent: remove it, "
                    "or say idempotent: true if the answer is all that matters",
                    name,
                )

    def _check_header_names(self, compiler: NodeCompiler) -> None:
        for name in self.request.headers:
            if not _HEADER_NAME.fullmatch(name):
                compiler.problem(f"{name!r} is not a header name: letters, digits and - are allowed", "request", "headers", name)
            elif name.lower() in _SET_BY_THE_CLIENT:
                compiler.problem(f"{name} follows from the body and cannot be set; leave it out", "request", "headers", name)

    def _address(self, resource: Resource | None, compiler: NodeCompiler) -> Address | None:
        request = self.request
        if (request.path is None) == (request.url is None):
            compiler.problem("must have either path (appended to the base_url of a resource) or url", "request")
            return None
        if request.url is not None:
            if self.resource is not None:
                compiler.problem(
                    "must not be given with a resource, whose headers are not for other addresses; give path", "request", "url"
                )
            return compile_url(request.url, compiler, "request", "url")
        if self.resource is None:
            compiler.problem("is appended to the base_url of a resource: name one under resource, or give url", "request", "path")
        if resource is not None:
            problem = address_problem(resource.base_url)
            if problem is None and ("?" in resource.base_url or "#" in resource.base_url):
                problem = "must end with its path; put a query under request.query"
            if problem:
                compiler.problem(f"base_url of {self.resource!r} {problem}", "resource")
        return compile_path(request.path or "", compiler, "request", "path")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """A request, compiled.

    Attributes:
        own_headers: what the node adds, unless the job says otherwise.
    """

    method: str
    address: Address
    query: Render | None
    headers: Render | None
    body: Render | None
    write_body: Callable[[Any], bytes]
    own_headers: dict[str, str]
    sends_call_key: bool

    def request(self, client: HttpClient, scope: Scope, call_key: str | None) -> httpx.Request:
        """The request for one item."""
        address = self.address(scope)
        query = query_string(self.query(scope), "query") if self.query else ""
        if query:
            address += ("&" if "?" in address else "?") + query
        headers = dict(self.own_headers)
        if self.headers:
            for name, value in self.headers(scope).items():
                if value is not None:
                    headers[name.lower()] = header_value(value, name)
        if self.sends_call_key and call_key is not None:
            headers[_CALL_KEY] = call_key
        content = self.write_body(self.body(scope)) if self.body else b""
        return client.build(self.method, address, headers=headers, content=content)


class _HttpCall:
    """The call of one `http` node."""

    def __init__(self, options: HttpNode, parts: _Parts, resource: Resource | None) -> None:
        self._parts = parts
        self._resource = resource
        self._idempotent = parts.method in IDEMPOTENT_METHODS if options.idempotent is None else options.idempotent
        self._max_response_bytes = options.max_response_bytes
        self._read = _read_json if options.response == "json" else _read_text
        self._client: HttpClient

    async def __call__(self, scope: Scope) -> Any:
        request = self._parts.request(self._client, scope, scope.call_key)
        answer = await self._client.send(
            request,
            idempotent=self._idempotent,
            max_response_bytes=self._max_response_bytes,
            on_send=lambda: scope.sending(in_doubt=not self._idempotent),
        )
        return self._read(request, answer)

    def key(self, scope: Scope) -> Any:
        """All that is sent, the call key aside: what the resource says counts where the request ends up with it."""
        request = self._parts.request(self._client, scope, None)
        return [request.method, str(request.url), repr(request.headers.raw), request.read().decode("latin-1")]

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Hold connections open."""
        if self._resource is not None:
            async with client_of(self._resource) as self._client:
                yield
        else:
            async with AiohttpTransport() as transport:
                self._client = HttpClient(transport)
                yield


def _read_json(request: httpx.Request, answer: HttpAnswer) -> Any:
    if not answer.body:
        return None
    try:
        return pydantic_core.from_json(answer.body)
    except ValueError:
        pass
    try:
        # Slower, and the only one to take lone surrogates, a byte order mark and UTF-16, which services do send.
        return json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        kind = answer.headers.get("content-type", "no content type")
        raise ResponseError(
            f"{describe(request)} answered {answer.status} with a body that is not JSON ({kind}): {excerpt(answer.body)}"
        ) from error


def _read_text(request: httpx.Request, answer: HttpAnswer) -> str:
    charset = _CHARSET.search(answer.headers.get("content-type", ""))
    encoding = charset[1] if charset else "utf-8"
    try:
        return answer.body.decode(encoding)
    except (LookupError, ValueError) as error:
        raise ResponseError(
            f"{describe(request)} answered {answer.status} with a body that is not {encoding} text: {excerpt(answer.body)}"
        ) from error
