"""Retries, and resumes of retries, that die at any of their writes: nothing is lost, and nothing is done twice that had ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import batchrun
from batchrun import Execution
from batchrun.results.journal import AGAIN, frames
from tests.e2e.conftest import PATIENCE_SECONDS, Project
from tests.e2e.dying import JOB, calls, copy_of, log_of

ITEMS = 9
FAILED = [size for size in range(ITEMS) if size % 4]


@pytest.fixture
def failed(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an execution that completed with failed items."""
    monkeypatch.chdir(project.folder)
    project.write("job.yaml", JOB)
    project.table("data.parquet", {"id": [f"item {at}" for at in range(ITEMS)], "size": range(ITEMS)})
    monkeypatch.setenv("DOWN", "")
    monkeypatch.setenv("CALLS", str(project.folder / "calls"))
    execution = batchrun.execute("job.yaml", quiet=True)
    assert (execution.status, execution.progress.failed_items) == ("completed", len(FAILED))
    (project.folder / "calls").rename(log_of(execution.folder))
    monkeypatch.delenv("DOWN")
    return execution.folder


def all_that_died(action: str, folder: Path) -> list[Path]:
    """Copies of the execution, whose runners died at one write after the other; the last one did not."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONWARNINGS": "ignore"}  # of forks
    command = [sys.executable, "-m", "tests.e2e.dying", action, str(folder)]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, process.stderr
    return [folder.with_name(f"{folder.name}-{write}") for write in range(1, 1 + int(process.stdout))]


def has_chosen(folder: Path) -> bool:
    """Whether a retry has written down which items it runs again."""
    return any(frame.kind == AGAIN for path in folder.glob("journal/*.journal") for frame in frames(memoryview(path.read_bytes())))


def finished(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Execution:
    """The execution, once it was resumed, and retried where the retry had not begun."""
    monkeypatch.setenv("CALLS", str(log_of(folder)))
    is_chosen, execution = has_chosen(folder), Execution(folder)
    assert execution.status in ("interrupted", "completed")
    execution = batchrun.resume(folder, quiet=True) or execution
    assert (execution.status, execution.progress.failed_items) == ("completed", 0 if is_chosen else len(FAILED))
    return execution if is_chosen else batchrun.retry(folder, quiet=True) or execution


def check(execution: Execution, before: Counter[str], kills: int) -> None:
    """One row per item; what had ended before was not called again, and of the rest only what each kill may cost."""
    assert execution.has_succeeded
    rows = execution.results
    assert rows["item_index"].to_pylist() == list(range(ITEMS))
    assert rows["output"].to_pylist() == list(range(ITEMS))
    assert rows["attempts"].to_pylist() == [2 if size in FAILED else 1 for size in range(ITEMS)]
    new = calls(execution.folder) - before
    assert new.keys() == {f"judge {size}" for size in FAILED}
    assert max(new.values()) <= 1 + kills
    assert batchrun.resume(execution.folder, quiet=True) is None
    assert batchrun.retry(execution.folder, quiet=True) is None
    assert calls(execution.folder) - before == new


def test_a_retry_that_dies_at_any_write_is_finished_by_a_resume(failed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its choice is on the disk, nothing has happened; from then on the chosen items are run, and so is a resume of that."""
    before, folders = calls(failed), all_that_died("retry", failed)
    choices = [has_chosen(folder) for folder in folders]
    assert choices == sorted(choices) and 3 < sum(choices) < len(choices) - 3
    in_between = copy_of(folders[choices.index(True) + 2], "again")
    for folder in folders:
        check(finished(folder, monkeypatch), before, kills=1)
    for folder in all_that_died("resume", in_between):
        check(finished(folder, monkeypatch), before, kills=2)
