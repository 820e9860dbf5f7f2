"""What a retry promises: failed items again into the same result, as often as wanted, whatever happened before and in between."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import batchrun
from batchrun import Execution, JobError
from tests.e2e.conftest import Project
from tests.e2e.moody import JOB, Moods, moods

ITEMS = 6


@pytest.fixture
def mood(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Moods]:
    """A job of four nodes in the working directory, whose functions do what the test says."""
    monkeypatch.chdir(project.folder)
    project.write("job.yaml", JOB)
    project.table("data.parquet", {"id": [f"item {at}" for at in range(ITEMS)], "size": range(ITEMS), "ordinal": [7] * ITEMS})
    moods.reset()
    yield moods
    moods.reset()


def run(**overrides: Any) -> Execution:
    return batchrun.execute("job.yaml", {name.replace("__", "."): value for name, value in overrides.items()}, quiet=True)


def retry(execution: Execution, where: str | None = None, **options: Any) -> Execution:
    retried = batchrun.retry(execution.folder, where, quiet=True, **options)
    assert retried is not None
    assert retried.results["item_index"].to_pylist() == list(range(retried.results.num_rows))
    return retried


def resume(execution: Execution, **overrides: Any) -> Execution:
    resumed = batchrun.resume(execution.folder, {name.replace("__", "."): value for name, value in overrides.items()}, quiet=True)
    assert resumed is not None
    return resumed


def column(execution: Execution, name: str) -> list[Any]:
    values: list[Any] = execution.results[name].to_pylist()
    return values


def of_all(*nodes: str) -> list[str]:
    return sorted(f"{node} {size}" for node in nodes for size in range(ITEMS))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock"}


@pytest.mark.parametrize("recording", ["full", "summary", "none"])
def test_everything_may_be_run_again_as_often_as_wanted(mood: Moods, recording: str) -> None:
    """Attempts of items and nodes add up over all retries, each retry has call keys of its own, completed nodes are called once."""
    mood.troubles["judge", -1] = ConnectionError("not now")
    execution = run(output__node_executions=recording, run__retry__max_attempts=2)
    assert mood.take() == of_all("fetch", "guess", "join", "judge", "judge")
    keys = []
    for again in range(1, 4):
        execution = retry(execution)
        assert (execution.status, execution.progress.failed_items) == ("completed", ITEMS)
        assert column(execution, "attempts") == [2 + 2 * again] * ITEMS
        assert {(call.node, call.attempt) for call in mood.made} == {
            ("judge", 1 + 2 * again),
            ("judge", 2 + 2 * again),
        } or recording == "none"
        keys += [{call.key for call in mood.made if call.size == size} for size in range(ITEMS)]
        assert mood.take() == of_all("judge", "judge")
    assert len(set.union(*keys)) == len(keys) == 3 * ITEMS
    mood.troubles.clear()
    execution = retry(execution)
    assert mood.take() == of_all("judge")
    assert column(execution, "attempts") == [9] * ITEMS
    assert column(execution, "output") == [f"{size} by guess {size} is fine" for size in range(ITEMS)]
    assert column(execution, "ordinal") == [7] * ITEMS
    attempts = [[node["attempts"] for node in nodes] for nodes in column(execution, "node_executions")]
    assert attempts == [[] if recording == "none" else [1, 1, 1, 9]] * ITEMS
    assert batchrun.retry(execution.folder, quiet=True) is None


@pytest.mark.parametrize("on_failure", ["continue", {"default": "nothing"}])
def test_nodes_that_failed_and_were_tolerated_run_again_with_all_after_them(mood: Moods, on_failure: Any) -> None:
    """A retry makes good what the item had gone on without; no output made from the substitute is ever mixed in, however often it fails."""
    mood.troubles |= {
        ("guess", -1): ConnectionError("not now"),
        ("judge", 2): LookupError("no judge"),
        ("judge", 3): LookupError("no judge"),
    }
    execution = run(workflow__nodes__guess__on_failure=on_failure)
    assert [execution.progress.failed_items, column(execution, "output")[0]] == [
        2,
        f"0 by {'nothing' if on_failure != 'continue' else None} is fine",
    ]
    mood.take()
    mood.troubles = {("join", 2): LookupError("cannot join"), ("judge", 3): LookupError("no judge")}
    execution = retry(execution)
    assert mood.take() == ["guess 2", "guess 3", "join 2", "join 3", "judge 3"]
    mood.troubles.clear()
    execution = retry(execution)
    assert mood.take() == ["join 2", "judge 2", "judge 3"]
    assert column(execution, "output")[2:4] == ["2 by guess 2 is fine", "3 by guess 3 is fine"]
    nodes = column(execution, "node_executions")
    assert [[node["attempts"] for node in nodes[size]] for size in (2, 3)] == [[1, 2, 3, 2], [1, 2, 2, 3]]


def test_a_choice_is_made_by_sql_over_the_columns_of_the_result(mood: Moods) -> None:
    """Whatever is in the result can be asked for: errors, nodes, attempts, ids and kept columns."""
    mood.troubles |= {("fetch", 0): ConnectionError("cut off"), ("join", 1): ConnectionError("cut off"), ("judge", 2): ValueError("bad")}
    mood.troubles |= {("judge", 3): LookupError("no judge")}
    execution = run()
    mood.take()
    attempts = [1] * ITEMS
    for where, chosen in {
        "error.type = 'ConnectionError'": [0, 1],
        "error.type = 'ConnectionError' AND error.node_id = 'join'": [1],
        "error.node_id = 'judge' OR source_item_id = 'item 0'": [0, 2, 3],
        "attempts = 3": [0, 1],
        "attempts < 2": [],
        "attempts < 3 AND error.retryable": [2, 3],
        "source_item_id IN ('item 3', 'item 4')": [3],
        "size BETWEEN 1 AND 2 AND status = 'failed'": [1, 2],
        "error.message LIKE '%judge' OR item_index = 5": [3],
        "array_length(node_executions) = 1": [0],
        "true": [0, 1, 2, 3],
    }.items():
        assert (batchrun.retry(execution.folder, where, quiet=True) is None) is (not chosen), where
        assert sorted({int(call.rpartition(" ")[2]) for call in mood.take()}) == chosen, where
        attempts = [count + (size in chosen) for size, count in enumerate(attempts)]
        assert batchrun.Execution(execution.folder).results["attempts"].to_pylist() == attempts
    before = files(execution.folder)
    for where in (
        "attempts = MAX(attempts)",
        "ROW_NUMBER() OVER (ORDER BY attempts) = 1",
        "size IN (SELECT 1)",
        "error.tipe = 'x'",
        "size + 1",
    ):
        with pytest.raises(JobError, match="cannot be used"):
            batchrun.retry(execution.folder, where, quiet=True)
    assert files(execution.folder) == before


def test_from_start_keeps_nothing_that_was_made_before(mood: Moods) -> None:
    """All nodes of the chosen items are called again; a retry after that goes on from what this one made."""
    mood.troubles["judge", 1] = mood.troubles["judge", 4] = LookupError("no judge")
    execution = run()
    mood.take()
    execution = retry(execution, "size = 1", from_start=True)
    assert mood.take() == ["fetch 1", "guess 1", "join 1", "judge 1"]
    execution = retry(execution)
    assert mood.take() == ["judge 1", "judge 4"]
    assert column(execution, "attempts") == [1, 3, 1, 1, 2, 1]
    assert [node["attempts"] for node in column(execution, "node_executions")[1]] == [2, 2, 2, 3]


def test_failures_that_are_left_count_for_the_policy(mood: Moods) -> None:
    """What was mended counts no more: a stopped execution goes on as soon as few enough failures are left."""
    mood.troubles["judge", -1] = LookupError("no judge")
    execution = run(run__failure_policy__max_failures=2, run__parallelism=1)
    assert (execution.status, execution.stop_reason, execution.progress.failed_items) == ("failed", "failure_policy", 3)
    mood.troubles = {("judge", 1): LookupError("no judge"), ("judge", 5): LookupError("no judge")}
    mood.take()
    execution = retry(execution, "size < 2")
    assert (execution.status, execution.stop_reason, mood.take()) == ("paused", "user", ["judge 0", "judge 1"])
    assert [str(status) for status in column(execution, "status")] == [
        "completed",
        "failed",
        "failed",
        "cancelled",
        "cancelled",
        "cancelled",
    ]
    execution = resume(execution)
    assert (execution.status, execution.stop_reason, execution.progress.failed_items) == ("failed", "failure_policy", 3)
    execution = retry(execution, "size = 2")
    assert (execution.status, execution.has_succeeded, execution.progress.failed_items) == ("completed", False, 2)


def test_budgets_count_on(mood: Moods) -> None:
    """A retry spends what is left and no more; items it was stopped before stay open, and a larger budget finishes them."""
    mood.troubles["judge", -1] = LookupError("no judge")
    execution = run(run__budget__max_calls=4 * ITEMS + 2)
    assert execution.status == "completed"
    mood.take()
    execution = retry(execution)
    assert (execution.status, execution.stop_reason, len(mood.take())) == ("paused", "budget", 2)
    assert sorted(map(str, column(execution, "status"))) == ["cancelled"] * (ITEMS - 2) + ["failed"] * 2
    mood.troubles.clear()
    execution = resume(execution, run__budget__max_calls=100)
    assert (execution.status, execution.progress.failed_items, len(mood.take())) == ("completed", 2, ITEMS - 2)
    assert sorted(column(execution, "attempts")) == [2] * ITEMS
    assert retry(execution).has_succeeded
    assert [node["attempts"] for node in column(batchrun.Execution(execution.folder), "node_executions")[0]][:3] == [1, 1, 1]


def test_a_changed_dataset_is_refused_and_changes_nothing(mood: Moods, project: Project) -> None:
    """Rows of other items under the ids of these would be wrong in silence."""
    mood.troubles["judge", -1] = LookupError("no judge")
    execution = run()
    mood.take()
    before = files(execution.folder)
    project.table("data.parquet", {"id": [f"item {at}" for at in range(ITEMS)], "size": range(1, ITEMS + 1), "ordinal": [7] * ITEMS})
    with pytest.raises(JobError, match=r"data\.parquet changed"):
        retry(execution)
    for change, sentence in {"run.durable": "run.durable", "dataset.limit": "dataset.limit changed", "output.keep": "columns"}.items():
        value: Any = {"run.durable": False, "dataset.limit": 3, "output.keep": ["size"]}[change]
        project.table("data.parquet", {"id": [f"item {at}" for at in range(ITEMS)], "size": range(ITEMS), "ordinal": [7] * ITEMS})
        with pytest.raises(JobError, match=sentence):
            retry(execution, overrides={change: value})
    assert (files(execution.folder), mood.take()) == (before, [])


def test_a_copied_folder_is_retried_without_the_original(mood: Moods, project: Project) -> None:
    """An execution is its folder: what is mended in a copy is mended there alone, also in the place of another."""
    mood.troubles["judge", 2] = LookupError("no judge")
    execution = run()
    copy = shutil.copytree(execution.folder, project.folder / "elsewhere" / "copy")
    before = files(execution.folder)
    mood.troubles.clear()
    mood.take()
    assert batchrun.Execution(copy).progress.failed_items == 1
    retried = batchrun.retry(copy, quiet=True)
    assert retried is not None and retried.has_succeeded
    assert (mood.take(), files(execution.folder)) == (["judge 2"], before)
    assert retry(execution).has_succeeded
    assert mood.take() == ["judge 2"]


def test_what_has_not_begun_has_nothing_to_retry(mood: Moods) -> None:
    """A retry never runs items that have not failed, not even those of an execution that waits for its process."""
    execution = run()
    assert batchrun.retry(execution.folder, quiet=True) is None
    record = json.loads((execution.folder / "execution.json").read_text())
    pending = execution.folder.parent / "pending"
    pending.mkdir()
    (pending / "execution.json").write_text(
        json.dumps({**record, "status": "pending", "states": [{**record["states"][0], "status": "pending"}]})
    )
    mood.take()
    assert batchrun.retry(pending, quiet=True) is None
    assert (mood.take(), json.loads((pending / "execution.json").read_text())["status"]) == ([], "pending")
