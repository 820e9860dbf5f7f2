"""Processes that go on with an execution, and do not end with those who started them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from batchrun.config.source import plain
from batchrun.core.errors import ExecutionError, JobError
from batchrun.execution.importable import importable_name
from batchrun.results.files import explained
from batchrun.store import store_home

LOG_FILE = "process.log"
"""What the processes of detached executions write for people, in the folder of each execution."""

# The modules of the job are to be those of this process, and no file of the working directory may take the place of an installed one:
# so -P, and the path before the first import. The order comes in over a pipe, where other users do not see it.
_PROGRAM = (
    "import json, sys; order = json.load(sys.stdin); sys.path[:] = order['path']; "
    "from batchrun.client.process import main; sys.exit(main(sys.argv[1], order))"
)
_SHOWN_LINES = 20
_SHOWN_BYTES = 20_000


class Spawned:
    """A process that was started.

    Args:
        process: it.
        on_end: is called with its exit code when it has ended, in a thread of its own.

    Attributes:
        pid: its number.
        code: its exit code, minus the number of the signal that ended it; null: it runs.
    """

    def __init__(self, process: subprocess.Popen[bytes], on_end: Callable[[int], None]) -> None:
        self.pid = process.pid
        self.code: int | None = None

        def reap() -> None:
            # Only this thread knows the object, so that nothing is left of it, nor any warning, when this program ends first.
            code = process.wait()
            on_end(code)
            self.code = code

        threading.Thread(target=reap, name=f"batchrun-reaper-{self.pid}", daemon=True).start()


def spawn(
    folder: Path,
    order: Mapping[str, Any],
    *,
    home: Path | None,
    on_end: Callable[[int], None] = lambda _code: None,
    report: int | None = None,
) -> Spawned:
    """Start a process that does something with an execution; see `batchrun.client.process`.

    It has the environment and the working directory of this one, and looks for modules where this one does.

    Args:
        folder: the execution's folder.
        order: what it is to do: values for JSON.
        home: the folder of the store it uses; null: that of this process.
        on_end: is called with its exit code when it has ended, in a thread of its own.
        report: an open file that it may write a refusal to.

    Raises:
        ExecutionError: the folder cannot be written to, or no process can be started.
    """
    if not sys.executable:
        raise ExecutionError("cannot start a process: sys.executable does not say where the Python interpreter is; set it")
    path = [str(entry) or str(Path.cwd()) for entry in sys.path]
    with explained(folder / LOG_FILE):
        log = os.open(folder / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(  # noqa: S603 - this program
            [sys.executable, "-P", "-c", _PROGRAM, str(folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=() if report is None else (report,),
            env=None if home is None or home == store_home().absolute() else {**os.environ, "BATCHRUN_HOME": str(home)},
        )
    except OSError as error:
        raise ExecutionError(f"cannot start a process for {folder}: {error.strerror}") from error
    finally:
        os.close(log)
    if process.stdin is not None:
        with suppress(OSError), process.stdin as pipe:  # it may have ended already, which its reaper will notice
            pipe.write(json.dumps({**order, "path": path, "report": report}).encode())
    return Spawned(process, on_end)


def portable(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as values for another process.

    Raises:
        JobError: a value is none that JSON has, or a function that the other process cannot import.
    """
    values: dict[str, Any] = plain(options, importable_name)
    try:
        json.dumps(values)
    except (TypeError, ValueError) as error:
        raise JobError([f"values must be text, numbers, true, false, null, lists or mappings: {error}"]) from None
    return values


def log_size(folder: Path) -> int:
    """How much the log holds: what a process writes that is started now begins there."""
    with suppress(OSError):
        return (folder / LOG_FILE).stat().st_size
    return 0


def why_it_ended(folder: Path, code: int, log_start: int) -> str:
    """How a process ended that did not say it otherwise, with the last lines it wrote.

    Args:
        folder: the execution's folder.
        code: its exit code.
        log_start: where its part of the log begins.
    """
    text = ""
    with suppress(OSError), (folder / LOG_FILE).open("rb") as log:
        log.seek(max(log_start, log_size(folder) - _SHOWN_BYTES))
        text = log.read().decode(errors="replace")
    lines = text.strip().splitlines()[-_SHOWN_LINES:]
    said = "\n".join([f"; the end of {folder / LOG_FILE}:", *lines]) if lines else ""
    return f"its process {_how(code)} before it began{said}"


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    with suppress(ValueError):
        name = signal.Signals(-code).name
        return f"was ended by {name}" + (", as happens when memory runs out," if name == "SIGKILL" else "")
    return f"was ended by signal {-code}"
