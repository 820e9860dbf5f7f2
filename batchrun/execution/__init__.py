"""The composition root: the only room that knows all others. It prepares a job and runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.core.lazy import loader

if TYPE_CHECKING:
    from batchrun.execution.held import end_when_held, why_held
    from batchrun.execution.opening import submitted
    from batchrun.execution.publishing import publish
    from batchrun.execution.record import Record
    from batchrun.execution.registry import Registry
    from batchrun.execution.reporting import write_report
    from batchrun.execution.resume import Earlier, NothingToRetry, Retry, home_of, job_of, reopen, reopen_dataset
    from batchrun.execution.run import ExecutionRun
    from batchrun.execution.summary import Outcome
    from batchrun.execution.telling import Listener
else:
    __getattr__ = loader(
        __name__,
        {
            "held": "end_when_held why_held",
            "opening": "submitted",
            "publishing": "publish",
            "record": "Record",
            "registry": "Registry",
            "reporting": "write_report",
            "resume": "Earlier NothingToRetry Retry home_of job_of reopen reopen_dataset",
            "run": "ExecutionRun",
            "summary": "Outcome",
            "telling": "Listener",
        },
    )

__all__ = [
    "Earlier",
    "ExecutionRun",
    "Listener",
    "NothingToRetry",
    "Outcome",
    "Record",
    "Registry",
    "Retry",
    "end_when_held",
    "home_of",
    "job_of",
    "publish",
    "reopen",
    "reopen_dataset",
    "submitted",
    "why_held",
    "write_report",
]
