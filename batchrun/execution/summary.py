"""What is written down about an execution beside its result."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from batchrun.config import effective_job
from batchrun.core.executions import ExecutionStatus, ResourceState, Stop
from batchrun.core.schedules import TRIGGER_VARIABLE
from batchrun.datasets import Loaded
from batchrun.engine.batches import BatchSizes
from batchrun.execution.naming import Pinned
from batchrun.execution.prepare import Prepared
from batchrun.execution.waits import added_waits
from batchrun.results import ResultTotals
from batchrun.store import store_home
from batchrun.version import VERSION
from batchrun.workflows.encoding import encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an execution ended.

    Attributes:
        error: what broke the run itself; null when nothing did.
        stop: why it ended early; null when it did not.
        has_stuck_threads: calls still hang in threads that nothing can end.
        batches: how large the calls of batched nodes were, by node.
        resources: what the services were doing at the end, by name.
        waited_seconds: what its items spent their time with; see `Waits`.
    """

    status: ExecutionStatus
    totals: ResultTotals | None
    error: str | None
    stop: Stop | None
    started_at: datetime
    completed_at: datetime
    has_stuck_threads: bool
    batches: Mapping[str, BatchSizes]
    resources: Mapping[str, ResourceState]
    waited_seconds: Mapping[str, float]

    @property
    def duration_seconds(self) -> float:
        """From the check of the items to the finished result."""
        return (self.completed_at - self.started_at).total_seconds()


def table_metadata(execution_id: str, prepared: Prepared, job: Mapping[str, Any] | None = None) -> dict[str, str]:
    """What the result file says about where it comes from; the counters are added when it is written.

    Args:
        execution_id: names the execution.
        prepared: what was run.
        job: the job as it was at the end; null: as it was at the beginning.
    """
    return {
        **_names(execution_id, prepared),
        **({"dataset_version": str(prepared.pinned.number)} if prepared.pinned is not None else {}),
        "dataset_fingerprint": prepared.source.fingerprint,
        "effective_job": encode(job or effective_job(prepared.loaded)).decode(),
    }


def _names(execution_id: str, prepared: Prepared) -> dict[str, str]:
    """What is known without reading the dataset, which may be large: who submits a job does not wait for that."""
    return {
        "execution_id": execution_id,
        "job_name": prepared.loaded.name,
        "dataset_name": prepared.loaded.dataset.name or prepared.loaded.dataset.label,
        "workflow_fingerprint": prepared.plan.fingerprint,
        "batchrun_version": VERSION,
    }


def opening_record(execution_id: str, prepared: Prepared, before: Mapping[str, Any]) -> dict[str, Any]:
    """What execution.json says from the first moment on: all that a resume needs besides the journal.

    Args:
        execution_id: names the execution.
        prepared: what is run.
        before: what it said before; nothing when the execution begins.
    """
    return {
        "format": 1,
        **_names(execution_id, prepared),
        **_pinned(prepared, before),
        **_trigger(before),
        "python_version": platform.python_version(),
        "job_folder": str(prepared.loaded.folder),
        "store": str(store_home().absolute()),
        "job": effective_job(prepared.loaded),
        "started_at": before.get("started_at") or datetime.now(UTC).isoformat(),
        **dict.fromkeys(("stop_reason", "error", "completed_at", "cancel_requested_at", "totals")),
    }


def _trigger(before: Mapping[str, Any]) -> dict[str, str]:
    """What started the execution, if that was no person: it stays so, whoever goes on with it."""
    trigger = before.get("trigger") if before else os.environ.get(TRIGGER_VARIABLE)
    return {"trigger": trigger} if trigger else {}


def _pinned(prepared: Prepared, before: Mapping[str, Any]) -> dict[str, Any]:
    """Which version of a named dataset or of a Delta table is read, and what the job called it; nothing of other datasets."""
    if prepared.pinned is None:
        return {}
    pinned = prepared.pinned
    wanted = before.get("dataset_version_wanted") or pinned.wanted  # a resumed job has the number in its place
    fingerprint = pinned.version.fingerprint if isinstance(pinned, Pinned) else prepared.source.fingerprint
    return {"dataset_version": pinned.number, "dataset_version_wanted": wanted, "dataset_fingerprint": fingerprint}


def execution_record(items: Loaded, outcome: Outcome, before: Mapping[str, Any]) -> dict[str, Any]:
    """What execution.json says at the end, given what it said before."""
    return {
        "stop_reason": outcome.stop.reason if outcome.stop else None,
        "error": outcome.error or (outcome.stop.message if outcome.stop else None),
        "completed_at": outcome.completed_at.isoformat(),
        "duration_seconds": (before.get("duration_seconds") or 0.0) + outcome.duration_seconds,
        "rejected_rows": items.rejected_rows,
        "totals": asdict(outcome.totals) if outcome.totals else None,
        "batches": _added(before.get("batches") or {}, {id: size._asdict() for id, size in outcome.batches.items()}),
        "resources": _added(before.get("resources") or {}, {name: _figures(state) for name, state in outcome.resources.items()}),
        "waited_seconds": added_waits(before.get("waited_seconds") or {}, outcome.waited_seconds),
    }


def _figures(state: ResourceState) -> dict[str, float]:
    """What is added up of a service over all runs."""
    return {"calls": state["calls"], "throttled": state["throttled"], "opened": state["opened"], "parked_seconds": state["parked_seconds"]}


def _added(before: Mapping[str, Mapping[str, float]], now: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """The figures of all runs of an execution, by name; those of a run that was killed are not known."""
    added = {name: dict(figures) for name, figures in before.items()}
    for name, figures in now.items():
        earlier = added.get(name, {})
        added[name] = {figure: earlier.get(figure, 0) + value for figure, value in figures.items()}
    return added
