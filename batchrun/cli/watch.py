"""`batchrun watch`."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from batchrun.cli.folders import execution_folder, of_execution
from batchrun.core.executions import Progress

if TYPE_CHECKING:
    from batchrun.client import Execution
    from batchrun.telemetry.progress import Display

_PATIENT_LOOKS = 5


@click.command("watch")
@of_execution
@click.option(
    "--interval", "interval_seconds", type=click.FloatRange(min=0.1), default=1.0, show_default=True, help="Seconds between looks."
)
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON each time its progress has changed.")
def command(execution: str, *, runs: Path, interval_seconds: float, as_json: bool) -> int:
    """Watch EXECUTION to its end: an id, the beginning of one, a folder, or "latest" (default).

    The exit code is the one that batchrun run would have. Ctrl-C ends the watching, and not the execution.
    """
    from batchrun.cli.known import known
    from batchrun.cli.run import exit_code
    from batchrun.cli.summary import summary
    from batchrun.client import Execution

    watched = Execution(execution_folder(execution, runs))
    watcher: _Watcher = _Json() if as_json else _People()
    try:
        for seconds in watched.looks(interval_seconds, None, adaptive=False):
            watcher.look(watched)
            time.sleep(seconds)
        watcher.look(watched)
    except KeyboardInterrupt:
        watcher.close()
        click.echo(f"no longer watched; {watched.id} goes on: batchrun watch {watched.id}", err=True)
        return 130
    finally:
        watcher.close()
    state = known(watched)
    if not as_json:
        click.echo(summary(watched, state), err=True)
    return exit_code(watched.status, watched.stop_reason, state.progress.failed_items)


class _Watcher(Protocol):
    """Shows what is seen."""

    def look(self, execution: Execution) -> None:
        """Show how far it is."""

    def close(self) -> None:
        """Show nothing any more. May be called again."""


class _Json:
    """A line for programs whenever something has changed, the clock aside."""

    def __init__(self) -> None:
        self._before: Any = None

    def look(self, execution: Execution) -> None:
        from batchrun.cli.known import known, plain

        progress = execution.progress if execution.is_in_progress else known(execution).progress
        now = (execution.status, replace(progress, elapsed_seconds=0.0))
        if now != self._before:
            self._before = now
            told = {"execution_id": execution.id, "status": execution.status, "error": execution.error}
            click.echo(json.dumps({**told, "progress": plain(progress)}, ensure_ascii=False))

    def close(self) -> None:
        pass


class _People:
    """A bar in a terminal, else lines; from the moment on at which the process has told how many items there are."""

    def __init__(self) -> None:
        self._display: Display | None = None
        self._progress = Progress()
        self._status: str | None = None
        self._looks = 0

    def look(self, execution: Execution) -> None:
        from batchrun.cli.summary import status
        from batchrun.telemetry.progress import display

        progress = self._progress = execution.progress
        self._looks += 1
        if execution.is_in_progress and execution.status != self._status:
            self._status = execution.status
            self._note(f"{execution.id} is {status(execution)}")
        if self._display is None and progress.total_items and execution.is_in_progress:
            self._display = display(execution.job_name, progress.total_items, restored=progress.processed_items)
        if self._display is not None:
            self._display.update(progress)
        elif self._looks == _PATIENT_LOOKS and execution.status == "running":
            self._note("its process does not tell how far it is: it cannot reach its list of executions; its end will be seen all the same")

    def close(self) -> None:
        if self._display is not None:
            self._display.close(self._progress)
            self._display = None

    def _note(self, text: str) -> None:
        if self._display is None:
            click.echo(text, err=True)
        else:
            self._display.note(text)
