"""docs/notebook.ipynb shows what it prints."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat

from tests.docs.notebooks import NOTEBOOK, ROOT, executed, steady


def test_the_notebook_runs_and_shows_what_it_prints(tmp_path: Path) -> None:
    """Who opens it in a browser sees what they will get, and who runs it gets that."""
    shown = nbformat.read(NOTEBOOK, as_version=4)
    again = executed(tmp_path)
    assert steady(again) == steady(shown)
    assert [cell.source for cell in again.cells] == [cell.source for cell in shown.cells]


def test_a_notebook_shows_progress_and_executions() -> None:
    """In Jupyter there is a bar while items run, and an execution at the end of a cell is a summary with the failures."""
    outputs = [output for cell in nbformat.read(NOTEBOOK, as_version=4).cells for output in cell.get("outputs", ())]
    bars = [output.text for output in outputs if output.get("name") == "stderr"]
    assert bars and all("100%" in bar for bar in bars)
    summaries = [
        output.data["text/html"] for output in outputs if "text/html" in output.get("data", {}) and "items" in output.data["text/html"]
    ]
    assert any("failed" in summary and "ValueError" in summary for summary in summaries)
    assert all("text/plain" in output.data for output in outputs if "data" in output)


def test_the_notebook_names_no_machine() -> None:
    """What is published has no path of whoever ran it last, and stays small."""
    text = NOTEBOOK.read_text()
    assert str(ROOT) not in text
    assert re.search(r"/(tmp|home)/", text) is None
    assert len(text) < 60_000
