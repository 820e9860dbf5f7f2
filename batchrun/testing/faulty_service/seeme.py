"""The routes of SeeMe (seeme 0.43): executions of a workflow. Its client sends JSON without saying so."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from batchrun.testing.faulty_service.answers import Refused, is_form, read_form, read_object
from batchrun.testing.faulty_service.runs import Run, Runs

SYSTEM = "seeme"
_WORKFLOW = "/workflows/{workflow}"
_EXECUTION = _WORKFLOW + "/executions/{run}"


class SeeMe:
    """Answers as the SeeMe backend does; its base URL is `/seeme`."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def routes(self) -> list[web.RouteDef]:
        """All of its routes, relative to its base URL."""
        return [
            web.get("/applications", self._applications),
            web.post(_WORKFLOW + "/execute", self._submit),
            web.post(_WORKFLOW + "/versions/{version}/execute", self._submit),
            web.get(_WORKFLOW + "/executions", self._list),
            web.get(_EXECUTION, self._poll),
            web.delete(_EXECUTION, self._delete),
            web.post(_EXECUTION + "/cancel", self._cancel),
            web.post(_EXECUTION + "/rerun", self._rerun),
            web.get(_EXECUTION + "/input-file", self._input_file),
        ]

    async def _applications(self, _request: web.Request) -> web.Response:
        return web.json_response([])

    async def _submit(self, request: web.Request) -> web.Response:
        files: dict[str, dict[str, Any]] = {}
        value: Any
        if is_form(request):
            files = (await read_form(request))[1]
            if "file" not in files:
                raise Refused(400, "file: the form has no such file")
            value = files["file"]["filename"]
        else:
            body = await read_object(request)
            if body.get("input_mode") not in {"single", "batch"}:
                raise Refused(400, f"input_mode: must be single or batch, got {body.get('input_mode')!r}")
            value = body.get("single_input") if body["input_mode"] == "single" else body.get("batch_config")
        where = request.match_info
        run = self._runs.submit(
            SYSTEM, where["workflow"], value, version=where.get("version"), item=request.headers.get("Idempotency-Key"), files=files
        )
        return web.json_response(_started(self._runs.answer_of(run)))

    async def _poll(self, request: web.Request) -> web.Response:
        return web.json_response(_shown(self._runs.poll(SYSTEM, request.match_info["run"])))

    async def _list(self, request: web.Request) -> web.Response:
        workflow = request.match_info["workflow"]
        return web.json_response([_shown(run) for run in self._runs.seen(SYSTEM) if run.workflow == workflow])

    async def _cancel(self, request: web.Request) -> web.Response:
        run = self._runs.get(SYSTEM, request.match_info["run"])
        run.cancel()
        return web.json_response({"status": run.state})

    async def _rerun(self, request: web.Request) -> web.Response:
        run = self._runs.get(SYSTEM, request.match_info["run"])
        return web.json_response(_started(self._runs.submit(SYSTEM, run.workflow, run.input, version=run.version, files=run.files)))

    async def _delete(self, request: web.Request) -> web.Response:
        self._runs.get(SYSTEM, request.match_info["run"])
        return web.Response(status=204)

    async def _input_file(self, request: web.Request) -> web.Response:
        file = self._runs.get(SYSTEM, request.match_info["run"]).files.get("file")
        if file is None:
            raise Refused(404, "this execution had no input file")
        return web.Response(body=file["content"])


def _started(run: Run) -> dict[str, Any]:
    return {"execution_id": run.id, "status": "pending", "progress": _progress(run), "message": "execution started"}


def _progress(run: Run) -> dict[str, Any]:
    done = int(run.is_finished)
    failed = int(run.state == "failed")
    counts = {"total_items": 1, "processed_items": done, "failed_items": failed}
    return {**counts, "current_node_id": "node_1", "current_node_idx": 0, "total_nodes": 1}


def _shown(run: Run) -> dict[str, Any]:
    ended_at = run.created_at if run.is_finished else None
    output = run.output
    file = run.files.get("file")
    shown: dict[str, Any] = {
        "id": run.id,
        "workflow_id": run.workflow,
        "workflow_version_id": run.version,
        "number": 1,
        "status": run.state,
        "progress": _progress(run),
        "started_at": run.created_at,
        "completed_at": ended_at,
        "error": run.error,
        "input_mode": "batch" if isinstance(run.input, dict) else "single",
        "single_input": None if isinstance(run.input, dict) else run.input,
        "input_file_path": file and f"uploads/{file['filename']}",
        "input_file_name": file and file["filename"],
        "batch_config": run.input if isinstance(run.input, dict) else None,
        "results": None,
        "node_executions": [],
    }
    if output is not None:
        output = output if isinstance(output, dict) else {"output": output}
        result = {"dataset_item_id": None, "input_value": str(run.input), "output": output, "node_outputs": {"node_1": output}}
        shown["results"] = [{**result, "error": None, "processed_at": ended_at}]
    return shown
