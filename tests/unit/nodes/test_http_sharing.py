"""When two requests are the same, and which ones need not be sent for each item."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest

from batchrun.core.errors import JobError, NodeError
from batchrun.core.job import Resource, Workflow
from batchrun.nodes.http import HttpNode, HttpRequest
from batchrun.workflows.compiler import Surroundings, compile_workflow
from batchrun.workflows.scope import Scope

API = Resource(base_url="http://127.0.0.1:9", headers={"x-team": "a"})


async def key(request: HttpRequest, resource: Resource = API, item: dict[str, Any] | None = None, call_key: str = "one") -> Any:
    """What identifies the request of an item."""
    node = HttpNode(id="call", resource="api", request=request, idempotent=True, cache=True)
    plan = compile_workflow(Workflow(nodes=(node,)), Surroundings(columns=("id", "text"), resources={"api": resource}))
    scope = Scope({"id": 1, "text": "a", **(item or {})}, [None])
    step = plan.steps[0]
    async with AsyncExitStack() as stack:
        for lifespan in plan.lifespans:
            await stack.enter_async_context(lifespan())
        scope.inputs, scope.call_key = step.inputs(scope), call_key
        assert step.key is not None
        return step.key(scope)


REQUEST = HttpRequest(
    method="POST",
    path="/items/{{ item.id }}",
    query={"q": "{{ item.text }}"},
    headers={"x-text": "{{ item.text }}"},
    json=["{{ item.text }}"],
)


async def test_the_call_key_is_no_part_of_a_request() -> None:
    """Each item has one of its own, and gets the same answer."""
    assert await key(REQUEST) == await key(REQUEST, call_key="two")


@pytest.mark.parametrize(
    ("request_", "resource", "item"),
    [
        (REQUEST, API, {"id": 2}),
        (REQUEST, API, {"text": "b"}),
        (HttpRequest(method="PUT", path="/items/1", query={"q": "a"}, headers={"x-text": "a"}, json=["a"]), API, {}),
        (HttpRequest(method="POST", path="/items/1", query={"q": "a"}, headers={"x-text": "a"}, json=["b"]), API, {}),
        (HttpRequest(method="POST", path="/items/1", query={"q": "a"}, headers={"x-text": "b"}, json=["a"]), API, {}),
        (HttpRequest(method="POST", path="/items/1", query={"q": "b"}, headers={"x-text": "a"}, json=["a"]), API, {}),
        (HttpRequest(method="POST", path="/items/1", query={"q": "a"}, headers={"x-text": "a"}, text='["a"]'), API, {}),
        (REQUEST, Resource(base_url="http://127.0.0.1:9/v2", headers={"x-team": "a"}), {}),
        (REQUEST, Resource(base_url="http://localhost:9", headers={"x-team": "a"}), {}),
        (REQUEST, Resource(base_url="http://127.0.0.1:9", headers={"x-team": "b"}), {}),
        (REQUEST, Resource(base_url="http://127.0.0.1:9"), {}),
    ],
)
async def test_all_that_is_sent_counts(request_: HttpRequest, resource: Resource, item: dict[str, Any]) -> None:
    """A request that differs in anything a service can see is another one, wherever the difference comes from."""
    assert await key(request_, resource, item) != await key(REQUEST)


async def test_where_it_is_written_does_not_count() -> None:
    """The same request is the same, whether a part of it is literal or comes from the item, and however many may be sent at a time."""
    literal = HttpRequest(method="post", path="/items/1", query={"q": "a"}, headers={"X-Text": "a"}, json=["a"])
    limited = Resource(base_url="http://127.0.0.1:9/", headers={"X-Team": "a"}, max_concurrency=1)
    assert await key(literal, limited) == await key(REQUEST)


async def test_a_key_that_the_job_chose_counts() -> None:
    """Two orders with keys of their own are two orders."""
    request = HttpRequest(method="POST", path="/", headers={"idempotency-key": "order {{ item.id }}"})
    assert await key(request) != await key(request, item={"id": 2})


async def test_a_request_that_cannot_be_made_has_no_key() -> None:
    """The call tells why, as it would without the cache."""
    with pytest.raises(NodeError):
        await key(HttpRequest(path="/{{ item.id }}"), item={"id": None})


@pytest.mark.parametrize("wish", ["cache", "dedupe"])
@pytest.mark.parametrize(
    ("method", "idempotent", "is_allowed"),
    [
        *(("GET", None, True), ("get", None, True), ("HEAD", None, True), ("GET", False, False)),
        *(("POST", None, False), ("POST", True, True), ("PUT", None, False), ("DELETE", None, False), ("DELETE", True, True)),
    ],
)
def test_requests_that_change_something_are_sent_for_each_item(wish: str, method: str, idempotent: bool | None, is_allowed: bool) -> None:
    """No order, deletion or upload is ever left out, unless the job says that one of them is as good as many."""
    node = HttpNode(id="call", resource="api", request=HttpRequest(method=method, path="/"), idempotent=idempotent, **{wish: True})
    surroundings = Surroundings(columns=(), resources={"api": API})
    if is_allowed:
        assert compile_workflow(Workflow(nodes=(node,)), surroundings).steps[0].key is not None
    else:
        with pytest.raises(JobError) as refused:
            compile_workflow(Workflow(nodes=(node,)), surroundings)
        assert [(problem.path[-1], problem.message.partition(":")[0]) for problem in refused.value.problems] == [
            (wish, f"a {method.upper()} request may do something each time it is sent, and fewer would be sent")
        ]
