from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from batchrun.testing.faulty_service import Faults, FaultyService, Script


@dataclass(frozen=True, kw_only=True)
class Wire:
    """How a system is spoken to."""

    submit: str
    body: Callable[[Any], Any]
    run_id: str
    poll: str
    status: Callable[[Any], Any]
    cancel: tuple[str, str]
    output: Callable[[Any], Any]
    words: dict[str, str]


SYSTEMS = {
    "noxus": Wire(
        submit="/v1/workflows/w/runs", body=lambda value: {"input": {"v": value}}, run_id="id", poll="/v1/workflows/w/runs/{}",
        status=lambda told: told["status"], cancel=("POST", "/v1/runs/{}/stop"), output=lambda told: told["output"],
        words={"waiting": "awaiting_human_feedback", "stopped": "stopped"},
    ),
    "seeme": Wire(
        submit="/workflows/w/execute", body=lambda value: {"input_mode": "single", "single_input": json.dumps({"v": value})},
        run_id="execution_id", poll="/workflows/w/executions/{}", status=lambda told: told["status"],
        cancel=("POST", "/workflows/w/executions/{}/cancel"), output=lambda told: told["results"][0]["output"], words={},
    ),
    "eigenpal": Wire(
        submit="/v1/runs", body=lambda value: {"target": "workflows.w", "input": {"v": value}}, run_id="id", poll="/v1/runs/{}",
        status=lambda told: told["execution"]["status"], cancel=("POST", "/v1/runs/{}/cancel"),
        output=lambda told: told["output"], words={},
    ),
    "eigenpal-0.5": Wire(
        submit="/api/v1/workflows/w/run", body=lambda value: {"input": {"v": value}}, run_id="executionId",
        poll="/api/v1/workflows/executions/{}", status=lambda told: told["status"],
        cancel=("POST", "/api/v1/workflows/executions/{}/cancel"), output=lambda told: told["result"], words={},
    ),
    "flux": Wire(
        submit="/workflows/ns/w/run/async", body=lambda value: {"v": value}, run_id="execution_id", poll="/executions/{}",
        status=lambda told: told["state"], cancel=("GET", "/workflows/ns/w/cancel/{}"), output=lambda told: told["output"],
        words={
            "completed": "COMPLETED", "failed": "FAILED", "cancelled": "CANCELLED", "stopped": "CANCELLED", "waiting": "PAUSED",
            "rejected": "REJECTED", "running": "RUNNING", "archiving": "ARCHIVING",
        },
    ),
}  # fmt: skip


class Spoken:
    """One system of a service, spoken to."""

    def __init__(self, service: FaultyService, name: str) -> None:
        self.service, self.name, self.wire = service, name, SYSTEMS[name]
        self.client = httpx.Client(base_url=service.url_of(name))

    def submitted(self, value: Any) -> str:
        answer = self.client.post(self.wire.submit, json=self.wire.body(value))
        assert answer.is_success, answer.text
        return str(answer.json()[self.wire.run_id])

    def polled(self, run_id: str) -> Any:
        return self.client.get(self.wire.poll.format(run_id))

    def states(self, run_id: str, count: int) -> list[str]:
        return [self.wire.status(self.polled(run_id).json()) for _ in range(count)]

    def word(self, state: str) -> str:
        return self.wire.words.get(state, "cancelled" if state == "stopped" else state)


@pytest.fixture(params=SYSTEMS)
def spoken(request: pytest.FixtureRequest) -> Iterator[Spoken]:
    with FaultyService() as service:
        spoken = Spoken(service, request.param)
        yield spoken
        spoken.client.close()


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled", "rejected", "waiting"])
def test_runs_end_as_their_input_says(spoken: Spoken, end: str) -> None:
    """Each end a run can have is tried by a value of an item, in the words of its system, and stays what it is."""
    run_id = spoken.submitted(f"please: script:{end}")
    assert spoken.states(run_id, 3) == [spoken.word("running"), spoken.word(end), spoken.word(end)]
    (run,) = spoken.service.runs(spoken.name)
    assert (run.submits, run.polls, run.cancels, run.state) == (1, 3, 0, end)


def test_a_run_that_completed_has_the_output_of_its_script(spoken: Spoken) -> None:
    """An output is found where its system has it."""
    run_id = spoken.submitted({"script": {"states": [], "output": {"label": "bug"}}})
    assert spoken.wire.output(spoken.polled(run_id).json()) == {"label": "bug"}


def test_unknown_states_are_passed_through(spoken: Spoken) -> None:
    """A state that nobody has heard of comes before the end, as a system that was extended would tell it."""
    run_id = spoken.submitted({"script": "unknown"})
    assert spoken.states(run_id, 3) == [spoken.word("archiving"), spoken.word("archiving"), spoken.word("completed")]


def test_a_lost_submit_has_started_its_run(spoken: Spoken) -> None:
    """The answer is lost, the run is not: what submits again makes a second one, and the service has seen both."""
    with pytest.raises(httpx.ReadError):
        spoken.submitted({"script": "lost"})
    assert [run.submits for run in spoken.service.runs(spoken.name)] == [1]
    spoken.submitted({"script": "lost"})
    assert [run.submits for run in spoken.service.runs(spoken.name)] == [1, 2]


def test_polls_stumble_and_recover(spoken: Spoken) -> None:
    """Errors while polling are over before the run ends, and hide no state."""
    run_id = spoken.submitted({"script": {"poll_errors": 2, "poll_error_status": 502}})
    assert [spoken.polled(run_id).status_code for _ in range(3)] == [502, 502, 200]
    assert spoken.states(run_id, 1) == [spoken.word("completed")]


@pytest.mark.parametrize("listens", [True, False])
def test_cancels_take_effect_or_are_ignored(spoken: Spoken, *, listens: bool) -> None:
    """A run that never ends can be cancelled, unless its script says that it does not listen; both are counted."""
    run_id = spoken.submitted({"script": {"ends": "never", "ignores_cancel": not listens}})
    assert spoken.states(run_id, 4) == [spoken.word("running")] * 4
    method, path = spoken.wire.cancel
    assert spoken.client.request(method, path.format(run_id)).is_success
    assert spoken.states(run_id, 1) == [spoken.word("stopped" if listens else "running")]
    assert spoken.service.runs(spoken.name)[0].cancels == 1


def test_runs_are_counted_by_item(spoken: Spoken) -> None:
    """Whether an item was submitted twice is seen by its field `item`, whatever else its input holds."""
    for n in range(2):
        spoken.submitted({"item": "A17", "n": n})
    spoken.submitted({"item": "A18"})
    assert [(run.item, run.submits) for run in spoken.service.runs()] == [("A17", 1), ("A17", 2), ("A18", 1)]
    listed = httpx.get(f"{spoken.service.url}/_runs?system={spoken.name}").json()
    assert [run["submits"] for run in listed] == [1, 2, 1]


def test_unknown_runs_routes_and_scripts_are_refused(spoken: Spoken) -> None:
    """A preset that asks for the wrong thing is told so instead of being echoed."""
    assert spoken.polled("run_99").status_code == 404
    assert spoken.client.get("/no/such/route").status_code == 404
    assert spoken.client.post(spoken.wire.submit, json=spoken.wire.body("script:whatever")).status_code == 400
    assert spoken.client.post(spoken.wire.submit, content=b"no json").status_code == 400


def test_scripts_are_set_for_all_runs() -> None:
    """A user tries a whole dataset against failing runs without touching it; from Python and over the wire."""
    with FaultyService(script=Script(states=(), ends="failed")) as service:
        flux = Spoken(service, "flux")
        assert flux.states(flux.submitted(1), 1) == ["FAILED"]
        assert httpx.put(f"{service.url}/_script", json={"states": [], "ends": "waiting"}).json()["ends"] == "waiting"
        assert flux.states(flux.submitted(1), 1) == ["PAUSED"]
        service.set_script(Script(run_seconds=3600))
        assert flux.states(flux.submitted(1), 4) == ["RUNNING"] * 4
        flux.client.close()


@pytest.mark.parametrize(("events", "statuses"), [("yes", ["running", "completed"]), ("early", ["running"])])
def test_noxus_tells_events_until_the_end(events: str, statuses: list[str]) -> None:
    """A stream tells the end of a run, or breaks off before it, and polls go on from there."""
    with FaultyService() as service:
        noxus = Spoken(service, "noxus")
        run_id = noxus.submitted({"script": {"events": events}})
        lines = noxus.client.get(f"/v1/runs/{run_id}/events").text.splitlines()
        told = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
        assert [event["data"]["workflow_status"] for event in told] == statuses
        assert noxus.states(run_id, 2)[-1] == "completed"
        assert service.runs("noxus")[0].streams == 1
        absent = noxus.submitted({"script": {"events": "absent"}})
        assert noxus.client.get(f"/v1/runs/{absent}/events").status_code == 404
        noxus.client.close()


def test_flux_streams_holds_resumes_and_tells_failures() -> None:
    """The modes of the server: a stream, a held answer, a resume of what waits and of nothing else, no cancel of what ended."""
    with FaultyService() as service, httpx.Client(base_url=service.url_of("flux")) as client:
        streamed = client.post("/workflows/ns/w/run/stream", json="hi").text
        assert [line for line in streamed.splitlines() if line.startswith("event: ")] == [
            "event: w.execution.running",
            "event: w.execution.completed",
        ]
        held = client.post("/workflows/ns/w/run/sync", json={"script": "failed"}).json()
        assert (held["state"], held["output"]["type"]) == ("FAILED", "RuntimeError")
        assert client.get(f"/workflows/ns/w/cancel/{held['execution_id']}").status_code == 400
        assert client.post(f"/workflows/ns/w/resume/{held['execution_id']}/async", json={}).status_code == 409
        paused = client.post("/workflows/ns/w/run/async", json={"script": {"states": [], "ends": "waiting"}}).json()
        assert paused["state"] == "PAUSED"
        assert client.post(f"/workflows/ns/w/resume/{paused['execution_id']}/sync", json={}).json()["state"] == "COMPLETED"
        assert client.get("/executions?state=FAILED").json()["total"] == 1
        assert client.get(f"/executions/{held['execution_id']}?detailed=true").json()["events"][0]["type"] == "WORKFLOW_FAILED"


def test_faults_meet_the_routes_of_systems_too() -> None:
    """Polls are throttled like any request when the faults say so."""
    with FaultyService(Faults(statuses={429: 1.0}, paths="*/runs/run_*")) as service:
        noxus = Spoken(service, "noxus")
        assert noxus.polled(noxus.submitted(1)).status_code == 429
        noxus.client.close()
