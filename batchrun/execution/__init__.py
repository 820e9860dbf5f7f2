"""The composition root: the only room that knows all others. It prepares a job and runs it."""

from batchrun.execution.opening import submitted
from batchrun.execution.prepare import Prepared, prepare
from batchrun.execution.record import Record
from batchrun.execution.resume import Earlier, NothingToRetry, Retry, job_of, reopen
from batchrun.execution.run import ExecutionRun
from batchrun.execution.summary import Outcome

__all__ = [
    "Earlier",
    "ExecutionRun",
    "NothingToRetry",
    "Outcome",
    "Prepared",
    "Record",
    "Retry",
    "job_of",
    "prepare",
    "reopen",
    "submitted",
]
