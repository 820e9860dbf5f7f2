"""What docs/python-workflows.md shows is what happens."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from batchrun.workflows.functions import FunctionOptions
from tests.docs.test_docs import ROOT, blocks, run

PAGE = list(blocks(ROOT / "docs/python-workflows.md"))
FILES = {block.language: block.text for block in reversed(PAGE)}  # of each kind, the first

USE = """
import asyncio
import desk

print(asyncio.run(desk.kind("my money")))
print(batchrun.execute(batchrun.Job(dataset="tickets.csv", workflow=desk.triage, parallelism=50), quiet=True).status)
print(batchrun.map(desk.triage, "tickets.csv", quiet=True).status)
print(batchrun.map(measure, "tickets.csv", quiet=True).results["output"].to_pylist(), measure({"text": " ab "}))
"""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the module, the data and the job of the page."""
    monkeypatch.setenv("BATCHRUN_HOME", str(tmp_path / "home"))
    (tmp_path / "desk.py").write_text(FILES["python"])
    (tmp_path / "tickets.csv").write_text(FILES["csv"])
    (tmp_path / "desk.yaml").write_text(FILES["yaml"] + "output: {path: runs}\n")
    return tmp_path


def test_the_commands_give_what_the_page_says(desk: Path) -> None:
    """Who copies the files and the commands sees these exit codes, and this record of the item that waited."""
    codes = []
    for line in FILES["sh"].splitlines():
        _, *arguments = shlex.split(line, comments=True)
        codes.append(subprocess.run([sys.executable, "-m", "batchrun", *arguments], cwd=desk, check=False, env=os.environ).returncode)
    assert codes == [4, 0, 0, 0]
    (result,) = desk.glob("runs/*/results.parquet")
    table = pq.read_table(result)
    nodes = [f"{node['node_id']} {node['occurrence']} {node['status']}" for node in table["node_executions"].to_pylist()[0]]
    assert nodes == FILES["text"].splitlines()
    outputs = table["output"].to_pylist()
    assert [(output["reply"], output["words"]) for output in outputs] == [
        ("about your refund: we pay you back", 5),
        ("about your question", 5),
        ("about your other", 1),
    ]


def test_the_lines_of_python_in_the_text_run(desk: Path) -> None:
    """Functions are called as the page says, in a run and outside of one."""
    (more,) = [block.text for block in PAGE if block.language == "python" and "def measure" in block.text]
    printed = run([sys.executable, "-W", "error", "-c", f"import batchrun\n{more}{USE}"], desk)
    assert printed.splitlines() == ["refund", "waiting", "waiting", "[22, 16, 7] 2"]


def test_every_option_is_in_the_table() -> None:
    """Whoever looks for an option finds it."""
    page = (ROOT / "docs/python-workflows.md").read_text()
    assert all(f"`{name}`" in page for name in FunctionOptions.__dataclass_fields__)
