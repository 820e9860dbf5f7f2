"""Services that hang, stay silent or refuse rows: what it costs, counted by the services themselves."""

from __future__ import annotations

import pytest

from batchrun.results.recovery import Recovered
from batchrun.testing.loopback import Answer, LoopbackServer, Received
from tests.e2e.conftest import Project, ended
from tests.e2e.held import until
from tests.e2e.test_resources import WELL, Noted, completed, work

OUTAGE_SECONDS = 3.0


@pytest.mark.parametrize("is_silent", [True, False], ids=["silent", "503"])
def test_an_outage_in_the_middle_fails_no_item_and_ends_with_full_speed(project: Project, *, is_silent: bool) -> None:
    """At most the calls in flight and a handful go into it, whether it refuses or hangs; five seconds later nothing reminds of it."""
    outage = [0.0]

    def answer(noted: Noted, _received: Received) -> Answer:
        if len(noted.times) == 100:
            outage[0] = noted.times[-1]
        is_out = len(noted.times) >= 100 and noted.times[-1] - outage[0] < OUTAGE_SECONDS
        return Answer(held=is_silent, status=503) if is_out else WELL

    service = Noted(answer)
    with LoopbackServer(service) as server:
        work(project, server.url, parallelism=8, items=300)
        job = (project.folder / "job.yaml").read_text().replace("{id: ask, ", "{id: ask, timeout_seconds: 2, ")
        project.write("job.yaml", job)
        done = completed(project, project.batchrun("run", "job.yaml"), items=300)
    into = [at for at in service.times[99:] if at < outage[0] + OUTAGE_SECONDS]
    after = [at for at in service.times if at >= outage[0] + OUTAGE_SECONDS]
    assert len(into) <= 8 + 8
    assert after[0] - outage[0] - OUTAGE_SECONDS < 5 and len(after) >= 190
    assert done.record["resources"]["api"]["opened"] >= 1


def test_one_call_that_hangs_holds_up_nobody(project: Project) -> None:
    """The other 99 items are on the disk while it hangs; it ends as Timeout, after one call, and parks no service."""

    def answer(_noted: Noted, received: Received) -> Answer:
        return Answer(held=True) if received.path == "/ask/7" else WELL

    service = Noted(answer)
    with LoopbackServer(service) as server:
        work(project, server.url, parallelism=8, items=100)
        job = (project.folder / "job.yaml").read_text()
        job = job.replace("{id: ask, ", "{id: ask, timeout_seconds: 12, ").replace("retry: {", "retry: {max_attempts: 1, ")
        project.write("job.yaml", job)
        process = project.start("run", "job.yaml")
        until(lambda: len(service.paths) == 100)
        until(lambda: Recovered(project.executions[0]).count("completed") == 99)
        assert server.in_flight == 1
        answer_of_run = ended(process)
    assert answer_of_run.code == 3, answer_of_run.err
    assert (project.counters["completed_items"], project.counters["failed_items"]) == (99, 1)
    row = project.result.to_pylist()[7]
    assert row["error"]["type"] == "Timeout" and "timeout_seconds: 12" in row["error"]["message"]
    assert row["duration_ms"] >= 11_900
    assert service.paths["/ask/7"] == 1
    assert project.record["resources"]["api"]["opened"] == 0


def test_rows_that_a_service_refuses_fail_with_what_it_said(project: Project) -> None:
    """Status and the beginning of the body, after one call each; the others are not touched."""
    bad = {f"/ask/{item}" for item in (3, 17, 41)}
    refusal = Answer(status=400, headers={"Content-Type": "application/json"}, body=b'{"error": "this text has no language"}')
    service = Noted(lambda _noted, received: refusal if received.path in bad else WELL)
    with LoopbackServer(service) as server:
        done = work(project, server.url).batchrun("run", "job.yaml")
    assert done.code == 3, done.err
    failed = [row for row in project.result.to_pylist() if row["status"] == "failed"]
    assert [row["source_item_id"] for row in failed] == [3, 17, 41]
    for row in failed:
        assert (row["error"]["type"], row["error"]["http_status"], row["error"]["retryable"]) == ("HttpStatusError", 400, False)
        assert "this text has no language" in row["error"]["message"]
    assert set(service.paths.values()) == {1} and len(service.paths) == 60
