"""The Python API: run jobs, look at executions, and steer them."""

from batchrun.client.awaited import AsyncExecution
from batchrun.client.clients import AsyncClient, Client
from batchrun.client.execution import Execution
from batchrun.client.planning import plan
from batchrun.client.reading import diff, open  # noqa: A004 - the name of the API
from batchrun.client.refreshing import plan_refresh, refresh
from batchrun.client.running import execute, map, rerun, resume, retry, submit  # noqa: A004 - the name of the API
from batchrun.client.view import ExecutionView

__all__ = [
    "AsyncClient",
    "AsyncExecution",
    "Client",
    "Execution",
    "ExecutionView",
    "diff",
    "execute",
    "map",
    "open",
    "plan",
    "plan_refresh",
    "refresh",
    "rerun",
    "resume",
    "retry",
    "submit",
]
