"""batchrun: run every item of a dataset through a workflow and get back one Arrow row per item."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchrun.client import (
        AsyncClient,
        AsyncExecution,
        Client,
        Execution,
        diff,
        execute,
        map,
        open,
        plan,
        plan_refresh,
        refresh,
        rerun,
        resume,
        retry,
        submit,
    )
    from batchrun.core.auth import ApiKey, Auth, Basic, OAuth2
    from batchrun.core.errors import BatchrunError, ExecutionError, JobError, NodeError, ReplayMismatch
    from batchrun.core.events import ExecutionEnded, ExecutionStarted, ItemEnded, NodeEnded, ProgressMade, Retrying, Throttled
    from batchrun.core.executions import Progress
    from batchrun.core.files import File
    from batchrun.core.formats import CsvFormat, FilesFormat, Sample
    from batchrun.core.job import Batch, Dataset, Job, NodeOptions, Resource, Run, Workflow
    from batchrun.core.output import Export, Output
    from batchrun.core.plans import JobPlan
    from batchrun.core.policies import Backoff, Budget, FailurePolicy, Match, Retry, RetryRule
    from batchrun.core.prices import Price
    from batchrun.core.refreshes import AlreadyRefreshing, RefreshPlan
    from batchrun.telemetry.otel import OpenTelemetry
    from batchrun.telemetry.prometheus import Prometheus
    from batchrun.version import VERSION as __version__
    from batchrun.workflows.context import Context
    from batchrun.workflows.decisions import Rejected
    from batchrun.workflows.flow import gather, now, pause, random, uuid
    from batchrun.workflows.functions import NodeFunction, PythonWorkflow, node, workflow

_PLACES = {
    "batchrun.client": (
        *("AsyncClient", "AsyncExecution", "Client", "Execution"),
        *("diff", "execute", "map", "open", "plan", "plan_refresh", "refresh", "rerun", "resume", "retry", "submit"),
    ),
    "batchrun.core.auth": ("ApiKey", "Auth", "Basic", "OAuth2"),
    "batchrun.core.errors": ("BatchrunError", "ExecutionError", "JobError", "NodeError", "ReplayMismatch"),
    "batchrun.core.events": ("ExecutionEnded", "ExecutionStarted", "ItemEnded", "NodeEnded", "ProgressMade", "Retrying", "Throttled"),
    "batchrun.core.executions": ("Progress",),
    "batchrun.core.files": ("File",),
    "batchrun.core.formats": ("CsvFormat", "FilesFormat", "Sample"),
    "batchrun.core.job": ("Batch", "Dataset", "Job", "NodeOptions", "Resource", "Run", "Workflow"),
    "batchrun.core.output": ("Export", "Output"),
    "batchrun.core.plans": ("JobPlan",),
    "batchrun.core.policies": ("Backoff", "Budget", "FailurePolicy", "Match", "Retry", "RetryRule"),
    "batchrun.core.prices": ("Price",),
    "batchrun.core.refreshes": ("AlreadyRefreshing", "RefreshPlan"),
    "batchrun.telemetry.otel": ("OpenTelemetry",),
    "batchrun.telemetry.prometheus": ("Prometheus",),
    "batchrun.workflows.context": ("Context",),
    "batchrun.workflows.decisions": ("Rejected",),
    "batchrun.workflows.flow": ("gather", "now", "pause", "random", "uuid"),
    "batchrun.workflows.functions": ("NodeFunction", "PythonWorkflow", "node", "workflow"),
}
_PLACE_OF = {name: module for module, names in _PLACES.items() for name in names}

__all__ = [
    "AlreadyRefreshing",
    "ApiKey",
    "AsyncClient",
    "AsyncExecution",
    "Auth",
    "Backoff",
    "Basic",
    "Batch",
    "BatchrunError",
    "Budget",
    "Client",
    "Context",
    "CsvFormat",
    "Dataset",
    "Execution",
    "ExecutionEnded",
    "ExecutionError",
    "ExecutionStarted",
    "Export",
    "FailurePolicy",
    "File",
    "FilesFormat",
    "ItemEnded",
    "Job",
    "JobError",
    "JobPlan",
    "Match",
    "NodeEnded",
    "NodeError",
    "NodeFunction",
    "NodeOptions",
    "OAuth2",
    "OpenTelemetry",
    "Output",
    "Price",
    "Progress",
    "ProgressMade",
    "Prometheus",
    "PythonWorkflow",
    "RefreshPlan",
    "Rejected",
    "ReplayMismatch",
    "Resource",
    "Retry",
    "RetryRule",
    "Retrying",
    "Run",
    "Sample",
    "Throttled",
    "Workflow",
    "__version__",
    "diff",
    "execute",
    "gather",
    "map",
    "node",
    "now",
    "open",
    "pause",
    "plan",
    "plan_refresh",
    "random",
    "refresh",
    "rerun",
    "resume",
    "retry",
    "submit",
    "uuid",
    "workflow",
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
