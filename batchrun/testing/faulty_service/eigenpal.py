"""The routes of Eigenpal: its present API (eigenpal 0.20, `/v1/runs`) and the one its pages describe (0.5, `/api/v1/workflows`)."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from batchrun.testing.faulty_service.answers import Refused, is_form, read_form, read_object
from batchrun.testing.faulty_service.book import parsed
from batchrun.testing.faulty_service.runs import Run, Runs, until

SYSTEM = "eigenpal"
_LONGEST_WAIT_SECONDS = 600


class Eigenpal:
    """Answers as the present API does; its base URL is `/eigenpal`."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._files: dict[str, dict[str, Any]] = {}

    def routes(self) -> list[web.RouteDef]:
        """All of its routes, relative to its base URL."""
        return [
            web.get("/v1/auth/check", self._check),
            web.post("/v1/runs", self._submit),
            web.get("/v1/runs", self._list),
            web.get("/v1/runs/{run}", self._poll),
            web.post("/v1/runs/{run}/cancel", self._cancel),
            web.post("/v1/runs/{run}/rerun", self._rerun),
            web.get("/v1/runs/{run}/{part:steps|usage|events|trace|artifacts}", self._part),
            web.post("/v1/files/uploads", self._announce),
            web.post("/v1/files", self._upload),
        ]

    async def _check(self, _request: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    async def _submit(self, request: web.Request) -> web.Response:
        files: dict[str, dict[str, Any]] = {}
        if is_form(request):
            texts, files = await read_form(request)
            body = {name: text if name == "target" else parsed(text) for name, text in texts.items()}
            files = {name.removeprefix("files."): file for name, file in files.items()}
        else:
            body = await read_object(request)
        if not isinstance(body.get("target"), str):
            raise Refused(400, "target: is required, as workflows.slug, agents.slug or an id")
        version = request.query.get("version")
        run = self._runs.submit(
            SYSTEM, body["target"], body.get("input"), version=version, item=request.headers.get("Idempotency-Key"), files=files
        )
        return await self._started(request, self._runs.answer_of(run))

    async def _started(self, request: web.Request, run: Run) -> web.Response:
        if await _held(request, run):
            return web.json_response(_shown(run))
        return web.json_response({"id": run.id, "type": _kind(run), "finished": False, "source": _source(run)}, status=202)

    async def _poll(self, request: web.Request) -> web.Response:
        return web.json_response(_shown(self._runs.poll(SYSTEM, request.match_info["run"])))

    async def _list(self, request: web.Request) -> web.Response:
        states = {state for state in request.query.get("status", "").split(",") if state}
        runs = [_shown(run) for run in self._runs.seen(SYSTEM) if not states or run.state in states]
        start, limit = int(request.query.get("cursor") or request.query.get("offset") or 0), int(request.query.get("limit", 50))
        following = str(start + limit) if start + limit < len(runs) else None
        return web.json_response({"runs": runs[start : start + limit], "nextCursor": following})

    async def _cancel(self, request: web.Request) -> web.Response:
        run = self._runs.get(SYSTEM, request.match_info["run"])
        cancellation = _cancelled(run, "requested", "already_terminal")
        shown = {"id": run.id, "type": _kind(run), "finished": run.is_finished, "execution": {"status": run.state}}
        return web.json_response({**shown, "cancellation": cancellation})

    async def _rerun(self, request: web.Request) -> web.Response:
        run = self._runs.get(SYSTEM, request.match_info["run"])
        version = request.query.get("version", run.version)
        again = self._runs.submit(SYSTEM, run.workflow, run.input, version=run.version if version == "original" else version)
        return await self._started(request, again)

    async def _part(self, request: web.Request) -> web.Response:
        self._runs.get(SYSTEM, request.match_info["run"])
        empty: dict[str, dict[str, Any]] = {
            "steps": {"steps": [], "total": 0}, "usage": {"usage": {}}, "events": {"events": []}, "trace": {"events": []},
            "artifacts": {"artifacts": []},
        }  # fmt: skip
        return web.json_response(empty[request.match_info["part"]])

    async def _announce(self, request: web.Request) -> web.Response:
        await read_object(request)
        return web.json_response({"transport": "multipart", "url": "/v1/files"})

    async def _upload(self, request: web.Request) -> web.Response:
        file = (await read_form(request))[1].get("file") if is_form(request) else None
        if file is None:
            raise Refused(400, "file: a multipart form with the field file is needed")
        file_id = f"file_{len(self._files) + 1}"
        self._files[file_id] = file
        return web.json_response({"id": file_id, "filename": file["filename"], "size": file["size"]}, status=201)


class EigenpalPages:
    """Answers as the API of Eigenpal's pages does; its base URL is `/eigenpal-0.5`."""

    SYSTEM = "eigenpal-0.5"

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def routes(self) -> list[web.RouteDef]:
        """All of its routes, relative to its base URL."""
        executions = "/api/v1/workflows/executions/{run}"
        return [
            web.get(executions, self._poll),
            web.post(executions + "/cancel", self._cancel),
            web.post("/api/v1/workflows/{workflow}/run", self._submit),
            web.get("/api/v1/workflows/{workflow}/executions", self._list),
        ]

    async def _submit(self, request: web.Request) -> web.Response:
        files: dict[str, dict[str, Any]] = {}
        if is_form(request):
            texts, files = await read_form(request)
            body = parsed(texts.get("_json", "{}")) or {}
        else:
            body = await read_object(request)
        version, workflow = request.query.get("version"), request.match_info["workflow"]
        run = self._runs.submit(
            self.SYSTEM, workflow, body.get("input"), version=version, item=request.headers.get("Idempotency-Key"), files=files
        )
        self._runs.answer_of(run)
        ended = _ending(run) if await _held(request, run) else {}
        return web.json_response({"executionId": run.id, **ended}, status=201)

    async def _poll(self, request: web.Request) -> web.Response:
        run = self._runs.poll(self.SYSTEM, request.match_info["run"])
        return web.json_response({"executionId": run.id, "createdAt": run.created_at, **_ending(run)})

    async def _cancel(self, request: web.Request) -> web.Response:
        run = self._runs.get(self.SYSTEM, request.match_info["run"])
        cancellation = _cancelled(run, "cancellation-requested", "already-terminal")
        return web.json_response({"executionId": run.id, "status": cancellation["state"], "wasStatus": cancellation["wasStatus"]})

    async def _list(self, request: web.Request) -> web.Response:
        workflow, limit = request.match_info["workflow"], int(request.query.get("limit", 50))
        offset = int(request.query.get("offset", 0))
        states = {state for state in request.query.get("status", "").split(",") if state}
        runs = [run for run in self._runs.seen(self.SYSTEM) if run.workflow == workflow and (not states or run.state in states)]
        data = [_listed(run) for run in runs[offset : offset + limit]]
        return web.json_response({"data": data, "total": len(runs), "limit": limit, "offset": offset})


async def _held(request: web.Request, run: Run) -> bool:
    """Hold the answer to a submit as long as asked; whether the run has ended by then."""
    seconds = min(float(request.query.get("wait_for_completion") or 0), _LONGEST_WAIT_SECONDS)
    if not seconds:
        return False
    run.skip_to_end()
    await until(lambda: run.is_finished, seconds=seconds)
    return run.is_finished


def _cancelled(run: Run, requested: str, already: str) -> dict[str, str]:
    was, was_finished = run.state, run.is_finished
    took = run.cancel()
    return {"state": already if was_finished else "cancelled" if took else requested, "wasStatus": was}


def _kind(run: Run) -> str:
    return "agent" if run.workflow.startswith("agents.") else "workflow"


def _source(run: Run) -> dict[str, Any]:
    return {"id": run.workflow, "name": run.workflow, "version": run.version}


def _shown(run: Run) -> dict[str, Any]:
    ended_at = run.created_at if run.is_finished else None
    timing = {
        "createdAt": run.created_at,
        "startedAt": run.created_at,
        "completedAt": ended_at,
        "durationMs": None,
        "cancelRequestedAt": None,
    }
    retry = {"number": 0, "previousRunId": None, "nextRun": None}
    shown = {
        "id": run.id,
        "type": _kind(run),
        "finished": run.is_finished,
        "tags": [],
        "sampleRank": None,
        "timing": timing,
        "source": _source(run),
        "trigger": {"type": "api", "by": None},
        "execution": {"status": run.state, "schemaValid": None, "batchId": None, "retry": retry},
    }
    if run.state == "completed":
        shown |= {"output": run.output, "files": []}
    if run.error is not None:
        shown["error"] = run.error
    return shown


def _ending(run: Run) -> dict[str, Any]:
    ended: dict[str, Any] = {"status": run.state}
    if run.is_finished:
        ended["completedAt"] = run.created_at
    if run.state == "completed":
        ended["result"] = run.output
    if run.error is not None:
        ended["error"] = run.error
    return ended


def _listed(run: Run) -> dict[str, Any]:
    who = {"id": run.id, "workflowId": run.workflow, "status": run.state, "triggerType": "api", "triggerInput": run.input}
    when = {"createdAt": run.created_at, "startedAt": run.created_at, "completedAt": None, "durationMs": None}
    return {**who, **when, "result": run.output, "error": run.error, "workflow": {"id": run.workflow, "name": run.workflow}}
