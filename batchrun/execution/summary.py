"""What is written down about an execution beside its result."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from batchrun.config import effective_job
from batchrun.core.executions import ExecutionStatus, Stop
from batchrun.datasets import Loaded
from batchrun.execution.prepare import Prepared
from batchrun.results import ResultTotals
from batchrun.version import VERSION
from batchrun.workflow.encoding import encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an execution ended.

    Attributes:
        error: what broke the run itself; null when nothing did.
        stop: why it ended early; null when it did not.
        has_stuck_threads: calls still hang in threads that nothing can end.
    """

    status: ExecutionStatus
    totals: ResultTotals | None
    error: str | None
    stop: Stop | None
    started_at: datetime
    completed_at: datetime
    has_stuck_threads: bool

    @property
    def duration_seconds(self) -> float:
        """From the check of the items to the finished result."""
        return (self.completed_at - self.started_at).total_seconds()


def table_metadata(execution_id: str, prepared: Prepared) -> dict[str, str]:
    """What the result file says about where it comes from; the counters are added when it is written."""
    loaded = prepared.loaded
    return {
        "execution_id": execution_id,
        "job_name": loaded.name,
        "dataset_name": loaded.dataset.path,
        "dataset_fingerprint": prepared.source.fingerprint,
        "workflow_fingerprint": prepared.plan.fingerprint,
        "effective_job": encode(effective_job(loaded)).decode(),
        "batchrun_version": VERSION,
    }


def opening_record(execution_id: str, prepared: Prepared) -> dict[str, Any]:
    """What execution.json says from the first moment on: all that a resume needs besides the journal."""
    return {
        "format": 1,
        **{key: value for key, value in table_metadata(execution_id, prepared).items() if key != "effective_job"},
        "python_version": platform.python_version(),
        "job_folder": str(prepared.loaded.folder),
        "job": effective_job(prepared.loaded),
    }


def execution_record(items: Loaded, outcome: Outcome) -> dict[str, Any]:
    """What execution.json says at the end."""
    return {
        "stop_reason": outcome.stop.reason if outcome.stop else None,
        "error": outcome.error or (outcome.stop.message if outcome.stop else None),
        "started_at": outcome.started_at.isoformat(),
        "completed_at": outcome.completed_at.isoformat(),
        "duration_seconds": outcome.duration_seconds,
        "rejected_rows": items.rejected_rows,
        "totals": asdict(outcome.totals) if outcome.totals else None,
    }
