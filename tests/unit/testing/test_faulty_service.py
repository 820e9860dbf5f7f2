from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime

import aiohttp
import httpx
import pytest

from batchrun.testing.faulty_service import Faults, FaultyService


@pytest.fixture
def service() -> Iterator[FaultyService]:
    with FaultyService() as service:
        yield service


@pytest.fixture
def client(service: FaultyService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60) as client:
        yield client


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - another thread counts
        await asyncio.sleep(0)


def test_any_path_tells_what_was_asked(client: httpx.Client) -> None:
    """A user sees what a job really sends, before it goes to a real service."""
    told = client.put("/tickets/7?lang=en", json={"item": "A17", "text": "hi"}, headers={"X-Team": "two"}).json()
    assert (told["method"], told["path"], told["query"]) == ("PUT", "/tickets/7", {"lang": "en"})
    assert (told["json"], told["item"], told["call"]) == ({"item": "A17", "text": "hi"}, "A17", 1)
    assert told["headers"]["x-team"] == "two"


def test_calls_are_counted_by_item(service: FaultyService, client: httpx.Client) -> None:
    """How often each item was sent is known by header, field, query parameter or path, whichever comes first."""
    client.post("/a", json={"item": "one"}, headers={"Idempotency-Key": "key"})
    client.post("/a", json={"deep": [{"item": 2}]})
    client.get("/b?item=two")
    client.get("/b?other=two")
    client.post("/c", content=b"no json")
    assert service.seen().by_item == {"key": 1, "2": 1, "two": 1, "/b?other=two": 1, "/c": 1}
    assert service.seen("/a").count == 2
    assert client.get("/_seen?paths=/b*").json()["by_item"] == {"two": 1, "/b?other=two": 1}
    assert client.delete("/_seen").status_code == 204
    assert service.seen().count == 0


def test_statuses_come_with_retry_after_as_told(service: FaultyService, client: httpx.Client) -> None:
    """Throttling is tried in all of its forms: without Retry-After, with seconds, and with a date."""
    service.set_faults(Faults(statuses={429: 1.0}))
    assert client.get("/").status_code == 429
    assert "retry-after" not in client.get("/").headers
    service.set_faults(Faults(statuses={429: 1.0}, retry_after_seconds=2))
    assert client.get("/").headers["retry-after"] == "2"
    service.set_faults(Faults(statuses={503: 1.0}, retry_after_seconds=3600, retry_after_date=True))
    due = parsedate_to_datetime(client.get("/").headers["retry-after"]).timestamp()
    assert abs(due - time.time() - 3600) < 60
    service.set_faults(Faults(statuses={500: 1.0}, retry_after_seconds=2))
    assert "retry-after" not in client.get("/").headers
    assert service.seen().by_status == {429: 3, 503: 1, 500: 1}


def test_errors_have_the_shape_of_the_system_asked(service: FaultyService, client: httpx.Client) -> None:
    """What reads messages out of errors is tried with the errors its system really sends."""
    service.set_faults(Faults(statuses={503: 1.0}))
    assert client.get("/v1/models").json()["error"]["message"] == "by chance"
    assert client.get("/noxus/v1/nodes").json() == {"detail": "by chance"}
    assert client.get("/eigenpal/v1/runs").json()["issues"][0]["message"] == "by chance"


def test_a_reset_is_a_reset(service: FaultyService, client: httpx.Client) -> None:
    """Clients see what a crashed service looks like, not a polite end."""
    service.set_faults(Faults(resets=1.0))
    with pytest.raises(httpx.ReadError):
        client.post("/", json={})
    assert service.seen().by_status == {0: 1}


async def test_a_hang_ends_with_its_client(service: FaultyService) -> None:
    """A call that is never answered is open until its client gives up, and does not hold up others or the end."""
    service.set_faults(Faults(hangs=1.0, paths="/slow*"))
    async with aiohttp.ClientSession(service.url) as session:
        hung = asyncio.ensure_future(session.get("/slow"))
        async with session.get("/fast") as answer:
            assert answer.status == 200
        await until(lambda: service.seen("/slow").open_calls == 1)
        assert service.seen("/slow").by_status == {}
        hung.cancel()
        await until(lambda: service.seen("/slow").open_calls == 0)
    assert service.seen("/slow").by_status == {0: 1}


def test_a_service_can_be_left_while_calls_hang() -> None:
    """A trial that failed ends at once instead of waiting for its calls."""
    patience = httpx.Timeout(60, read=0.05)
    with httpx.Client(timeout=patience) as client, FaultyService(Faults(hangs=1.0)) as service, pytest.raises(httpx.ReadTimeout):
        client.get(service.url)


def test_slow_bodies_come_in_pieces_and_whole(service: FaultyService, client: httpx.Client) -> None:
    """A body that drips is complete in the end; only its time is faulty."""
    service.set_faults(Faults(drips=1.0, drip_seconds=0.0001))
    with client.stream("POST", "/", json={"text": "x" * 1_000}) as answer:
        pieces = list(answer.iter_raw())
    assert json.loads(b"".join(pieces))["json"] == {"text": "x" * 1_000}
    assert len(pieces) > 1


def test_malformed_answers_are_no_json(service: FaultyService, client: httpx.Client) -> None:
    """A broken body says that it is fine: status 200 and a type of JSON."""
    service.set_faults(Faults(malformed=1.0))
    answer = client.get("/")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json; charset=utf-8")
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_a_quota_that_is_used_up_says_so(service: FaultyService, client: httpx.Client) -> None:
    """A 429 that no waiting heals can be told from one that does by its body."""
    service.set_faults(Faults(quota_after=2))
    answers = [client.post("/v1/chat/completions", json={"model": "m", "messages": [{"role": "user"}]}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["error"]["code"] == "insufficient_quota"


def test_windows_let_no_more_through_than_they_say(service: FaultyService, client: httpx.Client) -> None:
    """A window holds as many requests as its rate allows, tells how many are left, and what it refused does not count."""
    service.set_faults(Faults(requests_per_minute=5, window_seconds=60))
    answers = [client.get("/") for _ in range(8)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 3
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["4", "3", "2", "1", "0", "0", "0", "0"]
    service.set_faults(Faults(requests_per_minute=5, window_seconds=60))
    assert client.get("/").status_code == 200


async def test_capacity_hides_behind_429s(service: FaultyService) -> None:
    """More at once than a service takes are refused at once, and there is room again when one has ended."""
    service.set_faults(Faults(capacity=3, hangs=1.0))
    async with aiohttp.ClientSession(service.url) as session:
        served = [asyncio.ensure_future(session.get("/")) for _ in range(3)]
        await until(lambda: service.seen().open_calls == 3)
        async with session.get("/") as refused:
            assert refused.status == 429
        served.pop().cancel()
        await until(lambda: service.seen().open_calls == 2)
        served.append(asyncio.ensure_future(session.get("/")))
        await until(lambda: service.seen().open_calls == 3)
        for call in served:
            call.cancel()
        await until(lambda: service.seen().open_calls == 0)
    assert service.seen().most_at_once == 4  # with the one that was refused


def test_outages_begin_and_end_by_schedule(service: FaultyService, client: httpx.Client) -> None:
    """An outage is told by seconds since the faults were set, in every form an outage has."""
    service.set_faults(Faults(outages=((0, 3600),)))
    assert client.get("/").status_code == 503
    service.set_faults(Faults(outages=((0, 3600),), outage_answer="reset"))
    with pytest.raises(httpx.ReadError):
        client.get("/")
    service.set_faults(Faults(outages=((3600, 7200),)))
    assert client.get("/").status_code == 200


def test_faults_are_set_over_the_wire_and_wrong_ones_refused(client: httpx.Client) -> None:
    """A job in another process is tried against faults that change while it runs; a typing mistake is told by name."""
    told = client.put("/_faults", json={"statuses": {"503": 1.0}, "outages": [[5, 6]]})
    assert (told.json()["statuses"], told.json()["outages"]) == ({"503": 1.0}, [[5.0, 6.0]])
    assert client.get("/").status_code == 503
    assert client.get("/_faults").json() == told.json()
    refused = client.put("/_faults", json={"hang": 1})
    assert refused.status_code == 400
    assert "hang" in refused.json()["error"]["message"]


async def test_a_key_is_asked_for() -> None:
    """A job that forgets its key is found out before it goes to a real service."""
    async with FaultyService(api_key="secret") as service, httpx.AsyncClient(base_url=service.url) as client:
        assert (await client.get("/v1/models")).status_code == 401
        assert (await client.get("/v1/models", headers={"Authorization": "Bearer secret"})).status_code == 200
        assert (await client.get("/noxus/v1/nodes", headers={"X-API-Key": "secret"})).status_code == 200


def test_a_port_that_is_taken_is_told(service: FaultyService) -> None:
    """Two services never share a port, and the second one leaves no thread behind."""
    with pytest.raises(OSError, match="in use"), FaultyService(port=int(service.url.rpartition(":")[2])):
        pass
