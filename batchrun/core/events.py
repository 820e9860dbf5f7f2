"""What an execution tells while it runs: one frozen object per event, for callbacks, logs, traces and metrics.

Nothing is told of an item before it has ended, so that an execution nobody listens to pays nothing: `ItemEnded` and
`NodeEnded` carry the exact times at which they began.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, TypeAlias

from batchrun.core.errors import ErrorRecord
from batchrun.core.executions import ExecutionStatus, Progress, StopReason
from batchrun.core.items import ItemStatus, NodeStatus, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened in an execution.

    Attributes:
        execution_id: names the execution.
        at: when it happened, UTC.
    """

    execution_id: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionStarted(Event):
    """An execution is about to begin its first item, or goes on after a resume or a retry.

    Attributes:
        job_name: of its job.
        total_items: items of the dataset version after the filter.
        restored_items: items that were done before.
    """

    job_name: str
    total_items: int
    restored_items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionEnded(Event):
    """An execution has ended, for good or until it is resumed. The last event.

    Attributes:
        status: what it is now.
        stop_reason: why it ended before its last item; null when it did not.
        error: what is said to people about that; null when it completed.
        started_at: of this run of it.
        duration_seconds: of this run of it.
        progress: its counters over all runs.
    """

    status: ExecutionStatus
    stop_reason: StopReason | None
    error: str | None
    started_at: datetime
    duration_seconds: float
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemEvent(Event):
    """Something that happened to one item.

    Attributes:
        item_index: its position in the dataset version before the filter.
        source_item_id: the value of the id column, else `item_index`.
    """

    item_index: int
    source_item_id: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemEnded(ItemEvent):
    """An item has ended; the events of its nodes came before.

    Attributes:
        status: what became of it.
        attempts: 1, and 1 more each time it was sent back.
        started_at: when its first node began; null when none did.
        duration_ms: from then to the end, waits included.
        error: why it failed; null when it did not.
    """

    status: ItemStatus
    attempts: int
    started_at: datetime | None
    duration_ms: float
    error: ErrorRecord | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEnded(ItemEvent):
    """A node execution has ended. Told when its item ends; `at` is when the node did.

    Attributes:
        node_id: the node.
        node_type: its type.
        occurrence: 0 for the first execution of the node for this item.
        status: what became of it.
        attempts: calls that were not throttled.
        started_at: when the last call began; null when the node was skipped.
        duration_ms: of the last call.
        cache_hit: whether the output came from the cache.
        usage: what its calls cost, where they said so.
        error: why it failed; null when it did not.
    """

    node_id: str
    node_type: str
    occurrence: int
    status: NodeStatus
    attempts: int
    started_at: datetime | None
    duration_ms: float
    cache_hit: bool
    usage: Usage | None
    error: ErrorRecord | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SentBack(ItemEvent):
    """A call failed, and its item waits before the node is tried again.

    Attributes:
        node_id: the node.
        failed_attempts: calls of the node that have used up an attempt so far.
        wait_seconds: how long the item waits.
        error_type: class name of the error.
        message: its message.
    """

    node_id: str
    failed_attempts: int
    wait_seconds: float
    error_type: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrying(SentBack):
    """A call failed and will be made again; the failed one counts as an attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttled(SentBack):
    """A service asked for fewer calls; the call will be made again, and no attempt is used up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressMade(Event):
    """How far the execution is; told once a second.

    Attributes:
        progress: its counters, and what its items are doing.
    """

    progress: Progress


EventSink: TypeAlias = Callable[[Any], Any]
"""Takes each event; a function, sync or async, or any object that can be called with one."""

EVENT_TYPES: Mapping[type[Event], str] = {
    ExecutionStarted: "execution_started",
    ExecutionEnded: "execution_ended",
    ItemEnded: "item_ended",
    NodeEnded: "node_ended",
    Retrying: "retrying",
    Throttled: "throttled",
    ProgressMade: "progress_made",
}
"""The events and their names in logs."""

_NAMES = {kind: tuple(field.name for field in fields(kind)) for kind in EVENT_TYPES}


def plain(event: Event) -> dict[str, Any]:
    """An event as a dictionary: its name under `event`, then its fields in order. Times stay datetimes."""
    kind = type(event)
    told: dict[str, Any] = {"event": EVENT_TYPES[kind]}
    for name in _NAMES[kind]:
        value = getattr(event, name)
        told[name] = value._asdict() if isinstance(value, ErrorRecord | Usage) else value
    return told
