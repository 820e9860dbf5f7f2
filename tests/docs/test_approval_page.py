"""What docs/approval.md shows is what happens."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.docs.test_docs import ROOT, blocks, run

FILES = {block.language: block.text for block in blocks(ROOT / "docs/approval.md")}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the data and the job of the page."""
    monkeypatch.setenv("BATCHRUN_HOME", str(tmp_path / "home"))
    (tmp_path / "replies.csv").write_text(FILES["csv"])
    (tmp_path / "replies.yaml").write_text(FILES["yaml"] + "output: {path: runs}\n")
    return tmp_path


def shown(folder: Path) -> list[str]:
    (result,) = folder.glob("runs/*/results.parquet")
    return [f"{row['source_item_id']} {row['status']} {row['output'] or ''}".rstrip() for row in pq.read_table(result).to_pylist()]


def test_the_commands_give_what_the_page_says(folder: Path) -> None:
    """Who copies the job and the commands sees these rows, and the exit code that the page names."""
    codes = []
    for line in FILES["sh"].splitlines():
        _, *arguments = shlex.split(line, comments=True)
        codes.append(subprocess.run([sys.executable, "-m", "batchrun", *arguments], cwd=folder, check=False, env=os.environ).returncode)
    assert codes == [4, 0, 0, 0, 0, 3]
    assert shown(folder) == FILES["text"].splitlines()


def test_the_python_example_does_the_same(folder: Path) -> None:
    """It prints what waits, and how it ended."""
    (folder / "example.py").write_text(FILES["python"])
    printed = run([sys.executable, "example.py"], folder)
    assert printed.splitlines()[0].startswith("1 check Dear customer, you wrote: I want my money back 20")
    assert "completed 1" in printed
    assert shown(folder) == FILES["text"].splitlines()
