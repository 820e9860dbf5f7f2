"""The Python API: run jobs, look at executions, and steer them."""

from batchrun.client.clients import AsyncClient, Client
from batchrun.client.execution import Execution
from batchrun.client.running import execute, map, rerun, resume, retry, submit  # noqa: A004 - the name of the API

__all__ = ["AsyncClient", "Client", "Execution", "execute", "map", "rerun", "resume", "retry", "submit"]
