"""The Python API: run jobs, look at executions, and steer them."""

from batchrun.client.clients import AsyncClient, Client
from batchrun.client.execution import AsyncExecution, Execution
from batchrun.client.running import execute, map, rerun, resume, retry, submit  # noqa: A004 - the name of the API
from batchrun.client.view import ExecutionView

__all__ = [
    "AsyncClient",
    "AsyncExecution",
    "Client",
    "Execution",
    "ExecutionView",
    "execute",
    "map",
    "rerun",
    "resume",
    "retry",
    "submit",
]
