"""The process of one firing: runs or refreshes its job, writes down how that ended, and tells people of a failure.

It does not end with the scheduler that started it. Its log is locked while it lives, so that others see when it is gone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batchrun.client import Execution, execute, refresh
from batchrun.client.spawning import Spawned
from batchrun.core.errors import BatchrunError, JobError
from batchrun.core.refreshes import AlreadyRefreshing, RefreshPlan
from batchrun.core.schedules import TRIGGER_VARIABLE, Firing, FiringStatus
from batchrun.execution import Record, end_when_held
from batchrun.scheduler.hooks import details, tell
from batchrun.scheduler.logs import locked, log_of
from batchrun.store import ExecutionQuery, ScheduleStore, Store

# As for detached executions: no file of the working directory may take the place of an installed module.
_PROGRAM = (
    "import json, sys; order = json.load(sys.stdin); sys.path[:] = order['path']; "
    "from batchrun.scheduler.process import main; sys.exit(main(order))"
)
_GOOD = ("completed", "waiting", "unchanged")


def spawn(firing: Firing, home: Path, folder: Path, *, only_tells: bool = False) -> Spawned:
    """Start the process of a firing.

    Args:
        firing: it.
        home: the folder of the store.
        folder: for logs.
        only_tells: it has failed, and only people are to be told.

    Raises:
        OSError: no process can be started, or the working directory of the schedule is gone.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = [str(entry) or str(Path.cwd()) for entry in sys.path]
    working = Path(firing.schedule.folder)
    log = os.open(log_of(folder, firing.id), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(  # noqa: S603 - this program
            [sys.executable, "-P", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=home if only_tells and not working.is_dir() else working,
            env={**os.environ, "BATCHRUN_HOME": str(home), TRIGGER_VARIABLE: firing.schedule.trigger},
        )
    finally:
        os.close(log)
    if process.stdin is not None:
        with suppress(OSError), process.stdin as pipe:
            pipe.write(json.dumps({"path": path, "firing": firing.id, "home": str(home), "only_tells": only_tells}).encode())
    return Spawned(process, on_end=lambda _code: None)


def execution_of(firing: Firing, home: Path) -> Execution | None:
    """The execution of a firing, also while it runs; null: there is none, or its folder is gone."""
    with suppress(BatchrunError):
        if firing.folder is not None:
            return Execution(Path(firing.folder))
        if firing.started_at is None or firing.pid is None:
            return None
        with Store.open(home) as store:
            for stored in store.executions(ExecutionQuery(created_after=firing.started_at)):
                if stored.record.get("trigger") == firing.schedule.trigger and any(state.pid == firing.pid for state in stored.states):
                    return Execution(stored.folder)
    return None


def ended_as(execution: Execution) -> tuple[FiringStatus, str | None]:
    """How a firing ended whose process is done with this execution."""
    status = execution.status
    if status in ("completed", "waiting", "paused", "cancelled", "rejected"):
        return status, execution.error
    advice = f"; to go on with it: batchrun resume {execution.id}" if status == "interrupted" else ""
    return "failed", execution.error or f"the execution is {status}{advice}"


def is_failure(status: FiringStatus, execution: Execution | None) -> bool:
    """Whether people are to be told: neither of what went well, nor of what a person has paused or cancelled."""
    if status in _GOOD or status == "cancelled":
        return False
    return not (status == "paused" and execution is not None and execution.stop_reason == "user")


def main(order: dict[str, Any]) -> int:
    """Do what was ordered; see `spawn`. Returns the exit code of the process."""
    home = Path(order["home"])
    with ScheduleStore(home) as store:
        firing = store.firing(order["firing"])
        if firing is None:
            return 0
        if order["only_tells"]:
            _tell(store, firing, execution_of(firing, home))
            return 0
        log = log_of(store.folder, firing.id)
        with locked(log) as is_ours:
            if not is_ours or not store.begin(firing.id, os.getpid(), datetime.now(UTC)):
                return 0  # another process has it
            firing = store.firing(firing.id) or firing
            execution = _do(store, firing)
    if execution is not None and execution.has_stuck_threads:  # they would hold up an ordinary exit
        sys.stdout.flush()
        os._exit(0)
    return 0


def _do(store: ScheduleStore, firing: Firing) -> Execution | None:
    """Run the job, whatever comes of it, and write that down."""
    end_when_held()
    log, execution = log_of(store.folder, firing.id), None
    with ExitStack() as at_end:
        at_end.push(lambda _kind, error, _traceback: None if error is None else _end(store, firing, "failed", _said(error), None))
        try:
            execution, is_new = _run(firing)
            status, error = ended_as(execution) if is_new else ("unchanged", None)
        except AlreadyRefreshing as busy:
            status, error = "skipped", str(busy)
        except JobError as refused:
            status, error = "rejected", str(refused)
        except BatchrunError as broken:
            status, error = "failed", str(broken)
        at_end.pop_all()
    _end(store, firing, status, error, execution)
    if status in _GOOD and not log.stat().st_size:
        log.unlink(missing_ok=True)
    return execution


def _run(firing: Firing) -> tuple[Execution, bool]:
    """The execution that came of it, and whether it is a new one."""
    schedule, plans = firing.schedule, list[RefreshPlan]()
    if schedule.verb == "run":
        return execute(schedule.job, schedule.overrides, quiet=True), True
    execution = refresh(schedule.job, schedule.overrides, quiet=True, on_plan=plans.append)
    return execution, plans[-1].has_work


def _end(store: ScheduleStore, firing: Firing, status: FiringStatus, error: str | None, execution: Execution | None) -> None:
    execution = execution or execution_of(firing, store.folder.parent)
    if execution is not None:
        store.note_execution(firing.id, execution.id, execution.folder)
    if error is not None:
        sys.stderr.write(f"{error}\n")
    if store.end(firing, status, error, datetime.now(UTC)) and is_failure(status, execution):
        _tell(store, store.firing(firing.id) or firing, execution)


def _tell(store: ScheduleStore, firing: Firing, execution: Execution | None) -> None:
    if firing.schedule.has_hook:
        store.note_told(firing.id, tell(firing, details(firing, _record(execution))))


def _record(execution: Execution | None) -> dict[str, Any] | None:
    with suppress(BatchrunError):
        return None if execution is None else Record.read(execution.folder).content
    return None


def _said(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return f"stopped by {str(error) or 'SIGINT'}"
    return f"{type(error).__name__}: {error}"
