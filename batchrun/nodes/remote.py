"""The `remote` node: each item is the run of a workflow at a remote service, begun once and followed to its end."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from batchrun.core.checks import at_least, refuse
from batchrun.core.errors import known_values
from batchrun.core.job import NodeOptions, Resource
from batchrun.flow.retry import RetryPolicy
from batchrun.net.address import base_problem
from batchrun.net.answers import steps_of
from batchrun.net.client import MAX_RESPONSE_BYTES
from batchrun.nodes.remote_call import RemoteCall
from batchrun.nodes.remote_parts import Cancel, Events, Poll, RemoteRequest, Result, Status, Submit
from batchrun.nodes.remote_presets import over, preset, preset_names
from batchrun.nodes.remote_requests import RUN_ID, Given, compile_request
from batchrun.nodes.remote_service import Manner, Service
from batchrun.nodes.remote_states import NAMED, states_of
from batchrun.workflows.file_inputs import is_file
from batchrun.workflows.node import NodeCall, NodeCompiler, Render
from batchrun.workflows.scope import Scope
from batchrun.workflows.templates import is_template


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What the service is asked: what the preset says, with what the job says in its place."""

    submit: Submit
    status: Status
    result: Result
    cancel: Cancel | None
    events: Events | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteNode(NodeOptions):
    """Has the run of a remote workflow do the work of each item; the output is that of the run.

    A run is submitted once: what is known of it is written down before and after, and an item that is taken up again goes on waiting
    for the run it has. While the service is asked how the run is doing, its errors use up no attempt. `timeout_seconds` is how long a
    run may take; then, and when the execution is cancelled, it is cancelled over there.
    """

    type: Literal["remote"] = "remote"
    """Has a remote workflow do the work."""
    resource: str
    """The named service; its base_url, its headers, its auth and its limits apply to every request."""
    preset: str | None = None
    """What is known of a service: eigenpal, eigenpal-0.5, flux, noxus or seeme. Parts that are spelled out below go before what it says."""
    workflow: str | None = None
    """The workflow that is run, as the service names it. A template."""
    version: str | int | None = None
    """Its version; null: the one the service takes. A template."""
    api_key: str | None = None
    """Who asks: `{{ secrets.KEY }}`. Null: what the resource says."""
    payload: Any = None
    """What the workflow is given. A template; null: the node's inputs, and without these `{{ input }}`."""
    submit: Submit | None = None
    """The request that begins a run."""
    status: Status | None = None
    """The request that asks how it is doing, and what its states mean."""
    result: Result | None = None
    """Where its output is."""
    cancel: Cancel | None = None
    """The request that ends it; null: as the preset says."""
    events: Events | None = None
    """A stream of events to follow, `{}` for that of the preset; null: the service is polled."""
    poll: Poll = Poll()
    """How often it is asked."""
    idempotent: bool = False
    """Whether the service starts one run however often it gets the same `Idempotency-Key`: a submit is then sent again when its answer
    got lost."""
    on_lost_submit: Literal["fail", "resubmit"] = "fail"
    """When a submit was sent and no id came back: fail with `SubmitInDoubt`, or submit again, which may begin a second run."""
    max_response_bytes: int = MAX_RESPONSE_BYTES
    """The largest answer taken, decompressed."""

    def __post_init__(self) -> None:
        NodeOptions.__post_init__(self)  # a class with slots is made twice, which breaks super()
        refuse(at_least(1, max_response_bytes=self.max_response_bytes))

    def bind(self, compiler: NodeCompiler) -> NodeCall | None:
        """Check what the service is asked, and compile it."""
        resource = compiler.resource(self.resource, "resource")
        wrong = base_problem(resource.base_url) if resource is not None else None
        if wrong:
            compiler.problem(f"base_url of {self.resource!r} {wrong}", "resource")
        parts = self._parts(compiler)
        if parts is None:
            return None
        given = self._given(compiler)
        service = _service(parts, given, compiler, resource)
        self._check_given(given, compiler)
        if service is None:
            return None
        manner = Manner(
            poll=self.poll,
            timeout_seconds=self.timeout_seconds,
            retry=RetryPolicy(node=self.retry, run=compiler.run_retry),
            is_idempotent=self.idempotent,
            may_resubmit=self.idempotent or self.on_lost_submit == "resubmit",
            max_response_bytes=self.max_response_bytes,
        )
        call = RemoteCall(service, manner)
        return NodeCall(
            call=call,
            waits=True,
            queues=True,
            sends_call_key=True,
            wants_context=True,
            keeps_timeout=True,
            identity=json.dumps([None if part is None else asdict(part) for part in _each(parts)], sort_keys=True, default=str),
            lifespan=call.lifespan,
        )

    def _parts(self, compiler: NodeCompiler) -> _Parts | None:
        """The parts of the preset with those of the job over them; null when they are not all there."""
        if self.preset is not None and self.preset not in preset_names():
            compiler.problem(f"unknown preset {self.preset!r}; {known_values(self.preset, preset_names(), kind='presets')}", "preset")
            return None
        known = preset(self.preset) if self.preset is not None else {}
        base = known.get("submit")
        if self.version is not None and "submit_of_version" in known:
            base = over(base, known["submit_of_version"])
        submit, status, result = over(base, self.submit), over(known.get("status"), self.status), over(known.get("result"), self.result)
        for name, part, field in (("submit", submit, "run_id"), ("status", status, "state")):
            if part is None:
                compiler.problem("is missing: spell it out, or name a preset", name)
            elif getattr(part, field) is None:
                compiler.problem("is missing: its path in the answer", name, field)
        if not isinstance(submit, Submit) or not isinstance(status, Status) or submit.run_id is None or status.state is None:
            return None
        _check_states(status, compiler)
        if self.timeout_seconds is not None and self.cancel is None and "cancel" not in known:
            compiler.problem("is missing: the request that ends a run after timeout_seconds", "cancel")
        cancel = over(known.get("cancel"), self.cancel)
        events = over(known.get("events"), self.events) if self.events is not None else None
        return _Parts(
            submit=submit,
            status=status,
            result=result if isinstance(result, Result) else Result(),
            cancel=cancel if isinstance(cancel, Cancel) else None,
            events=events if isinstance(events, Events) else None,
        )

    def _given(self, compiler: NodeCompiler) -> Given:
        """What the placeholders stand for."""
        said = "{{ input }}" if self.payload is None else self.payload
        if compiler.input_names or is_file(said):
            payload = compiler.template(said, "payload") if self.payload is not None else _inputs
        else:  # what is sent is recorded as the node's input
            compiler.default_inputs({"payload": said}, at=())
            payload = _payload
        values: dict[str, Render | None] = {"payload": payload, RUN_ID: None}
        for name in ("workflow", "version", "api_key"):
            value = getattr(self, name)
            values[name] = compiler.template(value, name) if value is not None else None
        slashed = frozenset({"workflow"} if self.workflow is not None and not is_template(self.workflow) else ())
        return Given(values=values, slashed=slashed, used=set())

    def _check_given(self, given: Given, compiler: NodeCompiler) -> None:
        if "workflow" in given.used and self.workflow is None:
            compiler.problem("is missing: what the service is to run", "workflow")
        for name in ("workflow", "version", "api_key", "payload"):
            if getattr(self, name) is not None and name not in given.used:
                compiler.problem(f"is sent nowhere: put {{{name}}} into a request, or leave it out", name)


def _service(parts: _Parts, given: Given, compiler: NodeCompiler, resource: Resource | None) -> Service | None:
    """The requests, compiled; null when problems were reported."""
    submit = compile_request(parts.submit, given, compiler, "submit")
    status = compile_request(parts.status, given, compiler, "status")
    has_result = parts.result.path is not None
    result = compile_request(parts.result, given, compiler, "result") if has_result else None
    cancel = compile_request(parts.cancel, given, compiler, "cancel") if parts.cancel is not None else None
    events = compile_request(parts.events, given, compiler, "events", accept="text/event-stream") if parts.events is not None else None
    if submit is None or status is None or (has_result and result is None) or resource is None:
        return None
    return Service(
        resource=resource,
        submit=submit,
        run_id=steps_of(parts.submit.run_id or "") or (),
        status=status,
        states=states_of(parts.status),
        result=result,
        output=steps_of(parts.result.output or "") or (),
        cancel=cancel,
        events=events,
        event_state=steps_of(parts.events.state) if parts.events is not None and parts.events.state is not None else None,
    )


def _check_states(status: Status, compiler: NodeCompiler) -> None:
    if not status.completed:
        compiler.problem("is missing: the states of runs that have ended well", "status", "completed")
    seen: dict[Any, str] = {}
    for meaning in NAMED:
        for index, state in enumerate(getattr(status, meaning) or ()):
            if (before := seen.setdefault((type(state), state), meaning)) != meaning:
                compiler.problem(f"{state!r} is in the list of {before}, too; a state means one thing", "status", meaning, index)


def _inputs(scope: Scope) -> Any:
    return scope.inputs


def _payload(scope: Scope) -> Any:
    return scope.inputs["payload"]


def _each(parts: _Parts) -> list[RemoteRequest | None]:
    return [getattr(parts, each.name) for each in fields(parts)]
