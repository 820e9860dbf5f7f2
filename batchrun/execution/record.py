"""execution.json: what is written down about an execution beside its journal and its result."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from batchrun.core.errors import ExecutionError
from batchrun.core.executions import ExecutionStatus
from batchrun.results import atomic_json

RECORD_FILE = "execution.json"


class Record:
    """The record of one execution, rewritten whenever its status changes.

    Args:
        folder: the execution's folder.
        content: what it says so far.
    """

    def __init__(self, folder: Path, content: Mapping[str, Any]) -> None:
        self._path = folder / RECORD_FILE
        self.content: dict[str, Any] = dict(content)

    @classmethod
    def read(cls, folder: Path) -> Record:
        """The record in a folder.

        Raises:
            ExecutionError: there is none, or it cannot be read.
        """
        path = folder / RECORD_FILE
        try:
            content = orjson.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise ExecutionError(f"there is no {path}: {folder} is not the folder of an execution") from error
        except (OSError, orjson.JSONDecodeError) as error:
            raise ExecutionError(f"cannot read {path}: {error}") from error
        return cls(folder, content)

    def enter(self, status: ExecutionStatus, reason: str | None = None, **content: Any) -> None:
        """Write down a change of status, its time and the process that made it.

        Raises:
            ExecutionError: the file cannot be written; it is as it was.
        """
        change = {
            "status": status,
            "at": datetime.now(UTC).isoformat(),
            "reason": reason,
            "host": os.uname().nodename,
            "pid": os.getpid(),
        }
        self.content = {**self.content, **content, "status": status, "states": [*self.content.get("states", ()), change]}
        atomic_json(self._path, self.content)
