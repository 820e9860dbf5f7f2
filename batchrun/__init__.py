"""batchrun: run every item of a dataset through a workflow and get back one Arrow row per item."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchrun.client import AsyncClient, AsyncExecution, Client, Execution, execute, map, rerun, resume, retry, submit
    from batchrun.core.errors import BatchrunError, ExecutionError, JobError, NodeError
    from batchrun.core.executions import Progress
    from batchrun.core.job import Batch, Dataset, Job, NodeOptions, Output, Resource, Run, Workflow
    from batchrun.core.policies import Backoff, Budget, FailurePolicy, Match, Retry, RetryRule
    from batchrun.version import VERSION as __version__
    from batchrun.workflow.context import Context

_PLACES = {
    "batchrun.client": ("AsyncClient", "AsyncExecution", "Client", "Execution", "execute", "map", "rerun", "resume", "retry", "submit"),
    "batchrun.core.errors": ("BatchrunError", "ExecutionError", "JobError", "NodeError"),
    "batchrun.core.executions": ("Progress",),
    "batchrun.core.job": ("Batch", "Dataset", "Job", "NodeOptions", "Output", "Resource", "Run", "Workflow"),
    "batchrun.core.policies": ("Backoff", "Budget", "FailurePolicy", "Match", "Retry", "RetryRule"),
    "batchrun.workflow.context": ("Context",),
}
_PLACE_OF = {name: module for module, names in _PLACES.items() for name in names}

__all__ = [
    "AsyncClient",
    "AsyncExecution",
    "Backoff",
    "Batch",
    "BatchrunError",
    "Budget",
    "Client",
    "Context",
    "Dataset",
    "Execution",
    "ExecutionError",
    "FailurePolicy",
    "Job",
    "JobError",
    "Match",
    "NodeError",
    "NodeOptions",
    "Output",
    "Progress",
    "Resource",
    "Retry",
    "RetryRule",
    "Run",
    "Workflow",
    "__version__",
    "execute",
    "map",
    "rerun",
    "resume",
    "retry",
    "submit",
]


if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        # Loaded when asked for: `import batchrun` must not pay for polars and pyarrow.
        if name == "__version__":
            return import_module("batchrun.version").VERSION
        if name not in _PLACE_OF:
            raise AttributeError(f"module 'batchrun' has no attribute {name!r}")
        return getattr(import_module(_PLACE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
