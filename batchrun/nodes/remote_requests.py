"""The requests of a `remote` node, compiled: templates, and placeholders such as `{run_id}` that stand for what the node is given."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import quote, unquote

import httpx

from batchrun.core.errors import AddressRefused, known_values
from batchrun.net.address import compile_path
from batchrun.net.bodies import WRITERS
from batchrun.net.client import METHODS, SLOT, HttpClient
from batchrun.net.parts import header_value, query_string, text_of
from batchrun.nodes.remote_parts import RemoteRequest
from batchrun.nodes.remote_presets import BODIES
from batchrun.workflows.encoding import encode
from batchrun.workflows.node import NodeCompiler, Render
from batchrun.workflows.scope import Scope

RUN_ID = "run_id"
"""The placeholder that only stands for something once there is a run."""

_PLACEHOLDER = re.compile(r"(?<!\{)\{([a-z_]+)\}(?!\})")
_ELSEWHERE = ("", ".", "..")

Fill: TypeAlias = Callable[[Scope, str | None], Any]
"""Gives a value for an item and the id of its run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What placeholders stand for.

    Attributes:
        values: what gives it, by name; null where the job does not say.
        slashed: names whose values may hold slashes in a path: the job gives them, not item data.
        used: takes the names that are used.
    """

    values: Mapping[str, Render | None]
    slashed: frozenset[str]
    used: set[str]

    def fill(self, name: str) -> Fill:
        """What gives the value of a placeholder."""
        self.used.add(name)
        if name == RUN_ID:
            return lambda _scope, run_id: run_id
        render = self.values[name]
        return (lambda _scope, _run_id: None) if render is None else (lambda scope, _run_id: render(scope))


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledRequest:
    """One of the requests, ready to be made for an item."""

    method: str
    path: Fill
    query: Fill | None
    headers: Fill | None
    body: Fill | None
    body_kind: str
    json_text: str | None
    accept: str

    def build(self, client: HttpClient, scope: Scope, run_id: str | None, own_headers: Mapping[str, str]) -> httpx.Request:
        """The request for one item; `own_headers` are sent unless the job has its own of these names.

        Raises:
            NodeError: it cannot be written down, or would lead elsewhere.
        """
        address = self.path(scope, run_id)
        query = query_string(self.query(scope, run_id), "query") if self.query else ""
        if query:
            address += ("&" if "?" in address else "?") + query
        headers, content = {"accept": self.accept, **own_headers}, b""
        if self.body is not None:
            content, headers["content-type"] = WRITERS[self.body_kind](self._body(scope, run_id))
        for name, value in (self.headers(scope, run_id) if self.headers else {}).items():
            if value is not None:
                headers[name.lower()] = header_value(value, name)
        request = client.build(self.method, address, headers=headers, content=content)
        request.extensions[SLOT] = scope.slot
        return request

    def _body(self, scope: Scope, run_id: str | None) -> Any:
        value = self.body(scope, run_id) if self.body is not None else None
        name = self.json_text
        if name is not None and isinstance(value, dict) and name in value and not isinstance(value[name], str):
            return {**value, name: encode(value[name]).decode()}
        return value


def compile_request(
    part: RemoteRequest, given: Given, compiler: NodeCompiler, name: str, *, accept: str = "application/json"
) -> CompiledRequest | None:
    """Compile a request of the job or of a preset; mistakes are reported below `name`. Null where that leaves nothing."""
    method = (part.method or "GET").upper()
    if method not in METHODS:
        compiler.problem(f"unknown method {method!r}; {known_values(method, METHODS, kind='methods')}", name, "method")
    bodies = [body for body in BODIES if getattr(part, body) is not None]
    if len(bodies) > 1:
        compiler.problem(f"must have at most one body, has {' and '.join(bodies)}", name)
    if part.path is None:
        compiler.problem("is missing: what is appended to the base_url of the resource", name, "path")
        return None
    _check(part.path, given, compiler, name, "path")
    path = _path(part.path, given, compiler, name)
    query = _compiled(part.query, given, compiler, name, "query") if part.query else None
    headers = _compiled(part.headers, given, compiler, name, "headers") if part.headers else None
    body = _compiled(getattr(part, bodies[0]), given, compiler, name, bodies[0]) if bodies else None
    if path is None:
        return None
    return CompiledRequest(
        method=method,
        path=path,
        query=query,
        headers=headers,
        body=body,
        body_kind=bodies[0] if bodies else "",
        json_text=getattr(part, "json_text", None),
        accept=accept,
    )


def _check(text: str, given: Given, compiler: NodeCompiler, *path: str | int) -> None:
    """Report placeholders that stand for nothing: in an address they would be sent as they are."""
    for name in _PLACEHOLDER.findall(text):
        if name not in given.values:
            compiler.problem(f"{{{name}}} stands for nothing; {known_values(name, given.values, kind='placeholders')}", *path)


def _path(text: str, given: Given, compiler: NodeCompiler, name: str) -> Fill | None:
    address = compile_path(text, compiler, name, "path")
    if address is None:
        return None
    names = [found for found in _PLACEHOLDER.findall(text) if found in given.values]
    fills = {found: given.fill(found) for found in names}

    def filled(scope: Scope, run_id: str | None) -> str:
        # What item data inserts is percent-encoded, braces included: what looks like a placeholder is one of the job.
        written = address(scope)
        for found, fill in fills.items():
            value = quote(text_of(fill(scope, run_id), found), safe="/" if found in given.slashed else "")
            if any(unquote(segment) in _ELSEWHERE for segment in value.split("/")):
                raise AddressRefused(f"{found} {value!r} in the address would name another place")
            written = written.replace(f"{{{found}}}", value)
        return written

    return filled


def _compiled(value: Any, given: Given, compiler: NodeCompiler, *path: str | int) -> Fill:
    """A value in which every text may be a template or hold placeholders."""
    if isinstance(value, dict):
        inner = {key: _compiled(each, given, compiler, *path, key) for key, each in value.items()}
        optional = {key for key, each in value.items() if isinstance(each, str) and _names(each, given)}
        return lambda scope, run_id: {
            key: found for key, fill in inner.items() if (found := fill(scope, run_id)) is not None or key not in optional
        }
    if isinstance(value, list | tuple):
        elements = [_compiled(each, given, compiler, *path, index) for index, each in enumerate(value)]
        return lambda scope, run_id: [fill(scope, run_id) for fill in elements]
    if not isinstance(value, str) or not _names(value, given):
        render = compiler.template(value, *path)
        return lambda scope, _run_id: render(scope)
    names = _names(value, given)
    if value == f"{{{names[0]}}}":
        return given.fill(names[0])
    return _text(value, given, compiler, *path)


def _names(text: str, given: Given) -> list[str]:
    return [name for name in _PLACEHOLDER.findall(text) if name in given.values]


def _text(value: str, given: Given, compiler: NodeCompiler, *path: str | int) -> Fill:
    """Text around placeholders; null when one of them is."""
    pieces = re.split(rf"(?<!\{{)\{{({'|'.join(given.values)})\}}(?!\}})", value)
    literals = [compiler.template(piece, *path) for piece in pieces[0::2]]
    fills = [(name, given.fill(name)) for name in pieces[1::2]]

    def joined(scope: Scope, run_id: str | None) -> str | None:
        found = [(name, fill(scope, run_id)) for name, fill in fills]
        if any(each is None for _, each in found):
            return None
        texts = [*(text_of(each, name) for name, each in found), ""]
        return "".join(text_of(literal(scope), "text") + text for literal, text in zip(literals, texts, strict=True))

    return joined
