"""The published clients of the remote systems run workflows against the faulty service: it speaks as their servers do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batchrun.testing.faulty_service import FaultyService

ROOT = Path(__file__).parents[2]
FAILED = "the run failed as its script says"

NOXUS = {
    "completed": ["completed", {"echo": {"text": "hello"}}],
    "polled": "completed",
    "failed": "failed",
    "waiting": "awaiting_human_feedback",
    "stopped": "stopped",
    "alone": "completed",
    "held": {"echo": {"text": "held"}},
    "listed": 7,
    "file": ["spot://00000000-0000-0000-0000-000000000001/upload", "content"],
}
SEEME = {
    "completed": ["completed", {"echo": "hello"}],
    "failed": ["failed", FAILED],
    "cancelled": ["cancelled", "v2"],
    "file": ["completed", "input.txt", "from a file"],
    "rerun": "completed",
    "listed": 5,
}
EIGENPAL = {
    "completed": ["completed", {"echo": {"text": "hello"}}],
    "failed": ["failed", FAILED],
    "rejected": "rejected",
    "cancelled": "cancelled",
    "held": "completed",
    "file": {"echo": {"n": 1}},
    "uploaded": "file_1",
    "rerun": False,
    "listed": 4,
}
EIGENPAL_PAGES = {
    "completed": ["completed", {"echo": {"text": "hello"}}],
    "failed": ["failed", FAILED],
    "rejected": "rejected",
    "cancelled": "cancelled",
    "held": {"echo": {"n": 2}},
    "file": "completed",
    "listed": 4,
}


def told_by(client: str, program: str, base_url: str) -> Any:
    """What a client tells that runs workflows of the service in an environment of its own."""
    python = Path(sys.prefix) / "clients" / client / "bin" / "python"
    assert python.exists(), f"{client} is not installed: make test installs it from tests/clients/{client}.txt"
    command = [str(python), str(ROOT / "tests/clients" / program), base_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("client", "program", "expected"),
    [
        ("noxus", "run_noxus.py", NOXUS),
        ("seeme", "run_seeme.py", SEEME),
        ("eigenpal", "run_eigenpal.py", EIGENPAL),
        ("eigenpal-0.5", "run_eigenpal_pages.py", EIGENPAL_PAGES),
    ],
)
def test_published_clients_complete_runs(client: str, program: str, expected: dict[str, Any]) -> None:
    """A job that was tried against the faulty service meets the same routes and shapes at the real one."""
    with FaultyService() as service:
        assert told_by(client, program, service.url_of(client)) == expected
        assert {run.system for run in service.runs()} == {client}
        assert 0 not in service.seen().by_status
