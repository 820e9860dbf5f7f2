"""Services that are throttled, limited and out of order, counted by the services themselves."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from batchrun.client import Execution
from batchrun.testing.faulty_service import Faults, FaultyService
from batchrun.testing.loopback import Answer, LoopbackServer, Received, json_answer
from tests.e2e.conftest import PATIENCE_SECONDS, Ended, Project, ended
from tests.e2e.held import until

ITEMS = 60
WELL = json_answer({"ok": True})
JOB = """\
name: asked
dataset: {path: data.parquet, id: id}
resources: {api: {base_url: "%s", %s}}
workflow:
  nodes:
    - {id: ask, type: http, resource: api, request: {path: "/ask/{{ item.id }}"}}
run: {parallelism: %d, retry: {backoff: {initial_seconds: 0.05, max_seconds: 0.2}}}
"""


def work(project: Project, url: str, *, options: str = "", parallelism: int = 16, items: int = ITEMS) -> Project:
    """A project that asks a service for each of its items."""
    project.write("job.yaml", JOB % (url, options, parallelism))
    project.table("data.parquet", {"id": range(items)})
    return project


def completed(project: Project, answer: Ended, items: int = ITEMS) -> Execution:
    """An execution none of whose items has failed."""
    assert answer.code == 0, answer.err
    assert project.counters["completed_items"] == items
    return Execution(project.executions[0])


def most_in(seconds: float, times: list[float]) -> int:
    """The most requests that came within so many seconds."""
    return max(sum(0 <= other - time < seconds for other in times) for time in times)


class Noted:
    """A handler that notes when requests come and how many there were for each path."""

    def __init__(self, answer: Callable[[Noted, Received], Answer]) -> None:
        self.times: list[float] = []
        self.paths: Counter[str] = Counter()
        self._answer = answer

    def __call__(self, received: Received) -> Answer:
        self.times.append(time.monotonic())
        self.paths[received.path] += 1
        return self._answer(self, received)


@pytest.mark.parametrize("options", ["", "adaptive: true", "requests_per_minute: 60000"])
@pytest.mark.parametrize("share", [0.6, 0.9])
def test_no_item_fails_because_a_service_throttles(project: Project, share: float, options: str) -> None:
    """Being told to come back is no attempt, however often it is said: six or nine of ten calls, and three attempts."""
    with FaultyService(Faults(statuses={429: share}, seed=7)) as service:
        done = completed(project, work(project, service.url, options=options).batchrun("run", "job.yaml"))
        seen = service.seen()
    assert len(seen.by_item) == ITEMS
    assert set(project.result["attempts"].to_pylist()) == {1}
    figures = done.record["resources"]["api"]
    assert (figures["calls"], figures["throttled"]) == (seen.count, seen.by_status[429])


SHARED = """\
name: shared
dataset: {path: data.parquet, id: id}
resources: {api: {base_url: "%s", max_concurrency: 3, requests_per_minute: 1800}}
workflow:
  nodes:
    - {id: first, type: http, resource: api, request: {path: /first}}
    - {id: second, type: http, resource: api, request: {path: /second}}
    - id: parts
      type: workflow
      map: "{{ [1, 2, 3] }}"
      workflow:
        nodes:
          - {id: third, type: http, resource: api, request: {path: /third}}
run: {parallelism: 32}
"""


def test_all_nodes_and_parts_of_calls_share_the_limits_of_a_service(project: Project) -> None:
    """The service counts: never more than three at once, and no more in a second than the rate and one burst of it."""
    service = Noted(lambda _noted, _received: json_answer({}))
    with LoopbackServer(service) as server:
        project.write("job.yaml", SHARED % server.url)
        project.table("data.parquet", {"id": range(24)})
        completed(project, project.batchrun("run", "job.yaml"), items=24)
    assert service.paths == {"/first": 24, "/second": 24, "/third": 72}
    assert server.most_in_flight <= 3
    assert most_in(1.0, service.times) <= 60 + 3  # what is due in a second, the burst, and a few that came late
    assert service.times[-1] - service.times[0] > 2  # 3 s are due after the burst, and the first request may come late


def test_a_rate_can_be_raised_while_items_wait_for_it(project: Project) -> None:
    """Nobody has to wait for an hour because of a typing mistake."""
    service = Noted(lambda _noted, _received: WELL)
    with LoopbackServer(service) as server:
        process = work(project, server.url, options="requests_per_minute: 1").start("run", "job.yaml")
        server.wait_until(lambda server: len(server.requests) == 1, timeout_seconds=PATIENCE_SECONDS)
        until(lambda: bool(project.executions) and Execution(project.executions[0]).progress.waiting_for.get("resource") == 16)
        assert len(service.times) == 1
        page = project.batchrun("show").out
        assert "services   api: " in page and ", at most 1 requests a minute" in page
        assert project.batchrun("tune", "--set", "resources.api.requests_per_minute=60000").code == 0
        completed(project, ended(process))
    page = project.batchrun("show").out
    assert f"services   api: at most 60,000 requests a minute, {ITEMS} calls\n" in page


@pytest.mark.parametrize("fault", [Answer(status=503), Answer(status=500), Answer(raw=b"", reset=True)], ids=["503", "500", "reset"])
def test_an_outage_costs_no_item_and_the_service_is_tried_with_single_calls(project: Project, fault: Answer) -> None:
    """What is in flight goes into an outage in the middle, and then single calls half a second apart; nothing fails."""
    is_over = threading.Event()
    service = Noted(lambda noted, _received: WELL if len(noted.times) < 20 or is_over.is_set() else fault)
    with LoopbackServer(service) as server:
        process = work(project, server.url, options="breaker: {probe_max_seconds: 0.5}", parallelism=8).start("run", "job.yaml")
        until(lambda: len(service.times) >= 20)
        parked(project)
        alone = len(service.times)
        until(lambda: len(service.times) >= alone + 3)
        is_over.set()
        done = completed(project, ended(process))
    into, tries = service.times[19 : alone + 3], service.times[alone : alone + 3]
    assert len(into) <= 8 + 5 + (into[-1] - into[0]) / 0.4
    assert all(later - earlier > 0.4 for earlier, later in pairwise(tries))
    figures = done.record["resources"]["api"]
    assert figures["opened"] >= 1 and figures["parked_seconds"] >= tries[-1] - tries[0]


def test_a_service_that_goes_away_and_comes_back_costs_no_item(project: Project) -> None:
    """Nothing listens there for a while, and items are run one at a time: who looks sees what is going on, and why."""
    gone = threading.Event()

    def answer(noted: Noted, _received: Received) -> Answer:
        if len(noted.times) == 20:
            gone.set()
            return Answer(held=True)
        return WELL

    with LoopbackServer(Noted(answer)) as server:
        work(project, server.url, parallelism=1)
        port = int(server.url.rpartition(":")[2])
        process = project.start("run", "job.yaml")
        assert gone.wait(PATIENCE_SECONDS)
    execution = parked(project)
    state = execution.progress.resources["api"]
    assert state["opened"] == 1
    assert state["parked_why"] is not None and "cannot connect to 127.0.0.1" in state["parked_why"]
    page = project.batchrun("show").out
    assert "services   api: " in page and ", parked since " in page and "cannot connect to 127.0.0.1" in page
    told = json.loads(project.batchrun("show", "--json").out)
    assert (told["status"], told["progress"]["resources"]["api"]["opened"]) == ("running", 1)
    with LoopbackServer({f"/ask/{item}": WELL for item in range(ITEMS)}, port=port):
        answer_of_run = ended(process)
    completed(project, answer_of_run)
    assert "resource api is parked, one call at a time tries it: GET http://127.0.0.1" in answer_of_run.err
    assert "resource api: parked 1 time, " in answer_of_run.err
    assert set(project.result["attempts"].to_pylist()) <= {1, 2}


def test_an_execution_pauses_when_a_service_stays_away_and_goes_on_later(project: Project) -> None:
    """For as long as the job says; the items are not done, and resume runs them."""
    is_well = threading.Event()
    service = Noted(lambda noted, _received: WELL if len(noted.times) <= 10 or is_well.is_set() else Answer(status=502))
    with LoopbackServer(service) as server:
        work(project, server.url, options="breaker: {failures: 2, max_parked_seconds: 1}", parallelism=4)
        answer = project.batchrun("run", "job.yaml")
        assert (answer.code, project.record["status"], project.record["stop_reason"]) == (4, "paused", "rule")
        assert "has been out of order for 1 s, which is max_parked_seconds; its last failure: GET http" in project.record["error"]
        assert project.counters["failed_items"] == 0
        is_well.set()
        resumed = project.batchrun("resume")
    completed(project, resumed)
    assert max(service.paths.values()) <= 6


def test_rows_that_a_service_cannot_take_end_as_failed_and_stop_nobody(project: Project) -> None:
    """Without a breaker, and with one: a row that breaks the service each time is not tried for ever."""
    bad = {f"/ask/{item}" for item in (3, 58, 59)}
    service = Noted(lambda _noted, received: Answer(status=500) if received.path in bad else WELL)
    breaker = "breaker: {failures: 4, probe_initial_seconds: 0.01, probe_max_seconds: 0.01}"
    with LoopbackServer(service) as server:
        answer = work(project, server.url, options=breaker).batchrun("run", "job.yaml")
    assert answer.code == 3, answer.err
    assert (project.counters["completed_items"], project.counters["failed_items"]) == (ITEMS - 3, 3)
    assert all(count <= 3 + 21 for count in service.paths.values())


def parked(project: Project) -> Execution:
    """The execution, once it is seen that it has parked its service, and that nothing is on its way there."""
    folder: Path = project.executions[0]

    def is_parked() -> bool:
        state = Execution(folder).progress.resources.get("api")
        return state is not None and state["parked_at"] is not None and state["in_flight"] == 0

    until(is_parked)
    return Execution(folder)
