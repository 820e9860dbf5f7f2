"""The `remote` node as it is bound: what it sends, what it refuses, and what presets are made of."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from batchrun.core.checks import InvalidFields
from batchrun.core.errors import AddressRefused, JobError
from batchrun.core.files import File
from batchrun.core.job import Resource, Workflow
from batchrun.net.client import HttpClient
from batchrun.nodes.remote import RemoteNode
from batchrun.nodes.remote_parts import Cancel, Poll, Result, Status, Submit
from batchrun.nodes.remote_presets import over, preset, preset_names
from batchrun.nodes.remote_requests import CompiledRequest
from batchrun.nodes.remote_states import states_of
from batchrun.workflows.compiler import Surroundings, compile_workflow
from batchrun.workflows.plan import Plan
from batchrun.workflows.scope import Scope

SPELLED: dict[str, Any] = {
    "submit": Submit(method="POST", path="/runs/{workflow}", json={"data": "{payload}", "v": "{version}", "n": None}, run_id="run.id"),
    "status": Status(path="/runs/{run_id}", state="state", completed=("ok",)),
}


def planned(node: RemoteNode) -> Plan:
    resources = {"up": Resource(base_url="http://127.0.0.1:1/base"), "bare": Resource()}
    surroundings = Surroundings(columns=("id", "text", "file"), vars={"w": "a b"}, secrets={"KEY": "s3cret"}, resources=resources)
    return compile_workflow(Workflow(nodes=(node,)), surroundings)


def request(node: RemoteNode, name: str, run_id: str | None = None, **item: Any) -> httpx.Request:
    """One of the requests of a node for an item."""
    step = planned(node).steps[0]
    scope = Scope(item, [None])
    scope.inputs = step.inputs(scope)
    part: CompiledRequest = getattr(step.call.service, name)  # type: ignore[attr-defined]
    return part.build(HttpClient(httpx.MockTransport(lambda _request: httpx.Response(200))), scope, run_id, {})


def remote(**options: Any) -> RemoteNode:
    return RemoteNode(**{"id": "go", "resource": "up", "workflow": "w", **options})


def problems(**options: Any) -> list[str]:
    with pytest.raises(JobError) as refused:
        planned(remote(**options))
    return [str(problem) for problem in refused.value.problems]


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_has_all_its_parts(name: str) -> None:
    """Each can submit, ask and cancel, and no state means two things."""
    parts = preset(name)
    assert {"submit", "status", "result", "cancel"} <= parts.keys()
    status = parts["status"]
    assert isinstance(status, Status)
    assert {"completed", "failed", "cancelled"} <= set(states_of(status).meanings.values())
    planned(remote(preset=name, version=3, api_key="{{ secrets.KEY }}", timeout_seconds=5))


def test_placeholders_and_templates_fill_a_request() -> None:
    """What is given keeps its type; fields whose placeholder stands for nothing are left out, others stay."""
    sent = request(remote(**SPELLED, payload={"t": "{{ item.text }}"}), "submit", text=[1, {"a": None}])
    assert (sent.method, str(sent.url)) == ("POST", "/runs/w")
    assert json.loads(sent.read()) == {"data": {"t": [1, {"a": None}]}, "n": None}
    pinned = request(remote(**SPELLED, payload="{{ item.text }}", version="{{ vars.w }}"), "submit", text="x")
    assert json.loads(pinned.read()) == {"data": "x", "v": "a b", "n": None}


def test_without_a_payload_the_inputs_are_sent_else_the_item() -> None:
    """The shortest job does what is meant."""
    named = request(remote(**SPELLED, inputs={"text": "{{ item.text }}"}), "submit", text="x")
    assert json.loads(named.read())["data"] == {"text": "x"}
    whole = request(remote(**SPELLED), "submit", id=1, text="x", file=None)
    assert json.loads(whole.read())["data"] == {"id": 1, "text": "x", "file": None}


def test_item_data_is_never_read_as_a_placeholder() -> None:
    """A row that says {api_key} gets the key of nobody, neither in the body nor in the address."""
    submit = Submit(
        method="POST", path="/{{ item.text }}/{workflow}", json={"a": "{{ item.text }}"}, headers={"X": "{api_key}"}, run_id="id"
    )
    sent = request(
        remote(submit=submit, status=SPELLED["status"], api_key="{{ secrets.KEY }}"), "submit", id=1, text="{api_key}{workflow}", file=0
    )
    assert sent.url.raw_path == b"/%7Bapi_key%7D%7Bworkflow%7D/w"
    assert json.loads(sent.read()) == {"a": "{api_key}{workflow}"}
    assert sent.headers["x"] == "s3cret"


@pytest.mark.parametrize("run_id", ["..", ".", ""])
def test_an_id_that_leads_elsewhere_is_refused(run_id: str) -> None:
    """A service, too, must not choose which address is called."""
    with pytest.raises(AddressRefused, match="run_id"):
        request(remote(**SPELLED), "status", run_id, id=1, text="x", file=None)
    assert str(request(remote(**SPELLED), "status", "a/../b?c", id=1, text="x", file=0).url) == "/runs/a%2F..%2Fb%3Fc"


def test_a_workflow_of_the_job_may_have_segments_and_one_of_an_item_not() -> None:
    """`namespace/name` is what a Flux server calls a workflow; item data stays within its segment."""
    flux = {"preset": "flux", "payload": 1}
    assert str(request(remote(**flux, workflow="shop/triage"), "submit").url) == "/workflows/shop/triage/run/async"
    assert str(request(remote(**flux, workflow="{{ item.text }}"), "submit", text="a/b").url) == "/workflows/a%2Fb/run/async"


def test_a_version_takes_its_own_path_where_a_preset_has_one() -> None:
    """SeeMe pins versions in the path; what is no text is sent as JSON text there."""
    sent = request(remote(preset="seeme", version=4, payload={"t": "{{ item.text }}"}), "submit", text="ü")
    assert str(sent.url) == "/workflows/w/versions/4/execute"
    assert json.loads(sent.read()) == {"input_mode": "single", "single_input": '{"t":"ü"}'}
    plain = request(remote(preset="seeme", payload="{{ item.text }}"), "submit", text="ü")
    assert (str(plain.url), json.loads(plain.read())["single_input"]) == ("/workflows/w/execute", "ü")


def test_files_are_sent_as_files_or_as_data() -> None:
    """A file is put into a form, or into the payload as a data URI."""
    file = File(name="a.txt", media_type="text/plain", content=b"hello")
    form = Submit(multipart={"file": "{{ inputs.doc }}"}, path="/up")
    node = remote(preset="seeme", submit=form, inputs={"doc": "{{ item.file }}"})
    sent = request(node, "submit", file=file)
    assert b'filename="a.txt"\r\nContent-Type: text/plain\r\n\r\nhello' in sent.read()
    uri = remote(preset="noxus", inputs={"doc": "{{ item.file }}"}, payload={"doc": {"uri": "{{ inputs.doc.data_uri() }}"}})
    assert json.loads(request(uri, "submit", file=file).read()) == {"input": {"doc": {"uri": "data:text/plain;base64,aGVsbG8="}}}


def test_the_job_goes_before_the_preset() -> None:
    """One field is changed without spelling out the rest; headers are joined whatever their case, bodies are not."""
    base = Submit(path="/a", headers={"X-Key": "1", "Accept": "b"}, json={"a": 1}, run_id="id")
    assert over(base, Submit(headers={"x-key": "2"})) == Submit(
        path="/a", headers={"Accept": "b", "x-key": "2"}, json={"a": 1}, run_id="id"
    )
    assert over(base, Submit(text="t")) == Submit(path="/a", headers={"X-Key": "1", "Accept": "b"}, text="t", run_id="id")
    assert over(base, None) == base
    assert over(None, base) == base


def test_all_mistakes_are_told_at_once() -> None:
    """Each with the place it is in and what would do."""
    assert problems(preset="noxsus", resource="upp") == [
        'workflow.nodes[0].resource: unknown resource "upp"; did you mean "up"?',
        "workflow.nodes[0].preset: unknown preset 'noxsus'; did you mean \"noxus\"?",
    ]
    missing = "give it, such as base_url: https://api.example.com: only python nodes can do without one"
    assert problems(preset="noxus", resource="bare") == [f"workflow.nodes[0].resource: base_url of 'bare' is missing; {missing}"]
    status = Status(path="/{runid}", state="s", completed=("a", "b"), failed=("b",), method="PUST")
    assert problems(status=status, submit=Submit(json=1, text="a", path="/{{ item.idd }}", run_id="id"), version=1, timeout_seconds=1) == [
        "workflow.nodes[0].status.failed[0]: 'b' is in the list of completed, too; a state means one thing",
        "workflow.nodes[0].cancel: is missing: the request that ends a run after timeout_seconds",
        "workflow.nodes[0].submit: must have at most one body, has json and text",
        'workflow.nodes[0].submit.path: unknown column "idd"; did you mean "id"?',
        "workflow.nodes[0].status.method: unknown method 'PUST'; did you mean \"PUT\"?",
        'workflow.nodes[0].status.path: {runid} stands for nothing; did you mean "run_id"?',
        "workflow.nodes[0].workflow: is sent nowhere: put {workflow} into a request, or leave it out",
        "workflow.nodes[0].version: is sent nowhere: put {version} into a request, or leave it out",
    ]
    assert problems() == [
        "workflow.nodes[0].submit: is missing: spell it out, or name a preset",
        "workflow.nodes[0].status: is missing: spell it out, or name a preset",
    ]
    assert problems(preset="noxus", workflow=None, payload={"a": "{{ item.idd }}"}) == [
        "workflow.nodes[0].workflow: is missing: what the service is to run",
        'workflow.nodes[0].payload.a: unknown column "idd"; did you mean "id"?',
    ]
    assert problems(**{**SPELLED, "status": Status(path="/x", state="s")}) == [
        "workflow.nodes[0].status.completed: is missing: the states of runs that have ended well"
    ]


def test_options_that_make_no_sense_are_refused() -> None:
    """Each is told by its field."""
    for make in (
        lambda: Poll(initial_seconds=0),
        lambda: Poll(initial_seconds=2, max_seconds=1),
        lambda: Poll(multiplier=0.5),
        lambda: Result(output="a..b"),
        lambda: Status(error="["),
        lambda: Submit(run_id=""),
        lambda: remote(max_response_bytes=0),
    ):
        with pytest.raises(InvalidFields):
            make()


def test_what_decides_the_output_counts_for_a_resume_and_patience_does_not() -> None:
    """A resume may poll more slowly; it must not take runs of one workflow for those of another."""

    def fingerprint(**options: Any) -> str:
        return planned(remote(**{"preset": "noxus", **options})).fingerprint

    assert fingerprint(poll=Poll(max_seconds=99), timeout_seconds=9, on_lost_submit="resubmit") == fingerprint()
    others = [{"workflow": "other"}, {"version": 2}, {"preset": "eigenpal"}, {"cancel": Cancel(method="DELETE")}]
    assert fingerprint() not in [fingerprint(**other) for other in others]
