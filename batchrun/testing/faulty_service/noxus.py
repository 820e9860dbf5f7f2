"""The routes of Noxus (noxus-sdk 0.6): runs of a workflow, followed by polls or by their events."""

from __future__ import annotations

import json
import uuid
from typing import Any

from aiohttp import web

from batchrun.testing.faulty_service.answers import Refused, is_form, read_form, read_object
from batchrun.testing.faulty_service.runs import Run, Runs

SYSTEM = "noxus"
_WORDS = {"waiting": "awaiting_human_feedback"}


class Noxus:
    """Answers as the Noxus backend does; its base URL is `/noxus`."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._files: dict[str, dict[str, Any]] = {}

    def routes(self) -> list[web.RouteDef]:
        """All of its routes, relative to its base URL."""
        return [
            web.get("/v1/nodes", self._nodes),
            web.get("/v1/admin/me", self._me),
            web.get("/v1/workflows/{workflow}", self._workflow),
            web.post("/v1/workflows/{workflow}/runs", self._submit),
            web.post("/v1/workflows/{workflow}/runs/sync", self._run_to_end),
            web.get("/v1/workflows/{workflow}/runs", self._list),
            web.get("/v1/workflows/{workflow}/runs/{run}", self._poll),
            web.get("/v1/runs/{run}/events", self._events),
            web.get("/v1/runs/{run}/data", self._data),
            web.post("/v1/runs/{run}/stop", self._stop),
            web.post("/v1/file", self._upload),
            web.get("/v1/file/{file}", self._download),
        ]

    async def _nodes(self, _request: web.Request) -> web.Response:
        return _json([])

    async def _me(self, _request: web.Request) -> web.Response:
        return _json({"id": "key_1", "name": "key", "tenant_admin": False, "value": "key"})

    async def _workflow(self, request: web.Request) -> web.Response:
        name = request.match_info["workflow"]
        definition: dict[str, Any] = {"nodes": [], "edges": []}
        return _json({"id": name, "group_id": "group_1", "name": name, "type": "flow", "definition": definition})

    async def _started(self, request: web.Request) -> Run:
        body = await read_object(request)
        if not isinstance(body.get("input"), dict):
            raise Refused(422, "input: must be an object of inputs by label or node id")
        version, item = body.get("workflow_version_id"), request.headers.get("Idempotency-Key")
        run = self._runs.submit(SYSTEM, request.match_info["workflow"], body["input"], version=version, item=item)
        return self._runs.answer_of(run)

    async def _submit(self, request: web.Request) -> web.Response:
        return _json(_shown(await self._started(request)))

    async def _run_to_end(self, request: web.Request) -> web.Response:
        run = await self._started(request)
        await self._runs.follow(run)
        return _json(run.output if request.query.get("output_only") == "true" else _shown(run))

    async def _poll(self, request: web.Request) -> web.Response:
        return _json(_shown(self._runs.poll(SYSTEM, request.match_info["run"])))

    async def _list(self, request: web.Request) -> web.Response:
        page, size = int(request.query.get("page", 1)), int(request.query.get("size", 10))
        runs = [_shown(run) for run in self._runs.seen(SYSTEM) if run.workflow == request.match_info["workflow"]]
        return _json({"items": runs[(page - 1) * size : page * size], "total": len(runs), "page": page, "size": size})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        run = self._runs.get(SYSTEM, request.match_info["run"])
        run.streams += 1
        if run.script.events == "absent":
            raise Refused(404, "Not Found")
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await answer.prepare(request)
        await answer.write(_event(run, 1))
        if run.script.events == "yes" and not run.is_finished:
            await self._runs.follow(run)
            await answer.write(_event(run, 2))
        return answer

    async def _data(self, request: web.Request) -> web.Response:
        return _json({**_shown(self._runs.get(SYSTEM, request.match_info["run"])), "nodes": {}})

    async def _stop(self, request: web.Request) -> web.Response:
        run = self._runs.get(SYSTEM, request.match_info["run"])
        run.cancel()
        return _json(_shown(run))

    async def _upload(self, request: web.Request) -> web.Response:
        file = (await read_form(request))[1].get("file") if is_form(request) else None
        if file is None:
            raise Refused(422, "file: a multipart form with the field file is needed")
        file_id = str(uuid.UUID(int=len(self._files) + 1))
        self._files[file_id] = file
        named = {"id": file_id, "uri": f"spot://{file_id}/{file['filename']}", "source_type": "Document", "source_metadata": {}}
        return _json({**named, **{name: file[name] for name in ("size", "filename", "content_type")}})

    async def _download(self, request: web.Request) -> web.Response:
        file = self._files.get(request.match_info["file"])
        if file is None:
            raise Refused(404, "no such file")
        return web.Response(body=file["content"], content_type=file["content_type"])


def _status(run: Run) -> str:
    # What was asked to stop is called so; a run that ended as cancelled was stopped by somebody else.
    return "stopped" if run.is_cancelled else _WORDS.get(run.state, run.state)


def _shown(run: Run) -> dict[str, Any]:
    output = run.output
    return {
        "id": run.id,
        "group_id": "group_1",
        "workflow_id": run.workflow,
        "input": run.input,
        "node_ids": None,
        "status": _status(run),
        "progress": 100 if run.is_finished else 50,
        "progress_details": None,
        "created_at": run.created_at,
        "finished_at": run.created_at if run.is_finished else None,
        "output": output if output is None or isinstance(output, dict) else {"output": output},
    }


def _event(run: Run, number: int) -> bytes:
    data = {"type": "workflow_status", "data": {"workflow_status": _status(run)}, "redisId": f"{number}-0"}
    return f"event: message\ndata: {json.dumps(data)}\n\n".encode()


def _json(value: Any) -> web.Response:
    return web.json_response(value)
