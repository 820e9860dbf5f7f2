"""What docs/nadoo-and-flux.md shows is what happens: the chapter on Flux."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.flow_examples import told

pytest.importorskip("flux", reason="make test runs these in an environment with Python 3.12 or newer")


def test_the_commands_give_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who copies workflow, job and commands sees these rows, and the exit codes that the page names."""
    codes, rows, shown = told(tmp_path, monkeypatch, "Flux", "orders")
    assert codes == [4, 0, 3]
    assert rows == shown
