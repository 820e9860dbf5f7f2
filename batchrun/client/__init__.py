"""The Python API: run jobs, look at executions, and steer them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.core.lazy import loader

if TYPE_CHECKING:
    from batchrun.client.awaited import AsyncExecution
    from batchrun.client.clients import AsyncClient, Client
    from batchrun.client.execution import Execution
    from batchrun.client.planning import plan
    from batchrun.client.reading import diff, open  # noqa: A004 - the name of the API
    from batchrun.client.refreshing import plan_refresh, refresh
    from batchrun.client.running import execute, map, rerun, resume, retry, submit  # noqa: A004 - the name of the API
    from batchrun.client.view import ExecutionView
else:
    __getattr__ = loader(
        __name__,
        {
            "awaited": "AsyncExecution",
            "clients": "AsyncClient Client",
            "execution": "Execution",
            "planning": "plan",
            "reading": "diff open",
            "refreshing": "plan_refresh refresh",
            "running": "execute map rerun resume retry submit",
            "view": "ExecutionView",
        },
    )

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
