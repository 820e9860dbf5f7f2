"""The commands and the program of docs/schedules.md do what the page says."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from batchrun.core.schedules import Firing, Schedule
from batchrun.scheduler.hooks import details
from tests.docs.test_docs import ROOT, blocks

PAGE = ROOT / "docs/schedules.md"


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the sample data and a list of its own."""
    for name in ("configs", "sample_data"):
        shutil.copytree(ROOT / name, tmp_path / name)
    monkeypatch.delenv("BATCHRUN_HOME", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def run(folder: Path, command: list[str]) -> str:
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_commands_of_the_page_work_in_their_order(user: Path) -> None:
    """Each line does what its comment says."""
    commands = [shlex.split(line, comments=True) for block in blocks(PAGE) if block.language == "sh" for line in block.text.splitlines()]
    printed = [run(user, ["-m", *command]) for command in commands]
    assert [text.strip() for text in printed[:2]] == ["nightly", "fresh"]
    assert "Europe/Berlin" in printed[2] and "refresh" in printed[2]


def test_the_program_of_the_page_runs(user: Path) -> None:
    """A notebook user can paste it."""
    (program,) = [block.text for block in blocks(PAGE) if block.language == "python"]
    assert run(user, ["-W", "error", "-c", program]).splitlines() == ["UTC False ['hourly']", "True []"]


def test_the_page_shows_what_hooks_get() -> None:
    """Who writes a receiver finds every name."""
    (text,) = [block.text for block in blocks(PAGE) if block.language == "json"]
    now = datetime.now(UTC)
    firing = Firing(id=1, schedule=Schedule(name="nightly", job="job.yaml", cron="@daily"), due_at=now, claimed_at=now, status="failed")
    about = details(firing, {"totals": {"total_items": 3, "completed_items": 2, "failed_items": 1}})
    assert json.loads(text).keys() == about.keys()
    named = set(re.findall(r"BATCHRUN_([A-Z_]+)`", PAGE.read_text())) - {"HOME", "TRIGGER"}
    assert {name.lower() for name in named} <= about.keys()
