"""The program of a detached execution: does one thing with it, such as run it, and ends. Started by `batchrun.client.spawning`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from batchrun.client.execution import Execution
from batchrun.client.running import resumed, retried
from batchrun.client.starting import end_unbegun
from batchrun.core.errors import BatchrunError, ExecutionError, JobError
from batchrun.execution import Record, end_when_held


def main(folder_text: str, order: Mapping[str, Any]) -> int:
    """Do what was ordered.

    Args:
        folder_text: the execution's folder.
        order: `verb`: run, resume or retry; `status`: what the execution was when this was ordered; `options` of the verb;
            `report`: an open file that takes a refusal, or null.

    Returns:
        The exit code of the process: 2 after a refusal.
    """
    folder, report = Path(folder_text), order["report"]
    end_when_held()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what functions print is in the log when it is looked at
    if report is not None:
        os.set_inheritable(report, False)
    with ExitStack() as at_end:
        if order["verb"] == "run":
            at_end.push(lambda _kind, error, _traceback: _note(folder, error))
        try:
            execution = _done(folder, order)
        except BatchrunError as error:
            sys.stderr.write(f"{error}\n")
            _tell(report, error)
            if order["verb"] == "run":
                _note(folder, error)
            return 2
    if execution is not None and execution.has_stuck_threads:  # they would hold up an ordinary exit
        sys.stdout.flush()
        os._exit(0)
    return 0


def _done(folder: Path, order: Mapping[str, Any]) -> Execution | None:
    record = Record.read(folder)
    if record.status != order["status"]:  # such as cancelled before this process had started
        raise ExecutionError(f"{folder} was {order['status']} and is {record.status} now: nothing was run")
    return (retried if order["verb"] == "retry" else resumed)(record, **order["options"])


def _note(folder: Path, error: BaseException | None) -> None:
    """Write down why a submitted execution did not begin; those who wait for it look only there."""
    with suppress(ExecutionError):
        if isinstance(error, JobError):
            end_unbegun(folder, "rejected", str(error))
        elif isinstance(error, BatchrunError):
            end_unbegun(folder, "failed", str(error))
        elif isinstance(error, KeyboardInterrupt):
            end_unbegun(folder, "paused", f"stopped by {str(error) or 'SIGINT'} before the first item", reason="signal")
        elif error is not None:
            end_unbegun(folder, "failed", f"{type(error).__name__}: {error}")


def _tell(report: int | None, error: BatchrunError) -> None:
    """Say to the process that waits for the beginning why there is none."""
    if report is not None:
        said = {"problems": error.problems} if isinstance(error, JobError) else {"error": str(error)}
        with suppress(OSError), os.fdopen(report, "w") as file:  # it may wait no more
            json.dump(said, file)
