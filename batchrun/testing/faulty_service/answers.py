"""Answers of a service, the refusals and breaks included, each in the words of the system that is asked."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from batchrun.testing.faulty_service.book import parsed

_PIECES = 64  # a slow body comes in so many at most


@dataclass(slots=True)
class Refused(Exception):
    """A request is answered with an error."""

    status: int
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)


class Dropped(Exception):
    """A request is not answered: its connection is broken off."""


def refusal(path: str, refused: Refused) -> web.Response:
    """The error in the shape of the system below whose base URL it is answered."""
    system = path.partition("/")[2].partition("/")[0]
    body: dict[str, Any]
    if system in {"noxus", "flux"}:
        body = {"detail": refused.message}
    elif system in {"eigenpal", "eigenpal-0.5"}:
        issue = {"field": None, "message": refused.message, "code": f"http_{refused.status}", "severity": "error"}
        body = {"issues": [issue], "requestId": "req_1"}
    else:
        body = {"error": {"message": refused.message, "type": _kind(refused.status), "param": None, "code": _kind(refused.status)}}
    return web.json_response(body, status=refused.status, headers=dict(refused.headers))


def _kind(status: int) -> str:
    names = {400: "invalid_request_error", 401: "invalid_api_key", 404: "not_found", 429: "rate_limit_exceeded"}
    return names.get(status, "server_error" if status >= 500 else "invalid_request_error")


def break_off(request: web.Request) -> web.Response:
    """Reset the connection of a request. What it returns is never sent."""
    transport = request.transport
    if transport is not None:
        # With a linger time of zero, closing sends RST.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()


async def drip(request: web.Request, answer: web.Response, pause_seconds: float) -> web.StreamResponse:
    """Send an answer in small pieces with a pause after each; its last piece is still to come."""
    body = answer.body if isinstance(answer.body, bytes) else b""
    slow = web.StreamResponse(status=answer.status, headers=answer.headers)
    slow.content_length = len(body)
    await slow.prepare(request)
    step = max(1, -(-len(body) // _PIECES))
    for start in range(0, len(body), step):
        await asyncio.sleep(pause_seconds)
        await slow.write(body[start : start + step])
    return slow


def cut_short(answer: web.Response) -> web.Response:
    """The same answer with its JSON cut in the middle."""
    body = answer.body if isinstance(answer.body, bytes) and answer.body else b'{"text": "..."}'
    headers = {name: value for name, value in answer.headers.items() if name.lower() != "content-length"}
    return web.Response(body=body[: max(1, len(body) // 2)], status=answer.status, headers=headers)


async def read_json(request: web.Request) -> Any:
    """The body as JSON whatever its content type says; null when there is none.

    Raises:
        Refused: 400, the body is no JSON.
    """
    body = await request.read()
    value = parsed(body) if body else None
    if value is None and body not in {b"", b"null"}:
        raise Refused(400, f"the body is no JSON: {body[:60]!r}")
    return value


async def read_object(request: web.Request) -> dict[str, Any]:
    """The body as a JSON object; empty when there is no body.

    Raises:
        Refused: 400, the body is something else.
    """
    value = await read_json(request)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused(400, f"the body must be a JSON object, got {type(value).__name__}")
    return value


async def read_form(request: web.Request) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Fields of a multipart form: those that are text, and the files with name, type, size and content."""
    texts: dict[str, str] = {}
    files: dict[str, dict[str, Any]] = {}
    for name, value in (await request.post()).items():
        if isinstance(value, web.FileField):
            content = value.file.read()
            files[name] = {"filename": value.filename, "content_type": value.content_type, "size": len(content), "content": content}
        else:
            texts[name] = value if isinstance(value, str) else value.decode()
    return texts, files


def is_form(request: web.Request) -> bool:
    """Whether the body is a multipart form."""
    return request.content_type == "multipart/form-data"
