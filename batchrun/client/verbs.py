"""What can be asked of an execution, once for `Execution`, which blocks, and `AsyncExecution`, which is awaited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from batchrun.client import detached
from batchrun.client.pauses import Pauses
from batchrun.client.starting import DatasetVersion
from batchrun.client.view import ExecutionView
from batchrun.execution import account
from batchrun.execution.account import Answer


def cancel(execution: ExecutionView) -> Answer:
    """See `Execution.cancel`."""
    answer = account.cancel(execution.folder)
    execution.look()
    return answer


def pause(execution: ExecutionView) -> Answer:
    """See `Execution.pause`."""
    answer = account.pause(execution.folder)
    execution.look()
    return answer


def tune(execution: ExecutionView, overrides: Mapping[str, Any] | Sequence[str]) -> None:
    """See `Execution.tune`."""
    account.tune(execution.folder, overrides)


def resume(execution: ExecutionView, overrides: Mapping[str, Any] | Sequence[str], *, accept_changes: bool) -> Pauses[None]:
    """See `Execution.resume`."""
    if execution.look() != "completed":
        options = {"overrides": overrides, "accept_changes": accept_changes}
        yield from detached.going_on(execution.folder, "resume", options)
        execution.look()


def retry(
    execution: ExecutionView,
    where: str | None,
    overrides: Mapping[str, Any] | Sequence[str],
    *,
    from_start: bool,
    accept_changes: bool,
) -> Pauses[None]:
    """See `Execution.retry`."""
    options = {"where": where, "overrides": overrides, "from_start": from_start, "accept_changes": accept_changes}
    yield from detached.going_on(execution.folder, "retry", options)
    execution.look()


def rerun(
    execution: ExecutionView,
    overrides: Mapping[str, Any] | Sequence[str],
    *,
    dataset_version: DatasetVersion,
    outputs: Mapping[str, Any] | Sequence[str],
) -> Path:
    """See `Execution.rerun`. Returns the folder of the new execution."""
    return detached.rerun(execution.folder, overrides, dataset_version, outputs)
