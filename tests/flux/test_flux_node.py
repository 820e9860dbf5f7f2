"""The `flux` node, with the real library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

from batchrun.core.errors import JobError
from batchrun.core.items import ItemResult
from batchrun.core.job import Run
from batchrun.core.policies import Backoff, Retry
from batchrun.nodes.flux import FluxNode
from batchrun.testing.rows import RowRun

pytest.importorskip("flux", reason="make test runs these in an environment with Python 3.12 or newer")

from tests.flux import flux_parts

ONCE = Retry(max_attempts=1)


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is counted yet; and whatever Flux would write goes into a folder of the test."""
    flux_parts.calls.clear()
    flux_parts.moods.clear()
    monkeypatch.chdir(tmp_path)


def ran(workflow: Any, count: int = 1, run: Run = Run(retry=ONCE), **options: Any) -> list[ItemResult]:
    node = FluxNode(id="flow", workflow=workflow, **({"inputs": {"n": "{{ item.n }}"}} | options))
    return RowRun(nodes=(node,), run=run).results_virtually([{"n": n} for n in range(count)])


def output(result: ItemResult) -> Any:
    assert result.status == "completed", result.error
    return orjson.loads(result.output)


@pytest.mark.parametrize("placement", ["auto", "loop", "thread"])
def test_a_workflow_runs_wherever_it_is_placed(placement: Any, tmp_path: Path) -> None:
    """And writes nothing into Flux's database."""
    assert [output(result) for result in ran(flux_parts.doubled, count=3, placement=placement)] == [{"doubled": 2 * n} for n in range(3)]
    assert list(tmp_path.rglob("*.db")) == []


def test_a_workflow_in_a_process_gives_the_same() -> None:
    """As one call, in a worker, where nobody can be asked."""
    nodes = [
        FluxNode(id="f", workflow=f"tests.flux.flux_parts:{name}", placement="process", inputs={"n": "{{ item.n }}"})
        for name in ("doubled", "asking")
    ]
    results = [anyio.run(RowRun(nodes=(node,), run=Run(retry=ONCE)).results, [{"n": 4}])[0] for node in nodes]
    assert output(results[0]) == {"doubled": 8}
    assert results[1].error is not None and results[1].error.type == "CannotWait"


def test_without_inputs_the_workflow_gets_the_input_itself() -> None:
    """Not a mapping around it."""
    assert output(ran(flux_parts.single, inputs={})[0]) == {"n": 0}


def test_items_at_the_same_time_do_not_mix() -> None:
    """A workflow writes down in itself which run it is in: with an output storage, all items would get the last one's output."""
    results = ran(flux_parts.shelved, count=50, run=Run(parallelism=50, retry=ONCE))
    assert [output(result)["doubled"] for result in results] == [2 * n for n in range(50)]


def test_a_failure_is_what_the_task_raised() -> None:
    """Not the library's wrapping, which has no text; the task is named, after its own retries."""
    (result,) = ran(flux_parts.failing, placement="loop")
    assert result.error is not None
    assert (result.error.type, result.error.message) == ("LookupError", "task broken: no customer 0")
    assert flux_parts.calls == ["broken"] * 3


def test_what_the_workflow_itself_raises_is_told_as_it_is() -> None:
    """No task is to blame."""
    (result,) = ran(flux_parts.own_failure)
    assert result.error is not None and (result.error.type, result.error.message) == ("PermissionError", "keep out")


def test_tasks_that_completed_are_not_run_again_by_a_retry() -> None:
    """A failed execution of Flux stays failed; ours goes on at the task that failed, and equal calls stay different calls."""
    flux_parts.moods.extend([False, True, True])
    retry = Retry(max_attempts=3, backoff=Backoff(initial_seconds=1, max_seconds=1))
    (result,) = ran(flux_parts.again, retry=retry, placement="loop")
    assert output(result) == [0, "well", 2, 2]
    assert flux_parts.calls == ["double 0", "moody", "moody", "moody", "double 1", "double 1"]
    assert result.nodes[0][2] == 3


def test_a_workflow_that_hangs_ends_at_the_deadline() -> None:
    """Its task is cancelled, and may tidy up."""
    (result,) = ran(flux_parts.hanging, timeout_seconds=5, placement="loop")
    assert result.error is not None and result.error.type == "Timeout"
    assert flux_parts.calls == ["left"]


def test_a_pause_waits_for_a_person() -> None:
    """In threads, too."""
    assert [ran(flux_parts.asking, placement=placement)[0].status for placement in ("loop", "thread")] == ["waiting"] * 2


def test_outputs_are_plain_values() -> None:
    """What cannot be written down fails its item."""
    results = ran(flux_parts.odd, count=2)
    assert output(results[0]) == [1, 2]
    assert results[1].error is not None and "cannot be written as JSON" in results[1].error.message


def test_tasks_can_be_told_with_the_output() -> None:
    """Name, status and duration of each."""
    told = output(ran(flux_parts.doubled, with_tasks=True)[0])
    assert told["output"] == {"doubled": 0}
    assert [(task["name"], task["status"]) for task in told["tasks"]] == [("double", "completed")]
    assert told["tasks"][0]["duration_ms"] >= 0


def test_approvals_of_flux_fail_loudly() -> None:
    """They need its server: an item must not wait for something that nobody can give."""
    (result,) = ran(flux_parts.gated)
    assert result.error is not None and result.error.type == "TransientDurabilityError"


def test_a_workflow_with_plain_tasks_leaves_the_event_loop() -> None:
    """One blocking task would hold up all items. Those of the module count, called or not."""
    assert output(ran(flux_parts.where)[0]) is False
    assert output(ran(flux_parts.where, placement="loop")[0]) is True


@pytest.mark.parametrize(
    ("workflow", "message"),
    [("tests.flux.flux_parts", "must be module:name"), ("tests.flux.flux_parts:double", "of type task"), ("nowhere:x", "no module")],
)
def test_what_is_no_workflow_is_refused_before_the_first_item(workflow: str, message: str) -> None:
    """With what it is, and what it must be."""
    with pytest.raises(JobError, match=message):
        ran(workflow)
