"""The commands and the program of docs/datasets.md do what the page says."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from batchrun.config import load_job
from batchrun.core.job import Dataset
from tests.docs.test_docs import ROOT, blocks

PAGE = ROOT / "docs/datasets.md"


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the sample data, some exports, and a list of its own."""
    for name in ("configs", "sample_data"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports/january.csv").write_text("id;who\n1;Zoë\n", encoding="latin-1")
    monkeypatch.delenv("BATCHRUN_HOME", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def run(folder: Path, command: list[str]) -> str:
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_commands_of_the_page_work_in_their_order(user: Path) -> None:
    """Each line does what its comment says, down to the removal of what was made."""
    commands = [shlex.split(line, comments=True) for block in blocks(PAGE) if block.language == "sh" for line in block.text.splitlines()]
    printed = [run(user, ["-m", *command]).strip() for command in commands]
    assert printed[:4] == ["airports@1", "airports@1", "airports@1", "tickets@1"]
    assert "0 rows" in next(text for command, text in zip(commands, printed, strict=True) if "diff" in command)


def test_the_program_of_the_page_runs(user: Path) -> None:
    """A notebook user can paste it."""
    (program,) = [block.text for block in blocks(PAGE) if block.language == "python"]
    lines = run(user, ["-W", "error", "-c", program]).splitlines()
    assert lines[0] == "airports@1 True 28298" and lines[2:] == ["0", "airports 1"]


def test_the_job_of_the_page_is_one() -> None:
    """The short forms mean what the long one does."""
    (text,) = [block.text for block in blocks(PAGE) if block.language == "yaml"]
    assert text.strip() == "dataset: {name: airports, version: latest, id: icao}"
    for short in ("airports@3", {"name": "airports@3"}, {"name": "airports", "version": "3"}):
        assert load_job({"dataset": short, "workflow": "builtins:str"}).dataset == Dataset(name="airports", version="3")
    assert load_job({"dataset": "./airports@3", "workflow": "builtins:str"}).dataset == Dataset(path="./airports@3")
