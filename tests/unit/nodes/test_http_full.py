"""The `http` node beyond one JSON request: bodies, answers, conditions, pages, credentials and hosts from item data."""

from __future__ import annotations

import base64
import email
import gzip
import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from batchrun.core.auth import Auth, Basic, OAuth2
from batchrun.core.checks import InvalidFields
from batchrun.core.errors import AddressRefused, InvalidValue, JobError, ResponseError, Unsuccessful
from batchrun.core.files import File
from batchrun.core.job import Resource
from batchrun.net.pages import Pages
from batchrun.nodes.http import HttpNode, HttpRequest
from batchrun.testing.loopback import Answer, LoopbackServer, Received, json_answer
from batchrun.workflows.scope import Scope
from tests.unit.nodes.test_http_node import api_node, call, opened, planned

PDF = File(name='a"b.pdf', media_type="application/pdf", content=b"%PDF\r\n--x")


async def call_plain(node: HttpNode, item: dict[str, Any], **resources: Resource) -> Any:
    """The output of a node that may have no resource."""
    plan = planned(node, **resources)
    step = plan.steps[0]
    async with opened(plan):
        scope = Scope(item, [None])
        scope.inputs = step.inputs(scope)
        return await step.call(scope)


async def sent(request: HttpRequest, **item: Any) -> Received:
    with LoopbackServer(lambda _request: Answer(body=b"{}")) as server:
        await call(api_node(request), server, **item)
        return server.requests[0]


@pytest.mark.parametrize(
    ("value", "body", "media_type"),
    [
        (b"\0\xff", b"\0\xff", "application/octet-stream"),
        ("ü", b"\xc3\xbc", "application/octet-stream"),
        (PDF, PDF.content, "application/pdf"),
        ({"name": "a", "media_type": "text/x", "content": b"c", "size_bytes": 1}, b"c", "text/x"),
        (None, b"", "application/octet-stream"),
    ],
    ids=["bytes", "text", "file", "output of a file node", "null"],
)
async def test_a_body_is_sent_as_it_is(value: Any, body: bytes, media_type: str) -> None:
    """Files go to a service byte by byte, with the type they have."""
    received = await sent(HttpRequest(method="POST", path="/", bytes="{{ item.text }}"), text=value)
    assert (received.body, received.headers["content-type"]) == (body, media_type)


async def test_a_number_is_no_raw_body() -> None:
    """What is not bytes must be written down somehow, and only the job can say how."""
    with pytest.raises(InvalidValue, match="bytes must be bytes, text or a file, got int"):
        await sent(HttpRequest(method="POST", path="/", bytes="{{ item.text }}"), text=1)


async def test_a_form_with_files_is_what_servers_read() -> None:
    """The standard library's own parser finds every part as it was, whatever is in it."""
    values = {"title": "{{ item.text }}", "none": "{{ item.none }}", "n": 1.5, "tags": ["a", "b"], "doc": "{{ item.score }}"}
    received = await sent(HttpRequest(method="POST", path="/", multipart=values), text="ü\r\n--", none=None, score=[PDF, b"raw"])
    head = f"Content-Type: {received.headers['content-type']}\r\n\r\n".encode()
    parts: Any = email.message_from_bytes(head + received.body).get_payload()
    found = [(part.get_param("name", header="content-disposition"), part.get_filename(), part.get_content_type()) for part in parts]
    contents = [part.get_payload(decode=True) for part in parts]
    assert found == [
        ("title", None, "text/plain"),
        ("n", None, "text/plain"),
        ("tags", None, "text/plain"),
        ("tags", None, "text/plain"),
        ("doc", "a%22b.pdf", "application/pdf"),
        ("doc", "doc", "application/octet-stream"),
    ]
    assert contents == ["ü\r\n--".encode(), b"1.5", b"a", b"b", PDF.content, b"raw"]


async def test_an_answer_may_be_bytes() -> None:
    """Pictures and archives are no text; what is kept between runs comes back as the same bytes."""
    with LoopbackServer({"/v1/x": Answer(body=b"\x89PNG\0")}) as server:
        node = api_node(HttpRequest(path="/x"), response="bytes")
        assert await call(node, server) == b"\x89PNG\0"
        step = planned(node, api=Resource(base_url=server.url)).steps[0]
    assert step.restore(base64.b64encode(b"\x89PNG\0").decode()) == b"\x89PNG\0"


@pytest.mark.parametrize(
    ("path", "expected"), [("data.items[0].id", 7), ("data['a b']", None), ("data.items[-1]", {"id": 8})], ids=["dotted", "quoted", "last"]
)
async def test_a_part_of_the_answer_is_the_output(path: str, expected: Any) -> None:
    """What is recorded and handed on is what the job needs, not the wrapping."""
    answer = json_answer({"data": {"items": [{"id": 7}, {"id": 8}], "a b": None}})
    with LoopbackServer({"/v1/x": answer}) as server:
        assert await call(api_node(HttpRequest(path="/x"), extract=path), server) == expected


async def test_a_part_that_is_not_there_is_told() -> None:
    """The path and what is there instead lead to the mistake."""
    node = api_node(HttpRequest(path="/x"), extract="data.items[0]")
    message = re.escape('the answer.data has no field "items"; did you mean')
    with LoopbackServer({"/v1/x": json_answer({"data": {"item": 1}})}) as server, pytest.raises(ResponseError, match=message):
        await call(node, server)


@pytest.mark.parametrize(
    ("answer", "is_success"),
    [({"status": "ok", "n": 1}, True), ({"status": "error"}, False), ({}, False), ([], False), (None, False)],
    ids=["success", "failure", "missing", "list", "null"],
)
async def test_the_job_says_what_a_success_is(answer: Any, is_success: bool) -> None:
    """Many services answer 200 and say in the body that they failed."""
    node = api_node(HttpRequest(path="/x"), success="{{ response.status == 'ok' and status == 200 }}")
    with LoopbackServer({"/v1/x": json_answer(answer)}) as server:
        if is_success:
            assert await call(node, server) == answer
        else:
            with pytest.raises(Unsuccessful, match="answered 200, which is no success") as caught:
                await call(node, server)
            assert json.loads(caught.value.response_body or b"") == answer


def list_server(total: int, size: int) -> Any:
    """A service with a list in pages of every kind."""

    def answer(request: Received) -> Answer:
        query = {name: values[0] for name, values in parse_qs(urlsplit(request.path).query).items()}
        start = int(query.get("cursor") or query.get("offset") or (int(query["page"]) - 1) * size if len(query) > 1 else 0)
        items, next_start = list(range(total))[start : start + size], start + size
        more = next_start < total
        link = {"Link": f'<?kind=link&cursor={next_start}>; rel="next last", <?x=1>; rel=prev'} if more else {"Link": "<?x=1>; rel=prev"}
        body = {"data": {"items": items}, "meta": {"next": next_start, "url": f"/v1/list?k=1&cursor={next_start}"} if more else {}}
        return Answer(headers={"Content-Type": "application/json", **link}, body=json.dumps(body).encode())

    return answer


@pytest.mark.parametrize(
    ("pages", "requests"),
    [
        (Pages(items="data.items", cursor="meta.next", query="cursor"), 3),
        (Pages(items="data.items", cursor="meta.url"), 3),
        (Pages(items="data.items", number="page"), 4),
        (Pages(items="data.items", number="offset", first=0, step=2), 4),
        (Pages(items="data.items", link=True), 3),
    ],
    ids=["cursor", "address", "page number", "offset", "link header"],
)
async def test_pages_become_one_list(pages: Pages, requests: int) -> None:
    """The output is the whole list in its order, however the service cuts it up."""
    with LoopbackServer(list_server(5, 2)) as server:
        assert await call(api_node(HttpRequest(path="/list", query={"k": "a/b"}), pages=pages), server) == [0, 1, 2, 3, 4]
        assert len(server.requests) == requests
        assert all(request.headers["x-team"] == "a" for request in server.requests)


@pytest.mark.parametrize(
    ("pages", "message"),
    [
        (Pages(items="data.items", link=True, max_pages=2), "more than 2 pages; raise pages.max_pages"),
        (Pages(items="data.items", link=True, max_bytes=150), "more than .* bytes"),
        (Pages(items="data", link=True), "data is not a list, but dict"),
        (Pages(items="data.items", cursor="data.items[0]", query="k"), "the pages go in a circle"),
    ],
    ids=["pages", "bytes", "no list", "circle"],
)
async def test_pages_without_an_end_fail_their_item(pages: Pages, message: str) -> None:
    """A list that is cut off silently would be a wrong result, and an endless one would never be one."""
    with LoopbackServer(list_server(5, 2)) as server, pytest.raises(ResponseError, match=message):
        await call(api_node(HttpRequest(path="/list", query={"k": "0"}), pages=pages), server)


async def test_the_next_page_is_on_the_same_host() -> None:
    """The service, or who wrote into its data, must not lead requests and their credentials elsewhere."""
    answer = Answer(headers={"Link": "<http://127.0.0.1:1/x>; rel=next"}, body=b"[]")
    node, message = api_node(HttpRequest(path="/x"), pages=Pages(link=True)), r"the next page is on another host, http://127\.0\.0\.1:1"
    with LoopbackServer({"/v1/x": answer}) as server, pytest.raises(AddressRefused, match=message):
        await call(node, server)


async def test_compressed_pages_are_bounded_by_what_they_hold() -> None:
    """A hundred kilobytes can hold a hundred megabytes."""
    bomb = Answer(headers={"Content-Encoding": "gzip"}, body=gzip.compress(b"[" + b" " * 20_000_000 + b"]"))
    with LoopbackServer({"/v1/x": bomb}) as server, pytest.raises(ResponseError, match="more than 1000000 bytes"):
        await call(api_node(HttpRequest(path="/x"), pages=Pages(link=True, max_bytes=1_000_000)), server)


async def test_a_node_without_a_resource_says_who_it_is() -> None:
    """One call to one address needs no named service."""
    with LoopbackServer({"/x": Answer(body=b"1")}) as server:
        node = HttpNode(id="call", request=HttpRequest(url=server.url + "/x"), auth=Auth(basic=Basic(user="u", password="{{ vars.tag }}")))  # noqa: S106
        assert await call_plain(node, {}) == 1
        assert server.requests[0].headers["authorization"] == f"Basic {base64.b64encode(b'u:t').decode()}"


async def test_the_nodes_of_a_resource_share_its_token() -> None:
    """A token belongs to the service, not to a node or an item."""
    answers = {"/token": json_answer({"access_token": "t", "expires_in": 60}), "/x": json_answer(1)}
    with LoopbackServer(answers) as server:
        client = OAuth2(token_url=server.url + "/token", client_id="me", client_secret="c")  # noqa: S106
        nodes = [HttpNode(id=id, resource="api", request=HttpRequest(path="/x")) for id in ("a", "b")]
        plan = planned(*nodes, api=Resource(base_url=server.url, auth=Auth(oauth2=client)))
        async with opened(plan):
            scope = Scope({}, [None, None])
            assert [await step.call(scope) for step in plan.steps for _ in range(2)] == [1] * 4
        assert [request.path for request in server.requests] == ["/token", "/x", "/x", "/x", "/x"]
        assert {request.headers["authorization"] for request in server.requests[1:]} == {"Bearer t"}


async def test_item_data_names_only_hosts_that_are_allowed() -> None:
    """The address comes from the dataset: it leads nowhere but where the job says."""
    with LoopbackServer({"/x": Answer(body=b"1")}) as server:
        host = server.url.removeprefix("http://")
        node = HttpNode(id="call", request=HttpRequest(url="{{ item.text }}"), allow_hosts=(host, "*.example.com"))
        assert await call_plain(node, {"text": server.url + "/x#part"}) == 1
        for address in (
            "http://127.0.0.1:1/",
            f"http://[::ffff:127.0.0.1]:{host.partition(':')[2]}/x",
            f"http://2130706433:{host.partition(':')[2]}/x",
            "http://169.254.169.254/latest",
            "http://example.com.evil.test/",
        ):
            with pytest.raises(AddressRefused):
                await call_plain(node, {"text": address})
        for address in ("file:///etc/passwd", "http://u:p@a.example.com/", "x", ""):
            with pytest.raises(InvalidValue):
                await call_plain(node, {"text": address})
        assert len(server.requests) == 1


async def test_an_allowed_name_that_leads_inside_is_refused() -> None:
    """Whoever owns a name says where it leads; addresses are checked after the look-up, and connections go to these."""
    with LoopbackServer({"/x": Answer(body=b"1")}) as server:
        address = server.url.replace("127.0.0.1", "localhost")
        node = HttpNode(id="call", request=HttpRequest(url="{{ item.text }}"), allow_hosts=(address.removeprefix("http://"),))
        with pytest.raises(AddressRefused, match=r"the host localhost leads to .*, an address inside the network"):
            await call_plain(node, {"text": address + "/x"})
        assert server.requests == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"request": HttpRequest(url="{{ item.text }}")}, "the host must be literal"),
        ({"request": HttpRequest(url="{{ item.text }}"), "allow_hosts": ("a b",)}, "must be a host such as"),
        ({"request": HttpRequest(url="{{ item.text }}"), "allow_hosts": ("a.com",), "auth": Auth(bearer="t")}, "item data names"),
        ({"request": HttpRequest(path="/"), "resource": "api", "auth": Auth(bearer="t")}, "give the resource an auth"),
        ({"request": HttpRequest(url="http://a/", multipart={}, bytes="x")}, "at most one body"),
        ({"request": HttpRequest(url="http://a/"), "success": "yes"}, "must be one {{ expression }}"),
        ({"request": HttpRequest(url="http://a/"), "success": "{{ item.id == 1 }}"}, "item cannot be used here: refer to response"),
        ({"request": HttpRequest(url="http://a/"), "auth": Auth(bearer="{{ item.id }}")}, "item is not known here"),
    ],
)
def test_mistakes_are_found_before_the_first_item(options: Any, problem: str) -> None:
    """What can be known without a request is said without one."""
    with pytest.raises(JobError, match=problem):
        planned(HttpNode(id="call", **options), api=Resource(base_url="http://127.0.0.1"))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"extract": "a..b"}, "is not a path"),
        ({"extract": "a", "response": "text"}, "takes from a JSON answer"),
        ({"extract": "a", "pages": Pages(link=True)}, "say pages.items"),
        ({"response": "bytes", "pages": Pages(link=True)}, "takes lists from JSON"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: Any, problem: str) -> None:
    """One of them would be ignored otherwise."""
    with pytest.raises(InvalidFields, match=problem):
        HttpNode(id="call", request=HttpRequest(url="http://a/"), **options)


@pytest.mark.parametrize(("options", "problem"), [({}, "got nothing"), ({"link": True, "number": "p"}, "got number and link")])
def test_pages_come_in_one_way(options: Any, problem: str) -> None:
    """The way to the next page is said once."""
    with pytest.raises(InvalidFields, match=problem):
        Pages(**options)
