"""The `http` node: bound by the real compiler, calling a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Literal

import anyio
import anyio.to_thread
import pytest

from batchrun.core.checks import InvalidFields
from batchrun.core.errors import AddressRefused, HttpStatusError, InvalidValue, JobError, NodeError, ResponseError, TransportError
from batchrun.core.job import NodeOptions, Resource, Workflow
from batchrun.nodes.http import HttpNode, HttpRequest
from batchrun.testing.loopback import Answer, LoopbackServer, json_answer
from batchrun.workflows.compiler import Surroundings, compile_workflow
from batchrun.workflows.plan import Plan
from batchrun.workflows.scope import Scope


def planned(*nodes: NodeOptions, **resources: Resource) -> Plan:
    columns = ("id", "text", "score", "none")
    return compile_workflow(Workflow(nodes=nodes), Surroundings(columns=columns, vars={"tag": "t"}, resources=resources))


@asynccontextmanager
async def opened(plan: Plan) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for lifespan in plan.lifespans:
            await stack.enter_async_context(lifespan())
        yield


async def call(node: HttpNode, server: LoopbackServer, **item: Any) -> Any:
    """The node's output for one item, called as the engine would."""
    plan = planned(node, api=Resource(base_url=server.url + "/v1", headers={"X-Team": "a", "Accept": "text/x"}))
    scope = Scope(item, [None])
    step = plan.steps[0]
    async with opened(plan):
        scope.inputs = step.inputs(scope)
        scope.call_key = "key-1" if step.sends_call_key else None
        return await step.call(scope)


def api_node(request: HttpRequest, **options: Any) -> HttpNode:
    return HttpNode(id="call", resource="api", request=request, **options)


async def test_a_request_is_made_from_the_item_and_its_answer_is_the_output() -> None:
    """What stands in the job file is what the service gets, headers of the resource included."""
    request = HttpRequest(
        path="/items/{{ item.id }}/air",
        query={"score": "{{ item.score }}", "none": "{{ item.none }}", "tags": ["a&b", "{{ vars.tag }}"], "flag": True},
        headers={"X-Text": "<{{ item.text }}>", "X-None": "{{ item.none }}", "x-team": "{{ item.text }}"},
    )
    with LoopbackServer({"/v1/items/a%2Fb/air": json_answer({"big": 2**80, "list": [1.5, None]})}) as server:
        output = await call(api_node(request), server, id="a/b", score=7, none=None, text="ü")
    assert output == {"big": 2**80, "list": [1.5, None]}
    sent = server.requests[0]
    assert (sent.method, sent.path) == ("GET", "/v1/items/a%2Fb/air?score=7&tags=a%26b&tags=t&flag=true")
    assert sent.headers["x-text"].encode("latin-1").decode() == "<ü>"
    assert sent.headers["x-team"].encode("latin-1").decode() == "ü"
    assert sent.headers["accept"] == "text/x"
    assert "x-none" not in sent.headers
    assert "idempotency-key" not in sent.headers


@pytest.mark.parametrize(
    ("request_", "content_type", "body"),
    [
        (HttpRequest(json={"t": "{{ item.text }}", "n": "{{ item.score }}"}), "application/json", b'{"t":"\xc3\xbc &","n":7}'),
        (HttpRequest(json="{{ item.none }}"), "application/json", b"null"),
        (HttpRequest(text="{{ item.text }}: {{ item.score }}"), "text/plain; charset=utf-8", "ü &: 7".encode()),
        (HttpRequest(form={"t": "{{ item.text }}", "n": "{{ item.none }}"}), "application/x-www-form-urlencoded", b"t=%C3%BC+%26"),
        (HttpRequest(json=0, headers={"Content-Type": "application/x"}), "application/x", b"0"),
    ],
    ids=["json", "json null", "text", "form", "own type"],
)
async def test_bodies_carry_their_type_and_the_call_key(request_: HttpRequest, content_type: str, body: bytes) -> None:
    """A service reads a body by its type, and recognises a repeated call by its key."""
    request = HttpRequest(method="post", path="/", json=request_.json, text=request_.text, form=request_.form, headers=request_.headers)
    with LoopbackServer({"/v1/": Answer(status=204)}) as server:
        assert await call(api_node(request), server, text="ü &", score=7, none=None) is None
    sent = server.requests[0]
    assert (sent.method, sent.headers["content-type"], sent.body) == ("POST", content_type, body)
    assert sent.headers["idempotency-key"] == "key-1"


async def test_the_job_can_set_the_key_itself() -> None:
    """Some services want an order number as their key."""
    request = HttpRequest(method="POST", path="/", headers={"idempotency-KEY": "order {{ item.id }}"})
    with LoopbackServer({"/v1/": Answer()}) as server:
        await call(api_node(request), server, id=5)
    assert server.requests[0].headers["idempotency-key"] == "order 5"


@pytest.mark.parametrize(
    ("read_as", "content_type", "body", "output"),
    [
        ("json", "text/html", b'{"a": 1}', {"a": 1}),
        ("json", "application/json", b"", None),
        ("json", "application/json", b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        ("json", "application/json", b'"\\ud83d"', "\ud83d"),
        ("text", "text/plain", "ü".encode(), "ü"),
        ("text", 'text/plain; Charset="latin-1"', b"\xfc", "ü"),
        ("text", "text/plain", b"", ""),
    ],
)
async def test_answers_are_read_as_the_job_says(read_as: Literal["json", "text"], content_type: str, body: bytes, output: Any) -> None:
    """Services are careless about types, marks and surrogates; what can be read without guessing is read."""
    with LoopbackServer({"/v1/": Answer(headers={"Content-Type": content_type}, body=body)}) as server:
        assert await call(api_node(HttpRequest(path="/"), response=read_as), server) == output


@pytest.mark.parametrize(
    ("read_as", "content_type", "body", "message"),
    [
        ("json", "text/html", b"<h1>\nBusy", r"GET http://.*/v1/ answered 200 with a body that is not JSON \(text/html\): <h1>\\nBusy"),
        ("json", "application/json", b"[" * 100_000, "not JSON"),
        ("text", "text/plain", b"\xfc", "not utf-8 text"),
        ("text", "text/plain; charset=klingon", b"x", "not klingon text"),
        ("text", "text/plain; charset=hex", b"00", "not hex text"),
    ],
)
async def test_answers_that_cannot_be_read_fail_the_item(
    read_as: Literal["json", "text"], content_type: str, body: bytes, message: str
) -> None:
    """A login page in place of the answer must be seen in the result, not parsed into it."""
    answer = Answer(headers={"Content-Type": content_type}, body=body)
    with LoopbackServer({"/v1/": answer}) as server, pytest.raises(ResponseError, match=message):
        await call(api_node(HttpRequest(path="/"), response=read_as), server)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (HttpRequest(path="/{{ item.text }}"), AddressRefused),
        (HttpRequest(path="/{{ item.none }}"), InvalidValue),
        (HttpRequest(path="/", headers={"X": "a\n{{ item.id }}"}), InvalidValue),
        (HttpRequest(path="/", query={"x": {"y": 1}}), InvalidValue),
        (HttpRequest(method="PUT", path="/", json={"a": ["{{ item.score }}"]}), InvalidValue),
        (HttpRequest(method="PUT", path="/", text="{{ item.none }}"), InvalidValue),
    ],
)
async def test_items_that_make_no_good_request_send_none(request_: HttpRequest, expected: type[NodeError]) -> None:
    """Whatever a row holds fails that row only, before anything was sent."""
    with LoopbackServer({}) as server, pytest.raises(expected) as raised:
        await call(api_node(request_), server, id=1, text="..", none=None, score=float("nan"))
    assert raised.value.retryable is False
    assert server.requests == []


@pytest.mark.parametrize(
    ("method", "idempotent", "ambiguous"),
    [
        ("GET", None, False),
        ("DELETE", None, False),
        ("POST", None, True),
        ("PATCH", None, True),
        ("POST", True, False),
        ("PUT", False, True),
    ],
)
async def test_the_method_says_what_may_be_sent_twice_unless_the_job_does(method: str, *, idempotent: bool | None, ambiguous: bool) -> None:
    """Only the author of a job knows whether a service minds."""
    with LoopbackServer({"/v1/": Answer(raw=b"")}) as server, pytest.raises(TransportError) as raised:
        await call(api_node(HttpRequest(method=method, path="/"), idempotent=idempotent), server)
    assert raised.value.ambiguous is ambiguous


async def test_a_url_needs_no_resource() -> None:
    """One address called once is not worth a name."""
    with LoopbackServer({"/x/1": json_answer("found"), "/x/2": Answer(status=410)}) as server:
        node = HttpNode(id="call", request=HttpRequest(url=server.url + "/x/{{ item.id }}?a=b", query={"c": "d"}))
        assert await call(node, server, id=1) == "found"
        with pytest.raises(HttpStatusError, match="answered 410"):
            await call(node, server, id=2)
    assert server.requests[0].path == "/x/1?a=b&c=d"


async def test_nodes_with_the_same_resource_share_its_limit() -> None:
    """The limit is a promise to the service; it does not know nodes."""
    with LoopbackServer(lambda _received: json_answer(1, held=True)) as server:
        nodes = [HttpNode(id=id, resource="api", request=HttpRequest(path="/")) for id in ("a", "b")]
        plan = planned(*nodes, api=Resource(base_url=server.url, max_concurrency=2))
        async with opened(plan), anyio.create_task_group() as tasks:
            for step in plan.steps * 3:
                tasks.start_soon(step.call, Scope({}, [None, None]))
            for done in range(6):
                await anyio.to_thread.run_sync(server.wait_until, lambda server, n=done: len(server.requests) == min(n + 2, 6))
                server.release(1)
    assert server.most_in_flight == 2


@pytest.mark.parametrize(
    ("node", "problems"),
    [
        (HttpNode(id="a", request=HttpRequest()), {"request": "either path"}),
        (HttpNode(id="a", request=HttpRequest(path="/", url="http://h/")), {"request": "either path"}),
        (HttpNode(id="a", request=HttpRequest(path="/")), {"request.path": "name one under resource"}),
        (HttpNode(id="a", resource="ap", request=HttpRequest(path="/")), {"resource": 'did you mean "api"?'}),
        (HttpNode(id="a", resource="api", request=HttpRequest(url="http://h/")), {"request.url": "give path"}),
        (HttpNode(id="a", resource="ftp", request=HttpRequest(path="/")), {"resource": "base_url of 'ftp' must be http://host"}),
        (HttpNode(id="a", resource="bare", request=HttpRequest(path="/")), {"resource": "base_url of 'bare' is missing; give it"}),
        (HttpNode(id="a", resource="query", request=HttpRequest(path="/")), {"resource": "put a query under request.query"}),
        (HttpNode(id="a", request=HttpRequest(url="http://{{ item.id }}/")), {"request.url": "the host must be literal"}),
        (
            HttpNode(id="a", resource="api", request=HttpRequest(method="PSOT", path="/{{ item.di }}", json=1, text="x")),
            {
                "request.method": 'did you mean "POST"?',
                "request.path": 'unknown column "di"',
                "request": "at most one body, has json and text",
            },
        ),
        (
            HttpNode(
                id="a", request=HttpRequest(headers={"X Y": "1", "content-length": "2", "A": "{{ item.z }}"}, query={"b": "{{ item.y }}"})
            ),
            {
                "request": "either path",
                "request.headers.X Y": "not a header name",
                "request.headers.content-length": "follows from the body",
                "request.headers.A": "unknown column",
                "request.query.b": "unknown column",
            },
        ),
    ],
)
def test_mistakes_are_found_before_the_first_item_all_at_once(node: HttpNode, problems: dict[str, str]) -> None:
    """A job with three mistakes takes one round to put right, and each is told where it stands."""
    with pytest.raises(JobError) as refused:
        planned(
            node,
            api=Resource(base_url="http://127.0.0.1"),
            ftp=Resource(base_url="ftp://127.0.0.1"),
            bare=Resource(max_concurrency=3),
            query=Resource(base_url="http://127.0.0.1/?key=1"),
        )
    found = {".".join(map(str, problem.path[3:])): problem.message for problem in refused.value.problems}
    assert found.keys() == problems.keys()
    for path, message in problems.items():
        assert message in found[path]


def test_options_are_checked_where_they_stand() -> None:
    """The checks all nodes have apply to this one too."""
    with pytest.raises(InvalidFields, match="max_response_bytes: must be ≥ 1, got 0"):
        HttpNode(id="a", request=HttpRequest(), max_response_bytes=0)
    with pytest.raises(InvalidFields, match="timeout_seconds"):
        HttpNode(id="a", request=HttpRequest(), timeout_seconds=0)
