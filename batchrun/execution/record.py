"""execution.json: what is written down about an execution beside its journal and its result."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from batchrun.core.errors import ExecutionError
from batchrun.core.executions import ExecutionStatus
from batchrun.results import atomic_json

RECORD_FILE = "execution.json"

_NEEDED = {"execution_id", "job_name", "status", "states"}


class Record:
    """The record of one execution, rewritten whenever its status changes.

    Args:
        folder: the execution's folder.
        content: what it says so far.

    Attributes:
        folder: the execution's folder.
        content: what it says.
        on_change: is handed the content each time it was written.
    """

    def __init__(self, folder: Path, content: Mapping[str, Any]) -> None:
        self.folder = folder
        self._path = folder / RECORD_FILE
        self.content: dict[str, Any] = dict(content)
        self.on_change: Callable[[Mapping[str, Any]], None] = lambda _content: None

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
        except OSError as error:
            raise ExecutionError(f"cannot read {path}: {error.strerror}") from error
        except orjson.JSONDecodeError as error:
            raise ExecutionError(
                f"{path} is damaged: {error}; put back a copy of it, or run the job again: its result, if there is one, is in {folder}"
            ) from error
        if not isinstance(content, dict) or not content.keys() >= _NEEDED:
            raise ExecutionError(f"{path} is not the record of an execution: put back a copy of it, or run the job again")
        return cls(folder, content)

    @property
    def id(self) -> str:
        """The execution id."""
        id: str = self.content["execution_id"]
        return id

    @property
    def status(self) -> ExecutionStatus:
        """The status that was written down last; `running` also when the process is gone."""
        status: ExecutionStatus = self.content["status"]
        return status

    @property
    def has_begun(self) -> bool:
        """Whether a process has run it: it is not just submitted."""
        return any(change["status"] == "running" for change in self.content["states"])

    def enter(self, status: ExecutionStatus, reason: str | None = None, **content: Any) -> None:
        """Write down a change of status, its time and the process that made it.

        Raises:
            ExecutionError: the file cannot be written; it is as it was.
        """
        at, process = datetime.now(UTC).isoformat(), {"host": os.uname().nodename, "pid": os.getpid()}
        change = {"status": status, "at": at, "reason": reason, **process}
        states = [*self.content.get("states", ()), change]
        self.update(**{"created_at": at, **self.content, **content, **process, "status": status, "states": states})

    def update(self, **content: Any) -> None:
        """Write down other fields.

        Raises:
            ExecutionError: as above.
        """
        changed = {**self.content, **content}
        atomic_json(self._path, changed)
        self.content = changed
        self.on_change(changed)
