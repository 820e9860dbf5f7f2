"""Every preset of the `remote` node against a service that has its routes, in every way a run can go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest

import batchrun
from batchrun.core.errors import ExecutionError
from batchrun.nodes.remote_presets import preset_names
from batchrun.testing.faulty_service import FaultyService, Run

PRESETS = ("eigenpal", "eigenpal-0.5", "flux", "noxus", "seeme")
SHAPES = ("completed", "failed", "cancelled", "rejected", "waiting", "unknown", "lost", "broken_polls")
WAITS = ("eigenpal", "eigenpal-0.5", "flux", "noxus")
REJECTS = ("eigenpal", "eigenpal-0.5")
WORKFLOWS = {"flux": "shop/triage", "eigenpal": "workflows.triage"}
JOB = """\
name: remote
dataset: {{path: items.parquet, id: id}}
secrets: [REMOTE_KEY]
resources: {{up: {{base_url: "{url}"}}}}
workflow:
  nodes:
    - id: go
      type: remote
      preset: {preset}
      resource: up
      workflow: {workflow}
      version: "7"
      api_key: "{{{{ secrets.REMOTE_KEY }}}}"
      payload: {{item: "{{{{ item.id }}}}", note: "script:{{{{ item.script }}}}"}}
      poll: {{initial_seconds: 0.01, max_seconds: 0.05}}
      {options}
run: {{parallelism: 16}}
output: {{path: runs}}
"""


class Done(NamedTuple):
    """What became of the items of an execution, and what the service saw."""

    folder: Path
    rows: dict[str, dict[str, Any]]
    runs: dict[str, list[Run]]

    def node(self, item: str) -> dict[str, Any]:
        """The only node execution of an item."""
        (node,) = self.rows[item]["node_executions"]
        return node  # type: ignore[no-any-return]


def write(folder: Path, service: FaultyService, preset: str, items: dict[str, str], options: str = "on_failure: stop") -> Path:
    """A job whose items go as their scripts tell."""
    pl.DataFrame({"id": list(items), "script": list(items.values())}).write_parquet(folder / "items.parquet")
    job = JOB.format(url=service.url_of(preset), preset=preset, workflow=WORKFLOWS.get(preset, "wf_1"), options=options)
    (folder / "job.yaml").write_text(job)
    return folder / "job.yaml"


def item_of(run: Run) -> str:
    value = json.loads(run.input) if isinstance(run.input, str) else run.input
    return str(value["item"])


def done(execution: batchrun.Execution, service: FaultyService, preset: str) -> Done:
    runs: dict[str, list[Run]] = {}
    for run in service.runs(preset):
        runs.setdefault(item_of(run), []).append(run)
    return Done(execution.folder, {row["source_item_id"]: row for row in execution.results.to_pylist()}, runs)


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Runs the items of all shapes through a preset, once."""
    with FaultyService(api_key="key-of-remote") as service, pytest.MonkeyPatch.context() as environment:
        environment.setenv("REMOTE_KEY", "key-of-remote")

        @cache
        def execute(preset: str) -> Done:
            # What a system has no state for goes on for ever there, as an unknown state does.
            shapes = {shape for shape in SHAPES if (shape != "rejected" or preset in REJECTS) and (shape != "waiting" or preset in WAITS)}
            job = write(tmp_path_factory.mktemp("remote"), service, preset, {shape: shape for shape in sorted(shapes)})
            return done(batchrun.execute(job), service, preset)

        yield execute


def test_there_are_tests_for_every_preset() -> None:
    """A preset that nobody has tried is a promise."""
    assert preset_names() == PRESETS


@pytest.mark.parametrize("preset", PRESETS)
def test_a_run_that_ends_well_gives_its_output(executed: Any, preset: str) -> None:
    """The input arrives, the version is pinned, the output is that of the run, and the record names it."""
    there: Done = executed(preset)
    (run,) = there.runs["completed"]
    value = {"item": "completed", "note": "script:completed"}
    sent = json.dumps(value, separators=(",", ":")) if preset == "seeme" else value
    assert (run.input, run.version, run.workflow) == (sent, "7", WORKFLOWS.get(preset, "wf_1"))
    row = there.rows["completed"]
    assert (row["status"], json.loads(row["output"])) == ("completed", {"echo": sent})
    node = there.node("completed")
    assert (node["external_id"], json.loads(node["input"]), node["attempts"]) == (run.id, {"payload": value}, 1)


@pytest.mark.parametrize(
    ("preset", "shape", "error"),
    [
        *((preset, "failed", "RemoteFailed") for preset in PRESETS),
        *((preset, "cancelled", "RemoteCancelled") for preset in PRESETS),
        *((preset, "rejected", "RemoteRejected") for preset in REJECTS),
    ],
)
def test_a_run_that_ends_badly_fails_its_item(executed: Any, preset: str, shape: str, error: str) -> None:
    """The error says which run it was and why, and no second run is paid for."""
    there: Done = executed(preset)
    (run,) = there.runs[shape]
    row = there.rows[shape]
    assert (row["status"], row["error"]["type"], row["error"]["retryable"]) == ("failed", error, False)
    assert row["error"]["message"].startswith(f"run {run.id} ended as ")
    if shape == "failed":
        expected = "and the service does not say why" if preset == "noxus" else "the run failed as its script says"
        assert row["error"]["message"].endswith(expected)
    assert there.node(shape)["external_id"] == run.id


@pytest.mark.parametrize("preset", PRESETS)
def test_an_unknown_state_means_that_the_run_goes_on(executed: Any, preset: str) -> None:
    """A service that learns a new word must not fail items whose runs are well."""
    there: Done = executed(preset)
    (run,) = there.runs["unknown"]
    assert (there.rows["unknown"]["status"], run.polls >= 3) == ("completed", True)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_submit_whose_answer_got_lost_is_not_sent_again(executed: Any, preset: str) -> None:
    """The run may be under way: a second one would do, and cost, everything twice."""
    there: Done = executed(preset)
    assert len(there.runs["lost"]) == 1
    row = there.rows["lost"]
    assert (row["error"]["type"], row["attempts"]) == ("SubmitInDoubt", 1)
    assert "on_lost_submit: resubmit" in row["error"]["message"]


@pytest.mark.parametrize("preset", PRESETS)
def test_errors_of_polls_cost_the_item_nothing(executed: Any, preset: str) -> None:
    """The run goes on over there, whatever a poll is answered."""
    there: Done = executed(preset)
    (run,) = there.runs["broken_polls"]
    row = there.rows["broken_polls"]
    assert (row["status"], row["attempts"], run.polls >= 4) == ("completed", 1, True)


@pytest.mark.parametrize("preset", WAITS)
def test_a_run_that_waits_for_a_person_parks_its_item(executed: Any, preset: str) -> None:
    """Nothing is lost and nothing polled while a person sleeps; deciding is done where the question was asked."""
    there: Done = executed(preset)
    (run,) = there.runs["waiting"]
    assert there.rows["waiting"]["status"] == "waiting"
    execution = batchrun.Execution(there.folder)
    assert execution.status == "waiting"
    (item,) = execution.waiting_items()
    assert (item.id, item.node_id, item.shown["run_id"]) == ("waiting", "go", run.id)
    with pytest.raises(ExecutionError, match="waits at node go for a person at its service"):
        execution.approve()


@pytest.mark.parametrize("preset", PRESETS)
def test_a_run_that_takes_too_long_is_cancelled_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str) -> None:
    """Nobody waits for it any more, so nobody should pay for it; what came of cancelling it is told."""
    monkeypatch.setenv("REMOTE_KEY", "key-of-remote")
    with FaultyService(api_key="key-of-remote") as service:
        job = write(tmp_path, service, preset, {"slow": "never"}, "timeout_seconds: 2")
        there = done(batchrun.execute(job), service, preset)
    (run,) = there.runs["slow"]
    assert (run.cancels, run.state) == (1, "cancelled")
    row = there.rows["slow"]
    assert (row["error"]["type"], row["attempts"]) == ("Timeout", 1)
    assert row["error"]["message"].endswith(f"run {run.id} was cancelled")
    assert there.node("slow")["external_id"] == run.id


@pytest.mark.parametrize("preset", WAITS)
def test_a_resume_asks_what_has_come_of_the_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str) -> None:
    """The item goes on with the run it has, as soon as the person has decided over there."""
    monkeypatch.setenv("REMOTE_KEY", "key-of-remote")
    with FaultyService(api_key="key-of-remote") as service:
        execution = batchrun.execute(write(tmp_path, service, preset, {"asked": "waiting"}))
        execution = batchrun.resume(execution.folder)
        assert execution.status == "waiting"  # asked again, and nobody had decided
        (run,) = service.runs(preset)
        run.resumes += 1
        there = done(batchrun.resume(execution.folder), service, preset)
    assert there.rows["asked"]["status"] == "completed"
    assert (len(there.runs["asked"]), there.node("asked")["external_id"]) == (1, run.id)
