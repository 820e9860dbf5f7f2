"""Saying who sends a request, to real servers."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
import pytest

from batchrun.core.auth import ApiKey, Auth, Basic, OAuth2
from batchrun.core.errors import HttpStatusError, ResponseError
from batchrun.net.auth import Tokens, signing
from batchrun.net.client import HttpClient
from batchrun.net.transport import AiohttpTransport
from batchrun.testing.loopback import Answer, LoopbackServer, Received, json_answer


@asynccontextmanager
async def client(server: LoopbackServer, auth: Auth) -> AsyncIterator[HttpClient]:
    async with signing(AiohttpTransport(), auth) as transport:
        yield HttpClient(transport, base_url=server.url)


async def send(client: HttpClient, path: str = "/x", method: str = "GET", **headers: str) -> bytes:
    return (await client.send(client.build(method, path, headers=headers), idempotent=False)).body


def oauth2(server: LoopbackServer, **options: str) -> Auth:
    return Auth(oauth2=OAuth2(token_url=server.url + "/token", client_id="me@x", client_secret="p/w d", **options))  # type: ignore[arg-type]  # noqa: S106


class Service:
    """Gives tokens, and takes those that it has not revoked."""

    def __init__(self, expires_in: float | None = 3600) -> None:
        self.given = 0
        self.revoked: set[str] = set()
        self.expires_in = expires_in

    def __call__(self, request: Received) -> Answer:
        if request.path == "/token":
            self.given += 1
            return json_answer({"access_token": f"t{self.given}", "token_type": "bearer", "expires_in": self.expires_in})
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        return Answer(status=401) if token in self.revoked or not token else Answer(body=token.encode())


@pytest.mark.parametrize(
    ("auth", "path", "header"),
    [
        (Auth(bearer="t"), "/x?a=1", ("authorization", "Bearer t")),
        (Auth(basic=Basic(user="ü", password="p:w")), "/x?a=1", ("authorization", "Basic " + base64.b64encode("ü:p:w".encode()).decode())),  # noqa: S106
        (Auth(api_key=ApiKey(header="X-Key", value="k")), "/x?a=1", ("x-key", "k")),
        (Auth(api_key=ApiKey(query="a key", value="k&=/ü")), "/x?a=1&a%20key=k%26%3D%2F%C3%BC", None),
    ],
    ids=["bearer", "basic", "header", "query"],
)
async def test_fixed_credentials_are_sent_with_every_request(auth: Auth, path: str, header: tuple[str, str] | None) -> None:
    """What the job says once reaches the service with each call, written as the standards say."""
    with LoopbackServer(lambda _request: Answer()) as server:
        async with client(server, auth) as opened:
            await send(opened, "/x?a=1")
            await send(opened, "/x?a=1", method="POST")
        for request in server.requests:
            assert request.path == path
            assert header is None or request.headers[header[0]] == header[1]


async def test_a_header_of_the_request_goes_before_that_of_all() -> None:
    """One node of a service may have a key of its own."""
    with LoopbackServer(lambda _request: Answer()) as server:
        async with client(server, Auth(bearer="all")) as opened:
            await send(opened, authorization="Bearer own")
        assert server.requests[0].headers["authorization"] == "Bearer own"


async def test_one_token_is_fetched_for_all_requests() -> None:
    """A hundred items at once must not ask the token server a hundred times."""
    service = Service()
    with LoopbackServer(service) as server:
        async with client(server, oauth2(server, scope="read write")) as opened, anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(send, opened)
        asked = [request for request in server.requests if request.path == "/token"]
    assert service.given == len(asked) == 1
    assert asked[0].body == b"grant_type=client_credentials&scope=read+write"
    assert asked[0].headers["authorization"] == "Basic " + base64.b64encode(b"me%40x:p%2Fw+d").decode()


async def test_client_and_secret_may_go_into_the_body() -> None:
    """Some token servers know no other way."""
    with LoopbackServer(Service()) as server:
        async with client(server, oauth2(server, send_in="body")) as opened:
            await send(opened)
        assert server.requests[0].body == b"grant_type=client_credentials&client_id=me%40x&client_secret=p%2Fw+d"
        assert "authorization" not in server.requests[0].headers


async def test_a_token_that_is_refused_is_replaced_once() -> None:
    """Services revoke tokens before they expire; a second 401 is an answer like any other."""
    service = Service()
    with LoopbackServer(service) as server:
        async with client(server, oauth2(server)) as opened:
            assert await send(opened) == b"t1"
            service.revoked.add("t1")
            assert await send(opened, method="POST") == b"t2"
            service.revoked |= {"t2", "t3"}
            with pytest.raises(HttpStatusError, match="answered 401"):
                await send(opened)
    assert service.given == 3


async def test_requests_that_are_refused_together_fetch_one_new_token() -> None:
    """When a token is revoked, all calls in flight hear it at once."""
    service = Service()
    with LoopbackServer(service) as server:
        async with client(server, oauth2(server)) as opened:
            await send(opened)
            service.revoked.add("t1")
            async with anyio.create_task_group() as group:
                for _ in range(10):
                    group.start_soon(send, opened)
    assert service.given == 2


async def test_a_token_is_renewed_before_it_expires() -> None:
    """A call with a token that expires on its way would fail for nothing."""
    now = [0.0]
    with LoopbackServer(Service(expires_in=100)) as server:
        async with AiohttpTransport() as transport:
            options = oauth2(server).oauth2
            assert options is not None
            tokens = Tokens(options, transport, clock=lambda: now[0])
            assert await tokens.get() == "t1"
            now[0] = 89.0
            assert await tokens.get() == "t1"
            now[0] = 90.0
            assert await tokens.get() == "t2"


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (
            json_answer({"error": "invalid_client"}, status=401),
            HttpStatusError,
            "no OAuth2 token: POST .*/token answered 401.*invalid_client",
        ),
        (json_answer({"token": "x"}), ResponseError, "no access_token"),
        (Answer(body=b"<html>"), ResponseError, "with no JSON"),
    ],
    ids=["refused", "another answer", "no JSON"],
)
async def test_who_gets_no_token_is_told_why(answer: Answer, error: type[Exception], message: str) -> None:
    """Wrong credentials look like a failing service otherwise."""
    with LoopbackServer({"/token": answer}) as server:
        async with client(server, oauth2(server)) as opened:
            with pytest.raises(error, match=message):
                await send(opened)


async def test_a_cancelled_request_does_not_take_the_token_from_the_others() -> None:
    """The item that happened to ask first may run past its deadline while the others wait for the same token."""
    service = Service()

    def slow(request: Received) -> Answer:
        answer = service(request)
        return Answer(status=answer.status, body=answer.body, headers=answer.headers, held=request.path == "/token")

    with LoopbackServer(slow) as server:
        async with client(server, oauth2(server)) as opened, anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as first:
                    first.start_soon(send, opened)
                    await anyio.to_thread.run_sync(server.wait_until, lambda it: len(it.requests) == 1)
                    group.start_soon(send, opened)
                    scope.cancel()
            server.release()
    assert service.given == 1


def test_auth_is_one_of_four() -> None:
    """Two ways of saying who one is contradict each other."""
    with pytest.raises(ValueError, match="give one of bearer, basic, api_key and oauth2; got bearer and basic"):
        Auth(bearer="x", basic=Basic(user="u", password="p"))  # noqa: S106
