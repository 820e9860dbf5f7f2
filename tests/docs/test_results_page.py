"""The examples of docs/results.md do what the page says."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.test_docs import ROOT, blocks

PAGE = ROOT / "docs/results.md"


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the sample data and an execution of the job of the page."""
    for name in ("configs", "sample_data"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (job,) = [block.text for block in blocks(PAGE) if block.language == "yaml"]
    (tmp_path / "configs/page.yaml").write_text(job)
    monkeypatch.delenv("BATCHRUN_HOME", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def run(folder: Path, command: list[str]) -> str:
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_programs_of_the_page_run(user: Path) -> None:
    """A notebook user can paste them, one after another."""
    program = "\n".join(block.text for block in blocks(PAGE) if block.language == "python")
    printed = run(user, ["-W", "error", "-c", program])
    assert "'status_before': 'failed', 'status_after': 'completed'" in printed


def test_the_commands_of_the_page_work(user: Path) -> None:
    """The job writes the copies that the table names, and each line of the page does something with its result."""
    for _ in range(2):
        run(user, ["-m", "batchrun", "run", "configs/page.yaml", "--limit", "30"])
    latest = max((user / "runs").iterdir())
    assert {"results.csv", "results.ndjson", "partitions"} <= {path.name for path in latest.iterdir()}
    assert list((latest / "partitions").glob("country=*/status=completed/part-0.parquet"))
    first = min(path.name for path in (user / "runs").iterdir())
    for line in (line for block in blocks(PAGE) if block.language == "sh" for line in block.text.splitlines()):
        words = shlex.split(line.replace("20261101T0930", first).partition(" > ")[0])
        assert "Error" not in run(user, ["-m", *words])
    assert (user / "exports/results.csv").exists()
