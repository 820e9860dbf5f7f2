"""What a `remote` node makes of the answers to its submits and polls, counted by the service."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from batchrun.testing.loopback import Answer, LoopbackServer, Received, json_answer
from tests.e2e.conftest import Project
from tests.e2e.remote_jobs import errors, rows, work


def scripted(answers: dict[str, list[Answer]]) -> Callable[[Received], Answer]:
    """A service that answers submits, and then polls, in order; the last answer repeats."""
    left = {method: list(each) for method, each in answers.items()}

    def answer(received: Received) -> Answer:
        queue = left[received.method]
        return queue.pop(0) if len(queue) > 1 else queue[0]

    return answer


WELL = json_answer({"id": "r1", "status": "completed", "output": {"n": 1}})


@pytest.mark.parametrize(
    ("submit", "error", "posts"),
    [
        (Answer(status=429), None, 2),
        (Answer(status=503, headers={"Retry-After": "0"}), None, 2),
        (Answer(status=422, body=b"no such workflow"), "HttpStatusError", 1),
        (Answer(status=500), "SubmitInDoubt", 1),
        (Answer(status=502), "SubmitInDoubt", 1),
        (Answer(raw=b""), "SubmitInDoubt", 1),
        (Answer(body=b"<html>"), "SubmitInDoubt", 1),
        (json_answer({"id": None}), "SubmitInDoubt", 1),
    ],
    ids=["throttled", "busy", "refused", "broken", "bad gateway", "no answer", "no JSON", "no id"],
)
def test_a_submit_is_sent_again_only_where_surely_no_run_has_begun(project: Project, submit: Answer, error: str | None, posts: int) -> None:
    """A published client turned two server errors into three runs; refusals are safe, and everything else is told."""
    with LoopbackServer(scripted({"POST": [submit, WELL], "GET": [WELL]})) as server:
        work(project, server.url, items=1)
        project.batchrun("run", "job.yaml")
        assert sum(request.method == "POST" for request in server.requests) == posts
    assert errors(project) == {"item 0": error}


def test_an_answer_that_broke_off_is_asked_for_again_where_the_job_says_so(project: Project) -> None:
    """It is a lost one, too. One that can be read and names no run is a mistake in the job: more runs would be of no use."""
    for cut, posts, error in ((Answer(body=b'{"id": "r'), 2, None), (json_answer({"id": None}), 1, "SubmitInDoubt")):
        with LoopbackServer(scripted({"POST": [cut, WELL], "GET": [WELL]})) as server:
            work(project, server.url, "on_lost_submit: resubmit", items=1)
            project.batchrun("run", "job.yaml")
            assert errors(project) == {"item 0": error}
            assert sum(request.method == "POST" for request in server.requests) == posts
        shutil.rmtree(project.folder / "runs")


def test_a_service_that_cannot_be_reached_has_begun_nothing(project: Project) -> None:
    """Nothing was sent, so the submit may be repeated, and its attempts are used up in the end."""
    with LoopbackServer({}) as server:
        url = server.url
    work(project, url, items=1, limits=", breaker: null")
    project.batchrun("run", "job.yaml")
    assert errors(project) == {"item 0": "TransportError"}
    assert rows(project)["item 0"]["attempts"] == 3


@pytest.mark.parametrize(
    ("poll", "error", "gets"),
    [
        (Answer(status=500), None, 2),
        (Answer(status=429, headers={"Retry-After": "0"}), None, 2),
        (Answer(raw=b""), None, 2),
        (Answer(body=b"<html>"), None, 2),
        (Answer(status=404), "HttpStatusError", 1),
    ],
    ids=["broken", "throttled", "no answer", "no JSON", "gone"],
)
def test_a_poll_is_repeated_unless_the_service_refuses(project: Project, poll: Answer, error: str | None, gets: int) -> None:
    """What is temporary costs nothing, and what will never change ends the item with its run named."""
    with LoopbackServer(scripted({"POST": [WELL], "GET": [poll, WELL]})) as server:
        work(project, server.url, items=1)
        project.batchrun("run", "job.yaml")
        assert sum(request.method == "GET" for request in server.requests) == gets
    assert errors(project) == {"item 0": error}
    row = rows(project)["item 0"]
    assert (row["attempts"], row["node_executions"][0]["external_id"]) == (1, "r1")


def test_a_poll_that_hangs_is_given_up_and_made_again(project: Project) -> None:
    """A service that has lost a request must not keep the item until the run's whole time is over."""
    with LoopbackServer(scripted({"POST": [WELL], "GET": [Answer(held=True), WELL]})) as server:
        work(project, server.url, items=1)
        project.write(
            "job.yaml", (project.folder / "job.yaml").read_text().replace("max_seconds: 0.05", "max_seconds: 0.05, answer_seconds: 2")
        )
        project.batchrun("run", "job.yaml")
        assert sum(request.method == "GET" for request in server.requests) == 2
    assert errors(project) == {"item 0": None}


def test_a_rule_may_end_what_polls_meet(project: Project) -> None:
    """Retry rules are obeyed while a run is polled, too."""
    rule = "retry: {rules: [{match: {http_status: [500]}, action: fail}]}"
    with LoopbackServer(scripted({"POST": [WELL], "GET": [Answer(status=500)]})) as server:
        work(project, server.url, rule, items=1)
        project.batchrun("run", "job.yaml")
    assert errors(project) == {"item 0": "HttpStatusError"}


def test_an_outage_does_not_use_up_the_time_of_a_run(project: Project) -> None:
    """While the service is parked nobody can ask, and the run over there may be long done."""
    polls = [Answer(status=500), Answer(status=500), WELL]
    with LoopbackServer(scripted({"POST": [WELL], "GET": polls})) as server:
        parked = ", breaker: {failures: 2, probe_initial_seconds: 4, probe_max_seconds: 4}"
        work(project, server.url, "timeout_seconds: 3", items=1, limits=parked, run=", item_timeout_seconds: 3.5")
        project.batchrun("run", "job.yaml")
    assert errors(project) == {"item 0": None}
