from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from batchrun.store import Store

FIRST = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    with Store.open(home) as opened:
        yield opened


@pytest.fixture
def record() -> Callable[..., dict[str, Any]]:
    def make(minute: int = 0, **fields: Any) -> dict[str, Any]:
        """The record of an execution that was created so many minutes after the first."""
        created = FIRST + timedelta(minutes=minute)
        execution_id = f"{created:%Y%m%dT%H%M%S}-{minute:010x}"
        return {
            "format": 1,
            "execution_id": execution_id,
            "job_name": "triage",
            "status": "running",
            "stop_reason": None,
            "error": None,
            "folder": f"/runs/{execution_id}",
            "host": "machine",
            "pid": 4711,
            "created_at": created.isoformat(),
            "started_at": None,
            "completed_at": None,
            "cancel_requested_at": None,
            "epoch": 1,
            "states": [{"status": "running", "at": created.isoformat(), "reason": None, "host": "machine", "pid": 4711}],
            "job": {"workflow": {"nodes": [{"id": "clean"}]}},
            **fields,
        }

    return make
