"""The service: one aiohttp server in a thread of its own that lets each request meet its fault, or its route."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import ExitStack
from email.utils import formatdate
from typing import Any, Protocol, Self, TypeAlias, TypeVar

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from batchrun.testing.faulty_service.answers import Dropped, Refused, break_off, cut_short, drip, is_form, read_json, refusal
from batchrun.testing.faulty_service.book import Book, Call, Seen, found, parsed
from batchrun.testing.faulty_service.chat import Chat, ChatRoutes
from batchrun.testing.faulty_service.eigenpal import Eigenpal, EigenpalPages
from batchrun.testing.faulty_service.faults import Faults, Verdict, quota_error
from batchrun.testing.faulty_service.flux import Flux
from batchrun.testing.faulty_service.gatekeeper import Gatekeeper
from batchrun.testing.faulty_service.noxus import Noxus
from batchrun.testing.faulty_service.runs import Run, Runs, Script
from batchrun.testing.faulty_service.seeme import SeeMe


class System(Protocol):
    """A remote system that the service plays."""

    def routes(self) -> list[web.RouteDef]:
        """Its routes, relative to its base URL."""


SYSTEMS: Mapping[str, Callable[[Runs], System]] = {
    "noxus": Noxus,
    "seeme": SeeMe,
    "eigenpal": Eigenpal,
    "eigenpal-0.5": EigenpalPages,
    "flux": Flux,
}
T = TypeVar("T")
_Handler: TypeAlias = "Callable[[web.Request], Awaitable[web.StreamResponse]]"
_CALL = web.RequestKey("call", Call)
_LARGEST_BODY_BYTES = 1 << 28


class FaultyService:
    """Serves until it is left; see the package for its routes.

    Args:
        faults: what goes wrong at first.
        script: how runs of remote systems go that do not say themselves.
        chat: how chat completions are answered.
        api_key: asked for, as `Authorization: Bearer ...` or `X-API-Key`; null: everybody may ask.
        port: where on 127.0.0.1; 0: any free one.

    Attributes:
        url: `http://127.0.0.1:port`.

    Raises:
        OSError: the port is taken.

    Example:
        >>> with FaultyService(Faults(statuses={503: 0.2})) as service:
        ...     ...  # a job whose resource has `base_url: {{ service.url }}`
        >>> service.seen().count
        0
    """

    def __init__(
        self,
        faults: Faults | None = None,
        *,
        script: Script | None = None,
        chat: Chat | None = None,
        api_key: str | None = None,
        port: int = 0,
    ) -> None:
        self._gate = Gatekeeper(faults or Faults())
        self._runs = Runs(script or Script())
        self._book = Book()
        self._chat = chat or Chat()
        self._api_key = api_key
        self._port = port
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty-service", daemon=True)
        self._thread.start()
        with ExitStack() as on_error:
            on_error.callback(self._end)
            self._runner = self._do(self._start())
            on_error.pop_all()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._runner.cleanup())
        self._end()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.__exit__)

    def url_of(self, system: str) -> str:
        """The base URL of a remote system: one of `SYSTEMS`."""
        if system not in SYSTEMS:
            raise ValueError(f"no system is called {system!r}; there are {', '.join(SYSTEMS)}")
        return f"{self.url}/{system}"

    def seen(self, paths: str = "*") -> Seen:
        """The calls that came so far whose path matches, with `*` and `?`."""
        return self._book.seen(paths)

    def runs(self, system: str | None = None) -> tuple[Run, ...]:
        """The runs of a remote system, or of all, in order of their submits."""
        return self._runs.seen(system)

    def forget(self) -> None:
        """Forget the calls seen so far; runs stay."""
        self._book.forget()

    def set_faults(self, faults: Faults) -> None:
        """Let requests that come from now on meet these faults; the clock of outages and the windows start anew."""
        self._gate.set(faults)

    def set_script(self, script: Script) -> None:
        """Let runs that are submitted from now on go like this, unless they say themselves."""
        self._runs.script = script

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> web.AppRunner:
        app = web.Application(middlewares=[self._serve], client_max_size=_LARGEST_BODY_BYTES)
        app.router.add_routes(self._control_routes())
        app.router.add_routes(ChatRoutes(self._chat).routes())
        for name, system in SYSTEMS.items():
            for route in system(self._runs).routes():
                app.router.add_route(route.method, f"/{name}{route.path}", route.handler)
            app.router.add_route("*", f"/{name}/{{rest:.*}}", _no_such_route)
        app.router.add_route("*", "/{rest:.*}", self._echo)
        # Handlers end with their connections: one that hangs must not outlive its client.
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._port, backlog=1_024).start()
        return runner

    @web.middleware
    async def _serve(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if request.path.startswith("/_"):
            return await _refusing(request, handler)
        body = b"" if is_form(request) else await request.read()
        call = self._book.open(_call_of(request, body, time.monotonic() - self._began))
        request[_CALL] = call
        with self._gate.admitted(call) as verdict:
            try:
                answer = await self._answered(request, handler, call, verdict)
                call.status = 0 if verdict.fault == "reset" else answer.status
            except Dropped:
                answer = break_off(request)
            finally:
                # Before the last byte, so that no client can call again before this call counts as ended.
                call.ended_seconds = time.monotonic() - self._began
        return answer

    async def _answered(self, request: web.Request, handler: _Handler, call: Call, verdict: Verdict) -> web.StreamResponse:
        if verdict.latency_seconds:
            await asyncio.sleep(verdict.latency_seconds)
        limits = self._gate.limits(call)
        if verdict.fault == "hang":
            await asyncio.Event().wait()  # until the client goes away
        if verdict.fault == "reset":
            raise Dropped
        if verdict.fault == "quota":
            return web.json_response(quota_error(), status=429, headers=limits)
        if verdict.fault == "status":
            return refusal(request.path, Refused(verdict.status, verdict.reason, {**limits, **self._retry_after(verdict.status)}))
        if self._api_key is not None and self._api_key not in _keys(request):
            return refusal(request.path, Refused(401, "the API key is missing or wrong"))
        answer = await _refusing(request, handler)
        if not isinstance(answer, web.Response):
            return answer  # a stream, which has gone out already
        answer.headers.update(limits)
        if verdict.fault == "malformed":
            return cut_short(answer)
        return await drip(request, answer, self._gate.faults.drip_seconds) if verdict.fault == "drip" else answer

    def _retry_after(self, status: int) -> dict[str, str]:
        seconds = self._gate.faults.retry_after_seconds
        if seconds is None or status not in {429, 503}:
            return {}
        return {"Retry-After": formatdate(time.time() + seconds, usegmt=True) if self._gate.faults.retry_after_date else f"{seconds:g}"}

    async def _echo(self, request: web.Request) -> web.Response:
        body = b"" if is_form(request) else await request.read()
        call = request[_CALL]
        asked = {"method": request.method, "path": request.path, "query": dict(request.query), "headers": dict(call.headers)}
        told = {"json": parsed(body), "text": body.decode(errors="replace"), "item": call.item, "call": call.number}
        return web.json_response({**asked, **told})

    def _control_routes(self) -> list[web.RouteDef]:
        async def tell_seen(request: web.Request) -> web.Response:
            return web.json_response(self.seen(request.query.get("paths", "*")).as_json())

        async def forget(_request: web.Request) -> web.Response:
            self.forget()
            return web.Response(status=204)

        async def tell_runs(request: web.Request) -> web.Response:
            return web.json_response([run.as_json() for run in self.runs(request.query.get("system"))])

        return [
            web.get("/_seen", tell_seen),
            web.delete("/_seen", forget),
            web.get("/_runs", tell_runs),
            *_setting("/_faults", Faults, lambda: self._gate.faults, self.set_faults),
            *_setting("/_script", Script, lambda: self._runs.script, self.set_script),
        ]


def _setting(path: str, kind: type[T], current: Callable[[], T], change: Callable[[T], None]) -> list[web.RouteDef]:
    """Routes that tell and set an options object."""
    words = TypeAdapter(kind)

    async def tell(_request: web.Request) -> web.Response:
        return web.json_response(words.dump_python(current(), mode="json"))

    async def change_it(request: web.Request) -> web.Response:
        try:
            change(words.validate_python(await read_json(request)))
        except ValidationError as error:
            raise Refused(400, str(error)) from None
        return await tell(request)

    return [web.get(path, tell), web.put(path, change_it)]


def _call_of(request: web.Request, body: bytes, now_seconds: float) -> Call:
    item = request.headers.get("Idempotency-Key") or request.query.get("item") or found(parsed(body), "item") or request.path_qs
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Call(
        method=request.method, path=request.path, query=request.query_string, item=str(item), number=0,
        headers=headers, body=body, started_seconds=now_seconds,
    )  # fmt: skip


def _keys(request: web.Request) -> set[str]:
    return {request.headers.get("Authorization", "").removeprefix("Bearer "), request.headers.get("X-API-Key", "")}


async def _refusing(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refused as refused:
        return refusal(request.path, refused)


async def _no_such_route(request: web.Request) -> web.Response:
    raise Refused(404, f"no such route: {request.method} {request.path}")
