"""Files that are complete or not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batchrun.core.errors import ExecutionError
from batchrun.results import atomic_json


def test_json_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    """Who reads execution.json while it is written sees the old content or the new one."""
    path = tmp_path / "execution.json"
    atomic_json(path, {"status": "running"})
    atomic_json(path, {"status": "completed", "name": "Köln"})

    assert json.loads(path.read_text()) == {"status": "completed", "name": "Köln"}
    assert list(tmp_path.iterdir()) == [path]


def test_file_stays_as_it_was_when_the_new_one_cannot_be_written(tmp_path: Path) -> None:
    """A value that cannot be written must not cost the file that is there."""
    path = tmp_path / "execution.json"
    atomic_json(path, {"status": "running"})
    with pytest.raises(TypeError):
        atomic_json(path, {"status": object()})

    assert json.loads(path.read_text()) == {"status": "running"}
    assert list(tmp_path.iterdir()) == [path]


def test_path_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    """The message names the file and what to do."""
    with pytest.raises(ExecutionError, match=r"gone/execution\.json: the folder is gone; create it"):
        atomic_json(tmp_path / "gone" / "execution.json", {})
