"""What is known of the items of an execution: from its result, else from its journal, else from its last heartbeat."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from batchrun.client import Execution
from batchrun.core.executions import Progress
from batchrun.results import ResultTotals, journal_totals
from batchrun.results.journal import epochs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Known(NamedTuple):
    """What is known of the items of an execution.

    Attributes:
        totals: counters, nodes and failures of the items that are done; null: nothing is written down of any.
        progress: how far it is; of a process that is gone, without what its items were doing.
    """

    totals: ResultTotals | None
    progress: Progress


def known(execution: Execution) -> Known:
    """What is known of its items. Reads the journal while there is no result.

    Raises:
        ExecutionError: the journal cannot be read.
    """
    progress = execution.progress
    if execution.totals is not None:
        return Known(execution.totals, progress)
    if not progress.total_items:
        progress = replace(progress, total_items=execution.record.get("total_items") or 0)
    if not execution.is_in_progress:
        progress = replace(progress, open_items=0, open_nodes={}, waiting_for={}, resources={}, current_node_id=None, current_node_idx=None)
    if not epochs(execution.folder):
        return Known(None, progress)
    totals = journal_totals(execution.folder, tuple(_nodes(execution.record)))
    if totals.processed_items >= progress.processed_items or not execution.is_in_progress:
        done = {name: getattr(totals, name) for name in ("completed_items", "failed_items", "skipped_items", "reused_items")}
        progress = replace(progress, **done)
    return Known(totals, progress)


def plain(progress: Progress) -> dict[str, Any]:
    """Progress for programs."""
    derived = ("processed_items", "items_per_second", "remaining_seconds")
    return {**asdict(progress), **{name: getattr(progress, name) for name in derived}}


def _nodes(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Id and type of each node, in the order of the job."""
    nodes = ((record.get("job") or {}).get("workflow") or {}).get("nodes") or ()
    for node in nodes:
        yield node["id"], node["type"]
