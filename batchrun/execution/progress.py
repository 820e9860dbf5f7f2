"""How far an execution is: asked of the rooms while its items run, read from its totals when it has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from batchrun.core.executions import Progress, ResourceState
from batchrun.core.job import Resource
from batchrun.core.secrets import Mask
from batchrun.execution.backing import Dispatching, Working
from batchrun.net.shared import states
from batchrun.results import NodeTotals, ResultTotals, ResultWriter

PROGRESS_FIELDS = frozenset(field.name for field in fields(Progress))


class Followed(NamedTuple):
    """The rooms that know how far an execution is."""

    dispatcher: Dispatching
    engine: Working
    writer: ResultWriter
    total_items: int
    resources: Mapping[str, Resource] = MappingProxyType({})
    mask: Mask = Mask()


def snapshots(rooms: Followed) -> Callable[[Progress], Progress]:
    """Gives the progress at this moment; what the items are doing is as it was at the last look."""
    dispatcher, started = rooms.dispatcher, time.monotonic()
    restored_items = dispatcher.counts.ended

    def snapshot(before: Progress) -> Progress:
        counts = dispatcher.counts
        return replace(
            before,
            total_items=rooms.total_items,
            completed_items=counts.completed,
            failed_items=counts.failed,
            skipped_items=counts.skipped,
            cancelled_items=counts.cancelled,
            waiting_items=counts.waiting,
            restored_items=restored_items,
            elapsed_seconds=time.monotonic() - started,
            total_nodes=len(rooms.engine.plan.steps),
        )

    return snapshot


def with_activity(progress: Progress, rooms: Followed) -> Progress:
    """The progress with what the items are doing at this moment; on the event loop."""
    nodes, waiting_for = rooms.engine.activity()
    current = max(nodes, key=nodes.__getitem__, default=None)
    return replace(
        progress,
        open_items=sum(nodes.values()),  # the dispatcher also counts those that are queued for a lane
        current_node_id=current,
        current_node_idx=next((step.position for step in rooms.engine.plan.steps if step.id == current), None),
        slowest_node_id=_slowest(rooms.writer.totals.nodes),
        open_nodes=nodes,
        waiting_for=waiting_for,
        resources=rooms.mask.value(states(rooms.resources)),
    )


def parking_notes(before: Mapping[str, ResourceState], now: Mapping[str, ResourceState]) -> Iterator[str]:
    """What people are told when a service goes out of order, and when it is back.

    Args:
        before: the resources at the last look.
        now: at this one.
    """
    for name, state in now.items():
        earlier = before.get(name)
        was_parked = earlier is not None and earlier["parked_at"] is not None
        if state["parked_at"] is not None and not was_parked:
            yield f"resource {name} is parked, one call at a time tries it: {state['parked_why']}"
        elif state["parked_at"] is None and was_parked:
            yield f"resource {name} answers again, after {state['parked_seconds']:g} s parked in all"


def at_end(progress: Progress, totals: ResultTotals) -> Progress:
    """The progress of an execution that has ended and has a result.

    Args:
        progress: what is known besides its totals.
        totals: of its result.
    """
    counters: dict[str, Any] = {name: count for name, count in totals.counters().items() if name in PROGRESS_FIELDS}
    return replace(
        progress,
        **counters,
        open_items=0,
        total_nodes=sum("." not in node.node_id for node in totals.nodes),
        current_node_id=None,
        current_node_idx=None,
        slowest_node_id=_slowest(totals.nodes),
        open_nodes={},
        waiting_for={},
        resources={},
    )


def _slowest(nodes: Sequence[NodeTotals]) -> str | None:
    """The node that took most time; null before the first call has ended."""
    slowest = max(nodes, key=lambda node: node.total_ms, default=None)
    return slowest.node_id if slowest is not None and slowest.calls else None
