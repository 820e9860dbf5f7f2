"""Runs the examples of docs/nadoo-and-flux.md."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.docs.test_docs import ROOT, blocks


def told(folder: Path, monkeypatch: pytest.MonkeyPatch, chapter: str, name: str) -> tuple[list[int], list[str], list[str]]:
    """The exit codes of a chapter's commands, the rows they lead to, and those that it shows."""
    monkeypatch.setenv("BATCHRUN_HOME", str(folder / "home"))
    page = ROOT / "docs/nadoo-and-flux.md"
    (folder / "page.md").write_text(page.read_text().partition(f"\n## {chapter}\n")[2].partition("\n## ")[0])
    files = {block.language: block.text for block in blocks(folder / "page.md")}
    (folder / "letters.csv").write_text(next(block.text for block in blocks(page) if block.language == "csv"))
    (folder / f"{name}.py").write_text(files["python"])
    (folder / f"{name}.yaml").write_text(files["yaml"])
    codes = [
        subprocess.run([sys.executable, "-m", *shlex.split(line, comments=True)], cwd=folder, check=False, env=os.environ).returncode
        for line in files["sh"].splitlines()
    ]
    (result,) = folder.glob("runs/*/results.parquet")
    rows = []
    for row in pq.read_table(result).to_pylist():
        error = row["error"] or {}
        where = error.get("node_id") if chapter == "Nadoo" else error.get("message")
        said = row["output"] or f"{error['type']} {where}"
        rows.append(f"{row['source_item_id']} {row['status']} {said}")
    return codes, rows, files["text"].splitlines()
