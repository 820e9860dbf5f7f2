"""The `http` node: requests for each item, and what is made of their answers."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from batchrun.core.auth import Auth
from batchrun.core.checks import at_least, problem, refuse
from batchrun.core.errors import known_values
from batchrun.core.job import NodeOptions, Resource
from batchrun.net.address import Address, base_problem, compile_path, compile_url, constant_head, has_whole_host
from batchrun.net.answers import READERS, read_bytes, steps_of
from batchrun.net.bodies import WRITERS
from batchrun.net.client import IDEMPOTENT_METHODS, MAX_RESPONSE_BYTES, METHODS
from batchrun.net.hosts import AllowedHosts, host_problem
from batchrun.net.pages import Pages
from batchrun.net.saving import SavedFile
from batchrun.net.success import success_of
from batchrun.nodes.http_call import CALL_KEY, Disk, HttpCall, OwnHeaders, Parts, Reading, Way
from batchrun.nodes.http_files import MAX_FILE_BYTES, bind_upload
from batchrun.workflows.node import NodeCall, NodeCompiler

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_SET_BY_THE_CLIENT = ("content-length", "transfer-encoding", "connection")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """What is sent. All texts below, header names aside, are templates."""

    method: str = "GET"
    """GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS."""
    path: str | None = None
    """Appended to the resource's base_url. What a template inserts is percent-encoded and cannot leave its segment."""
    url: str | None = None
    """A complete address, without a resource. Scheme and host are literal or come from vars; from item data only with allow_hosts."""
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
    multipart: dict[str, Any] | None = None
    """A form body with files: bytes, inputs that are files, and outputs of `file` nodes are sent as files."""
    bytes: str | None = None
    """A body as it is: a template that gives bytes, text or a file."""
    file: str | None = None
    """A file of this machine as the body, read while it is sent, however large it is: its path, relative to the job file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpNode(NodeOptions):
    """Sends a request for each item; the output is the answer.

    Any status but 2xx fails the call. Requests other than GET and HEAD carry the call key as
    `Idempotency-Key`, unless the job sets that header itself.
    """

    type: Literal["http"] = "http"
    """Sends an HTTP request."""
    resource: str | None = None
    """The named service that is called; its headers, its auth and its limits apply."""
    request: HttpRequest
    """What is sent."""
    auth: Auth | None = None
    """Who sends it, where there is no resource."""
    allow_hosts: tuple[str, ...] | None = None
    """Hosts that item data may name in url, and redirects may lead to: `api.example.com`, `*.example.com`, `host:8443`; only public ones,
    unless an address is written out."""
    allow_paths: tuple[str, ...] | None = None
    """Folders that item data may lead into in request.file, symbolic links followed; relative to the job file."""
    max_redirects: int = 0
    """How many redirects in a row are followed: on the same host, and to those of allow_hosts without anything that says who calls."""
    response: Literal["json", "text", "bytes", "file"] = "json"
    """What the answer is read as. An empty answer read as JSON is null. file: it is taken into the folder of the execution, and the output
    has its name, media_type, size_bytes, path and sha256."""
    success: str | None = None
    """A template about `response`, what was read, and `status`; where it is false, the call fails with `Unsuccessful`."""
    extract: str | None = None
    """The path of the output in a JSON answer, such as `data.items[0].id`; null: the whole answer."""
    pages: Pages | None = None
    """How a list comes that is answered in pages; null: in one answer."""
    idempotent: bool | None = None
    """Whether a request may reach the service twice and so is tried again when its answer got lost; null: all but POST and PATCH may."""
    max_response_bytes: int | None = None
    """The largest answer taken, decompressed; null: 16 MiB, and 1 GiB for a file."""

    def __post_init__(self) -> None:
        NodeOptions.__post_init__(self)  # a class with slots is made twice, which breaks super()
        path = None if self.extract is None or steps_of(self.extract) else f"is not a path such as data.items[0]: {self.extract!r}"
        is_file = self.response == "file" or self.request.file is not None
        refuse(
            at_least(1, max_response_bytes=self.max_response_bytes),
            at_least(0, max_redirects=self.max_redirects),
            problem(
                "success", "looks into what was answered, and a file is not read" if self.success and self.response == "file" else None
            ),
            problem("cache", "keeps answers, not files" if self.cache and is_file else None),
            problem("dedupe", "looks at what is sent, and a file is only read then" if self.dedupe and self.request.file else None),
            problem("extract", "takes from a JSON answer" if self.extract is not None and self.response != "json" else path),
            problem("extract", "cannot be given with pages: say pages.items" if self.extract is not None and self.pages else None),
            problem("pages", "takes lists from JSON answers" if self.pages is not None and self.response != "json" else None),
        )

    def bind(self, compiler: NodeCompiler) -> NodeCall | None:
        """Check the request and compile its templates."""
        request, resource = self.request, None
        if self.resource is not None:
            resource = compiler.resource(self.resource, "resource")
        self._check_method(compiler)
        self._check_header_names(compiler)
        is_guarded = self._is_guarded(compiler)
        address = None if is_guarded else self._address(resource, compiler)
        bodies = [name for name in (*WRITERS, "file") if getattr(request, name) is not None]
        if len(bodies) > 1:
            compiler.problem(f"must have at most one body, has {' and '.join(bodies)}", "request")
        query = compiler.template(request.query, "request", "query") if request.query else None
        headers = compiler.template(request.headers, "request", "headers") if request.headers else None
        uploads = bind_upload(request.file, self.allow_paths, compiler) if request.file is not None else None
        is_written = bool(bodies) and bodies[0] in WRITERS
        body = compiler.template(getattr(request, bodies[0]), "request", bodies[0]) if is_written else None
        url = compiler.template(request.url, "request", "url") if is_guarded else None
        success = success_of(self.success, lambda message: compiler.problem(message, "success")) if self.success is not None else None
        auth = compiler.credentials(self.auth, "auth")
        if address is None and url is None:
            return None
        parts = Parts(
            method=request.method.upper(),
            address=address,
            url=url,
            query=query,
            headers=headers,
            body=body,
            write_body=WRITERS[bodies[0]] if is_written else None,
            **self._own(resource),
        )
        self._check_sharing(compiler)
        reading = Reading(
            read=READERS.get(self.response, read_bytes), success=success, steps=steps_of(self.extract or "") or (), pages=self.pages
        )
        way = Way(
            resource=resource,
            auth=auth,
            allowed=AllowedHosts(self.allow_hosts or ()) if is_guarded else None,
            idempotent=parts.method in IDEMPOTENT_METHODS if self.idempotent is None else self.idempotent,
            max_response_bytes=self.max_response_bytes or (MAX_FILE_BYTES if self.response == "file" else MAX_RESPONSE_BYTES),
            max_redirects=self.max_redirects,
            elsewhere=AllowedHosts(self.allow_hosts or ()),
        )
        return self._node_call(
            HttpCall(parts, reading, way, Disk(uploads, takes=self.response == "file")), sends_call_key=parts.sends_call_key
        )

    def _own(self, resource: Resource | None) -> OwnHeaders:
        """What the node adds to a request that the job does not say itself."""
        given = {name.lower() for name in (*self.request.headers, *(resource.headers if resource else ()))}
        return OwnHeaders(
            own_headers={"accept": "application/json"} if self.response == "json" and "accept" not in given else {},
            sends_media_type="content-type" not in given,
            sends_call_key=self.request.method.upper() not in ("GET", "HEAD") and CALL_KEY not in given,
        )

    def _node_call(self, call: HttpCall, *, sends_call_key: bool) -> NodeCall:
        returns, restore = _RETURNS.get(self.response, (None, _same))
        return NodeCall(
            call=call,
            key=call.key,
            waits=True,
            queues=True,
            sends_call_key=sends_call_key,
            returns=returns,
            restore=call.files.restore if self.response == "file" else restore,
            lifespan=call.lifespan,
        )

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

    def _is_guarded(self, compiler: NodeCompiler) -> bool:
        """Whether item data names the host, and the job says which ones it may name."""
        for index, entry in enumerate(self.allow_hosts or ()):
            wrong = host_problem(entry)
            if wrong:
                compiler.problem(wrong, "allow_hosts", index)
        if self.auth is not None and self.resource is not None:
            compiler.problem("must not be given with a resource: give the resource an auth", "auth")
        if self.request.url is None or not self.allow_hosts or self.request.path is not None or self.resource is not None:
            return False
        head = constant_head(self.request.url, compiler, "request", "url")
        if head.is_all or has_whole_host(head.text):
            return False
        if self.auth is not None:
            compiler.problem("must not be sent to hosts that item data names", "auth")
        return True

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
            wrong = base_problem(resource.base_url)
            if wrong is None and ("?" in resource.base_url or "#" in resource.base_url):
                wrong = "must end with its path; put a query under request.query"
            if wrong:
                compiler.problem(f"base_url of {self.resource!r} {wrong}", "resource")
        return compile_path(request.path or "", compiler, "request", "path")


def _bytes(value: Any) -> Any:
    return None if value is None else base64.b64decode(value)


def _same(value: Any) -> Any:
    return value


_RETURNS: dict[str, tuple[Any, Callable[[Any], Any]]] = {"bytes": (bytes, _bytes), "file": (SavedFile, _same)}
