"""Executions in a process of their own, which goes on when the one that started it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from batchrun.core.errors import BatchrunError, ExecutionError
from batchrun.execution import Record
from batchrun.results.files import explained

LOG_FILE = "process.log"
"""What the process of a detached execution writes for people."""

_LOOK_SECONDS = 0.05


def start(folder: Path, options: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    """Go on with an execution in a process of its own.

    Args:
        folder: its folder.
        options: of `resume`; with `from_start`, those of `retry`.

    Raises:
        ExecutionError: its folder cannot be written to.
    """
    command = [sys.executable, "-m", "batchrun.client.process", str(folder), json.dumps(options)]
    with explained(folder / LOG_FILE):
        log = os.open(folder / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)  # noqa: S603 - this program
        finally:
            os.close(log)
    threading.Thread(target=process.wait, name="batchrun-reaper", daemon=True).start()
    return process


def wait_for_begin(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Return when a process that was started runs its execution, or has ended well.

    Raises:
        ExecutionError: it ended without having run anything; with what it said.
    """
    log = folder / LOG_FILE
    while not _has_begun(folder, process.pid):
        if process.poll() is not None and not _has_begun(folder, process.pid):
            lines = log.read_text(errors="replace").splitlines() if log.exists() else []
            raise ExecutionError("\n".join(lines[-20:]) or f"the process of {folder} ended with code {process.returncode}")
        time.sleep(_LOOK_SECONDS)


def _has_begun(folder: Path, pid: int) -> bool:
    with suppress(BatchrunError):
        return any(change["pid"] == pid and change["status"] == "running" for change in Record.read(folder).content["states"])
    return False
