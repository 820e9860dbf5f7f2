"""What can be asked of an execution, once for `Execution`, which blocks, and `AsyncExecution`, which is awaited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from batchrun.client import detached
from batchrun.client.pauses import Pauses
from batchrun.client.starting import DatasetVersion
from batchrun.client.view import ExecutionView
from batchrun.core.errors import InvalidValue
from batchrun.engine.faithful import faithful_text
from batchrun.execution import account, decisions, publishing
from batchrun.execution.account import Answer
from batchrun.execution.decisions import WaitingItem
from batchrun.workflows.decisions import Decision
from batchrun.workflows.encoding import encode


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


def approve(
    execution: ExecutionView, items: Sequence[Any] | None, output: Any, *, node_id: str | None, by: str | None
) -> list[WaitingItem]:
    """See `Execution.approve`."""
    has_output = output is not ...
    decision = Decision(is_approved=True, has_output=has_output, output=_plain(output) if has_output else None, by=by)
    return decisions.decide(execution.folder, decision, _ids(items), node_id)


def reject(
    execution: ExecutionView, items: Sequence[Any] | None, reason: str | None, *, node_id: str | None, by: str | None
) -> list[WaitingItem]:
    """See `Execution.reject`."""
    decision = Decision(is_approved=False, reason=reason, by=by)
    return decisions.decide(execution.folder, decision, _ids(items), node_id)


def _ids(items: Sequence[Any] | None) -> list[str] | None:
    if isinstance(items, str):
        raise InvalidValue(f"items must be a list of ids, got the text {items!r}: give [{items!r}]")
    return None if items is None else [id if isinstance(id, str) else encode(id).decode().strip('"') for id in items]


def _plain(output: Any) -> Any:
    text = faithful_text(output, lambda value: value)
    if text is None:
        raise InvalidValue(
            f"an output of type {type(output).__qualname__} does not come back from JSON as it was; "
            "give dicts with text keys, lists, text, numbers, booleans and null"
        )
    return output


def publish(execution: ExecutionView, url: str | None) -> str:
    """See `Execution.publish`."""
    address = publishing.publish(execution.folder, url)
    execution.look()
    return address


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
