"""The composition root: the only room that knows all others. It prepares a job and runs it."""

from batchrun.execution.prepare import Prepared, prepare
from batchrun.execution.run import ExecutionRun
from batchrun.execution.summary import Outcome

__all__ = ["ExecutionRun", "Outcome", "Prepared", "prepare"]
