"""Redirects of `http` nodes: real servers, each of which notes what it gets."""

from __future__ import annotations

from typing import Any

import pytest

from batchrun.core.auth import ApiKey, Auth
from batchrun.core.errors import AddressRefused, HttpStatusError, InvalidValue, NodeError, TransportError
from batchrun.core.job import Resource
from batchrun.nodes.http import HttpNode, HttpRequest
from batchrun.testing.loopback import Answer, LoopbackServer, Received, json_answer
from tests.unit.nodes.test_http_full import call_plain

INSIDE = ["localhost", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "2130706433", "0x7f.1", "127.1"]
AUTH = Auth(bearer="t0ken")


def to(location: str, status: int = 302) -> Answer:
    return Answer(status=status, headers={"Location": location})


def host_of(server: LoopbackServer) -> str:
    return server.url.removeprefix("http://")


async def follow(server: LoopbackServer, *, method: str = "GET", auth: Auth | None = AUTH, **options: Any) -> Any:
    """The output of a node that starts at the server's `/a`."""
    resource = Resource(base_url=server.url, headers={"X-Team": "a"}, auth=auth)
    request = HttpRequest(method=method, path="/a", json={"n": 1} if method == "POST" else None, headers={"X-Own": "o"})
    node = HttpNode(id="call", resource="api", request=request, **{"max_redirects": 3, **options})
    return await call_plain(node, {}, api=resource)


async def test_nothing_is_followed_that_the_job_does_not_ask_to_follow() -> None:
    """Where data goes is said in the job."""
    said = "redirects are not followed; it points to /b"
    with LoopbackServer({"/a": to("/b")}) as server, pytest.raises(HttpStatusError, match=said):
        await follow(server, max_redirects=0)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("method", "status", "then"),
    [
        *(("GET", status, "GET") for status in (301, 302, 303, 307, 308)),
        *(("HEAD", status, "HEAD") for status in (301, 303, 307)),
        *(("POST", status, "GET") for status in (301, 302, 303)),
        *(("POST", status, "POST") for status in (307, 308)),
        *(("PUT", status, "PUT") for status in (301, 302, 307)),
        ("DELETE", 303, "GET"),
    ],
)
async def test_the_method_becomes_what_the_standard_says(method: str, status: int, then: str) -> None:
    """A body goes with the method that it belongs to, and with no other."""
    with LoopbackServer({"/a": to("b?x=1#part", status), "/b": json_answer({})}) as server:
        await follow(server, method=method)
    first, second = server.requests
    assert (second.method, second.path) == (then, "/b?x=1")
    assert second.headers["authorization"] == "Bearer t0ken" and second.headers["x-team"] == "a"
    is_kept = method == then
    assert second.body == (first.body if is_kept else b"")
    assert is_kept or not {"content-type", "content-length", "idempotency-key"} & second.headers.keys()


async def test_another_host_gets_nothing_that_says_who_calls() -> None:
    """Whatever a header is called: it may be a key."""
    for auth in (AUTH, Auth(api_key=ApiKey(value="k3y", header="X-Key")), Auth(api_key=ApiKey(value="k3y", query="key"))):
        with LoopbackServer({"/b": json_answer("there")}) as other, LoopbackServer({"/a": to(f"{other.url}/b", 307)}) as server:
            assert await follow(server, method="POST", auth=auth, allow_hosts=(host_of(other),)) == "there"
        (received,) = other.requests
        assert (received.method, received.path, received.body) == ("POST", "/b", b'{"n":1}')
        assert not {"authorization", "x-key", "x-team", "x-own", "cookie"} & received.headers.keys()


async def test_the_way_back_home_does_not_bring_them_back_to_another_host() -> None:
    """What was left out on the way stays out: another host must not choose what is asked for in our name."""
    places: list[LoopbackServer] = []
    away = LoopbackServer(lambda _received: to(f"{places[0].url}/c"))
    with away as other, LoopbackServer({"/a": to(f"{other.url}/b"), "/c": json_answer("home")}) as server:
        places.append(server)
        with pytest.raises(AddressRefused):
            await follow(server, allow_hosts=(host_of(other),))
        assert await follow(server, allow_hosts=(host_of(other), host_of(server))) == "home"
    assert not {"authorization", "x-own"} & {*other.requests[0].headers, *server.requests[-1].headers}


@pytest.mark.parametrize(
    "name", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "2130706433", "0x7f.1", "127.1"]
)
@pytest.mark.parametrize("entry", ["none", "*"])
async def test_no_redirect_leads_inside_the_network(name: str, entry: str) -> None:
    """However the address is spelled, and whatever names are allowed: the other server gets not even a connection."""
    with LoopbackServer({"/b": json_answer("inside")}) as inside:
        port = inside.url.rpartition(":")[2]
        with LoopbackServer({"/a": to(f"http://{name}:{port}/b")}) as server, pytest.raises((AddressRefused, InvalidValue)):
            await follow(server, allow_hosts=(f"*:{port}",) if entry == "*" else None)
        assert inside.connections == 0


@pytest.mark.parametrize("name", INSIDE)
async def test_no_item_leads_inside_the_network(name: str) -> None:
    """The same for hosts that item data names, and for where those redirect to."""
    with LoopbackServer({"/b": json_answer("inside")}) as inside:
        port = inside.url.rpartition(":")[2]
        node = HttpNode(id="call", request=HttpRequest(url="{{ item.text }}"), allow_hosts=(f"*:{port}",), max_redirects=2)
        with pytest.raises((AddressRefused, InvalidValue)):
            await call_plain(node, {"text": f"http://{name}:{port}/b"})
        with LoopbackServer({"/a": to(f"http://{name}:{port}/b")}) as first:
            node = HttpNode(
                id="call", request=HttpRequest(url="{{ item.text }}"), allow_hosts=(host_of(first), f"*:{port}"), max_redirects=2
            )
            with pytest.raises((AddressRefused, InvalidValue)):
                await call_plain(node, {"text": f"{first.url}/a"})
        assert inside.connections == 0


async def test_an_item_may_lead_where_the_job_says_and_is_followed_there() -> None:
    """An address that is written out is meant."""
    with LoopbackServer({"/b": json_answer("there")}) as other, LoopbackServer({"/a": to(f"{other.url}/b")}) as first:
        node = HttpNode(
            id="call", request=HttpRequest(url="{{ item.text }}"), allow_hosts=(host_of(first), host_of(other)), max_redirects=1
        )
        assert await call_plain(node, {"text": f"{first.url}/a"}) == "there"


async def test_redirects_end() -> None:
    """In a circle, beyond the limit, or nowhere: each says so after as many requests as it takes to know."""
    cases: list[tuple[Any, str, int]] = [
        ({"/a": to("/b"), "/b": to("/a")}, "go in a circle, back to GET http", 2),
        (lambda received: to(f"{received.path}x"), "more than 3 redirects in a row; raise max_redirects", 4),
        ({"/a": to("http://a:x/")}, "what it points to is not an address", 1),
        ({"/a": to("http://xn--a-/")}, "what it points to is not an address", 1),
        ({"/a": to("ftp://127.0.0.1/")}, "which is not encrypted, and is not followed", 1),
        ({"/a": to("http://me:pass@127.0.0.1/")}, "an address with a user or a password", 1),
        ({"/a": Answer(status=304)}, "redirects are not followed", 1),
    ]
    for handler, message, count in cases:
        with LoopbackServer(handler) as server, pytest.raises(NodeError, match=message):
            await follow(server)
        assert len(server.requests) == count


async def test_work_that_is_done_is_not_done_again_because_its_answer_is_elsewhere() -> None:
    """303 says that the POST was taken: what comes after it may fail, and the POST must not be repeated by itself."""
    for fault in (Answer(status=503), Answer(raw=b""), Answer(status=429)):
        with LoopbackServer({"/a": to("/b", 303), "/b": fault}) as server:
            with pytest.raises(TransportError, match="was taken, but what its answer leads to cannot be had") as raised:
                await follow(server, method="POST")
            assert raised.value.ambiguous
            with pytest.raises(NodeError) as raised_:
                await follow(server, method="POST", idempotent=True)
            assert not raised_.value.ambiguous


def received_paths(requests: list[Received]) -> list[str]:
    return [received.path for received in requests]


async def test_a_key_in_the_query_is_not_sent_twice() -> None:
    """Services repeat the query in where they lead to."""
    auth = Auth(api_key=ApiKey(value="k3y", query="key"))
    with LoopbackServer({"/a": to("/b?key=k3y"), "/b": json_answer({})}) as server:
        await follow(server, auth=auth)
    assert received_paths(server.requests) == ["/a?key=k3y", "/b?key=k3y"]
