"""What docs/nadoo-and-flux.md shows is what happens: the chapter on Nadoo. That on Flux is tested in tests/flux."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.flow_examples import told


def test_the_commands_give_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who copies flow, job and commands sees these rows, and the exit codes that the page names."""
    codes, rows, shown = told(tmp_path, monkeypatch, "Nadoo", "letters")
    assert codes == [4, 0, 3]
    assert rows == shown
