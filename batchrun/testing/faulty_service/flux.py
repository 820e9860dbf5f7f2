"""The routes of the Flux server (flux-core 0.87): runs of registered workflows."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from batchrun.testing.faulty_service.answers import Refused, read_json
from batchrun.testing.faulty_service.runs import Run, Runs, until

SYSTEM = "flux"
_WORKFLOW = "/workflows/{namespace}/{workflow}"
_WORDS = {"waiting": "PAUSED"}


class Flux:
    """Answers as a Flux server does; its base URL is `/flux`."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def routes(self) -> list[web.RouteDef]:
        """All of its routes, relative to its base URL."""
        return [
            web.post(_WORKFLOW + "/run/{mode:async|sync|stream}", self._run),
            web.get(_WORKFLOW + "/status/{run}", self._poll),
            web.get(_WORKFLOW + "/cancel/{run}", self._cancel),
            web.post(_WORKFLOW + "/resume/{run}/{mode:async|sync|stream}", self._resume),
            web.get("/executions/{run}", self._poll),
            web.get("/executions", self._list),
        ]

    async def _run(self, request: web.Request) -> web.StreamResponse:
        where = request.match_info
        workflow = f"{where['namespace']}/{where['workflow']}"
        version = request.query.get("version")
        run = self._runs.submit(SYSTEM, workflow, await read_json(request), version=version, item=request.headers.get("Idempotency-Key"))
        return await self._answered(request, self._runs.answer_of(run))

    async def _answered(self, request: web.Request, run: Run) -> web.StreamResponse:
        mode = request.match_info["mode"]
        if mode == "stream":
            return await self._stream(request, run)
        if mode == "sync":
            await self._runs.follow(run)
            await until(lambda: run.is_finished)  # as the server does: for an end that a paused run never comes to
        return web.json_response(_shown(run, request))

    async def _stream(self, request: web.Request, run: Run) -> web.StreamResponse:
        run.streams += 1
        if run.script.events == "absent":
            raise Refused(404, "Not Found")
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await answer.prepare(request)
        await answer.write(_event(run, request))
        if run.script.events == "yes" and not run.is_finished:
            await self._runs.follow(run)
            await answer.write(_event(run, request))
        return answer

    async def _poll(self, request: web.Request) -> web.Response:
        return web.json_response(_shown(self._runs.poll(SYSTEM, request.match_info["run"]), request))

    async def _cancel(self, request: web.Request) -> web.Response:
        run = self._runs.get(SYSTEM, request.match_info["run"])
        was_finished = run.is_finished
        run.cancel()
        if was_finished:
            raise Refused(400, f"Cannot cancel a finished execution: {run.id}")
        return web.json_response(_shown(run, request))

    async def _resume(self, request: web.Request) -> web.StreamResponse:
        run = self._runs.get(SYSTEM, request.match_info["run"])
        if run.state != "waiting":
            raise Refused(409, f"Execution {run.id} is not paused, it is {_state(run)}")
        run.resumes += 1
        return await self._answered(request, run)

    async def _list(self, request: web.Request) -> web.Response:
        limit, offset = int(request.query.get("limit", 50)), int(request.query.get("offset", 0))
        state = request.query.get("state")
        runs = [run for run in self._runs.seen(SYSTEM) if state in {None, _state(run)}]
        names = ("execution_id", "workflow_id", "workflow_namespace", "workflow_name", "state", "name")
        listed = [
            {**{name: _shown(run, request)[name] for name in names}, "worker_name": "worker_1"} for run in runs[offset : offset + limit]
        ]
        return web.json_response({"executions": listed, "total": len(runs), "limit": limit, "offset": offset, "auth_filtered": False})


def _state(run: Run) -> str:
    return _WORDS.get(run.state, run.state.upper())


def _shown(run: Run, request: web.Request) -> dict[str, Any]:
    namespace, _, name = run.workflow.partition("/")
    output = run.output
    if run.error is not None:
        output = {"type": "RuntimeError", "message": run.error}
    if run.state == "waiting":
        output = {"pause": "waits for a person"}
    shown = {
        "workflow_id": f"{namespace}.{name}",
        "workflow_namespace": namespace,
        "workflow_name": name,
        "execution_id": run.id,
        "input": run.input,
        "output": output,
        "state": _state(run),
        "current_worker": "worker_1",
        "name": request.query.get("name"),
    }
    if request.query.get("detailed") == "true":
        kind = f"WORKFLOW_{_state(run)}"
        event = {"id": f"{run.id}_1", "type": kind, "source_id": run.id, "name": name, "value": output, "time": run.created_at}
        shown["events"] = [{**event, "subject": None}]
    return shown


def _event(run: Run, request: web.Request) -> bytes:
    name = run.workflow.rpartition("/")[2]
    return f"event: {name}.execution.{_state(run).lower()}\ndata: {json.dumps(_shown(run, request))}\n\n".encode()
