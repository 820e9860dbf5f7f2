"""A real HTTP server on 127.0.0.1 that answers as a test tells it to, faults included."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

Handler: TypeAlias = "Callable[[Received], Answer]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A request as it arrived. `path` holds path and query undecoded, `headers` has names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server does with one request.

    Attributes:
        status, headers, body: sent as they are, with a Content-Length.
        held: answer only after `LoopbackServer.release`; never released, it hangs.
        drip_seconds: send the body byte by byte with this pause after each.
        raw: sent instead of an answer; then the connection is closed. Empty: the connection drops without an answer.
        reset: with `raw`, break the connection off instead of closing it.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    held: bool = False
    drip_seconds: float = 0.0
    raw: bytes | None = None
    reset: bool = False


def json_answer(value: Any, *, status: int = 200, held: bool = False) -> Answer:
    """An answer with a JSON body."""
    return Answer(status=status, headers={"Content-Type": "application/json"}, body=json.dumps(value).encode(), held=held)


class LoopbackServer:
    """Serves `handler` in a thread of its own for as long as it is entered.

    Args:
        handler: called for each request, or the answers by path; a list is answered in order, its last one repeats.
        drop_connections: how many connections are closed unread before the first one is served.
        port: where; 0: any free one.

    Attributes:
        url: `http://127.0.0.1:port`; `connections` counts those that were opened.
        requests: every request read, in order of arrival.
        in_flight: requests read and not answered yet; `most_in_flight` is the highest there ever was.

    Example:
        >>> with LoopbackServer({"/label": json_answer({"label": "bug"})}) as server:
        ...     ...  # a workflow that calls server.url + "/label"
    """

    def __init__(self, handler: Handler | Mapping[str, Answer | Sequence[Answer]], *, drop_connections: int = 0, port: int = 0) -> None:
        self._handler = handler if callable(handler) else _scripted(handler)
        self._drop_connections = drop_connections
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loopback-server", daemon=True)
        self._held: list[asyncio.Future[Any]] = []
        self._changed = threading.Condition()
        self._writers: set[asyncio.StreamWriter] = set()
        self.requests: list[Received] = []
        self.in_flight = self.most_in_flight = self.connections = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", self._port, backlog=1_024), self._loop
        ).result()
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def release(self, count: int | None = None) -> None:
        """Let `count` held requests be answered, the longest waiting first; null: all that are held now."""

        def let_go() -> None:
            for future in self._held[:count]:
                self._held.remove(future)
                future.set_result(None)

        self._loop.call_soon_threadsafe(let_go)

    def wait_until(self, condition: Callable[[LoopbackServer], bool], *, timeout_seconds: float = 60.0) -> None:
        """Block until `condition(server)` holds, which is asked after every change; `TimeoutError` when it never does."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self), timeout_seconds):
                raise TimeoutError(f"after {timeout_seconds:g} s: {len(self.requests)} requests, {self.in_flight} in flight")

    def _count(self, in_flight: int) -> None:
        with self._changed:
            self.in_flight += in_flight
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self._changed.notify_all()

    async def _stop(self) -> None:
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            self._abort()
            await asyncio.gather(*others, return_exceptions=True)
        # Only now: asyncio loses a connection that it is accepting when its server is closed.
        self._server.close()
        self._abort()
        await asyncio.sleep(0)  # connections are given back one turn later

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1
        try:
            if self.connections > self._drop_connections:
                while await self._exchange(reader, writer):
                    pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away
        finally:
            writer.close()  # which waits for a client that has not yet read everything

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False when the connection must not go on."""
        received = await _read(reader)
        self.requests.append(received)
        self._count(1)
        try:
            answer = self._handler(received)
            if answer.held:
                await self._hold(reader)
            if answer.reset:
                # With a linger time of zero, closing sends RST.
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.write(_head(answer) if answer.raw is None else answer.raw)
            body = b"" if answer.raw is not None or received.method == "HEAD" else answer.body
            piece_bytes = 1 if answer.drip_seconds else len(body) or 1
            for start in range(0, len(body), piece_bytes):
                if answer.drip_seconds:
                    await writer.drain()
                    await asyncio.sleep(answer.drip_seconds)
                writer.write(body[start : start + piece_bytes])
        finally:
            # Nothing is awaited after the last byte, so no client can have seen the whole answer before it is counted.
            self._count(-1)
        await writer.drain()
        return answer.raw is None

    async def _hold(self, reader: asyncio.StreamReader) -> None:
        released: asyncio.Future[Any] = self._loop.create_future()
        self._held.append(released)
        # A client that waits for its answer sends nothing, so this ends when it goes away.
        gone: asyncio.Future[Any] = asyncio.ensure_future(reader.read(1))
        await asyncio.wait([released, gone], return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        await asyncio.wait([gone])
        if not released.done():
            self._held.remove(released)
            raise ConnectionResetError


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    if headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:size]
        await reader.readline()
    return Received(method=method, path=path, headers=headers, body=body)


def _head(answer: Answer) -> bytes:
    headers = {"Content-Length": len(answer.body), **answer.headers}
    return "\r\n".join([f"HTTP/1.1 {answer.status} -", *(f"{name}: {value}" for name, value in headers.items()), "\r\n"]).encode("latin-1")


def _scripted(answers: Mapping[str, Answer | Sequence[Answer]]) -> Handler:
    waiting = {path: deque([answer] if isinstance(answer, Answer) else answer) for path, answer in answers.items()}

    def handler(received: Received) -> Answer:
        queue = waiting.get(received.path.partition("?")[0], [Answer(status=404)])
        return queue.popleft() if isinstance(queue, deque) and len(queue) > 1 else queue[0]

    return handler
