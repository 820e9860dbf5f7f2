"""The folder of the execution that is running, for nodes that leave files there."""

from __future__ import annotations

from contextvars import ContextVar
from pathlib import Path

EXECUTION_FOLDER: ContextVar[Path | None] = ContextVar("batchrun_execution_folder", default=None)
"""Set before the nodes of an execution are opened; null: nothing is written down, as in `batchrun try`."""
