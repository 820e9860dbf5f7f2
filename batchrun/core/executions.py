"""The state of an execution, as it is told to people and programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias, TypedDict

ExecutionStatus: TypeAlias = Literal[
    "pending", "running", "finalizing", "completed", "paused", "waiting", "failed", "cancelled", "rejected"
]

ShownStatus: TypeAlias = ExecutionStatus | Literal["interrupted"]
"""`interrupted` is derived, never written down: `running` or `finalizing` without a process that does it."""

StopReason: TypeAlias = Literal["user", "cancel", "signal", "rule", "stuck", "budget", "failure_policy", "waiting"]

RESUMABLE: tuple[ExecutionStatus, ...] = ("pending", "running", "finalizing", "paused", "waiting", "failed", "cancelled")
"""What a resume goes on from; `running` and `finalizing` only when the process is gone."""


_STATUS_AFTER: dict[StopReason, ExecutionStatus] = {"failure_policy": "failed", "cancel": "cancelled", "waiting": "waiting"}


class Stop(NamedTuple):
    """Why an execution ends before its last item.

    Attributes:
        reason: what told it to.
        message: for people.
    """

    reason: StopReason
    message: str

    @property
    def status(self) -> ExecutionStatus:
        """What the execution is afterwards."""
        return _STATUS_AFTER.get(self.reason, "paused")


class ResourceState(TypedDict):
    """What a resource of an execution is doing. A plain dictionary, for it is told to programs and kept in the store.

    Attributes:
        in_flight: calls that are being made.
        queued: calls that wait for their turn.
        limit: the most calls at a time at this moment; null: no limit.
        requests_per_minute: the limit of calls a minute; null: none.
        tokens_per_minute: the limit of tokens a minute; null: none.
        calls: calls made so far, in this process.
        tokens: tokens that calls have used so far, in this process.
        throttled: calls the service answered with 429 or 503.
        parked_at: since when calls are parked because the service is out of order; null: they are not.
        parked_why: the last failure before; null as above.
        opened: how often calls were parked.
        parked_seconds: how long in all.
    """

    in_flight: int
    queued: int
    limit: int | None
    requests_per_minute: float | None
    tokens_per_minute: float | None
    calls: int
    tokens: int
    throttled: int
    parked_at: str | None
    parked_why: str | None
    opened: int
    parked_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an execution has come.

    Attributes:
        total_items: items of the dataset version after the filter.
        processed_items: items that are done: completed, failed or skipped.
        completed_items: items with an output.
        failed_items: items with an error.
        skipped_items: items whose output reads only skipped nodes.
        cancelled_items: items that were not run, or not to their end.
        waiting_items: items that wait for a person.
        open_items: items worked on, or waiting for another attempt.
        restored_items: items that were done before this process began.
        reused_items: items whose row a refresh took over from an earlier execution; known once the execution has ended.
        elapsed_seconds: time since this process started its first item.
        total_nodes: nodes of the workflow.
        current_node_id: the node that most open items are at.
        current_node_idx: its position in the job, from 0.
        slowest_node_id: the node that took most time so far.
        open_nodes: open items by the node they are at.
        waiting_for: open items by what they wait for: `call`, `lane`, `backoff`, `resource`, `batch`.
        resources: by its name, each service that was used.
    """

    total_items: int = 0
    completed_items: int = 0
    failed_items: int = 0
    skipped_items: int = 0
    cancelled_items: int = 0
    waiting_items: int = 0
    open_items: int = 0
    restored_items: int = 0
    reused_items: int = 0
    elapsed_seconds: float = 0.0
    total_nodes: int = 0
    current_node_id: str | None = None
    current_node_idx: int | None = None
    slowest_node_id: str | None = None
    open_nodes: Mapping[str, int] = field(default_factory=dict)
    waiting_for: Mapping[str, int] = field(default_factory=dict)
    resources: Mapping[str, ResourceState] = field(default_factory=dict)

    @property
    def processed_items(self) -> int:
        """Items that are done: completed, failed or skipped."""
        return self.completed_items + self.failed_items + self.skipped_items

    @property
    def items_per_second(self) -> float:
        """Items this process did per second, on average."""
        return (self.processed_items - self.restored_items) / self.elapsed_seconds if self.elapsed_seconds > 0 else 0.0

    @property
    def remaining_seconds(self) -> float | None:
        """Estimated time to the end at the average rate; null before the first item is done."""
        rate = self.items_per_second
        return (self.total_items - self.processed_items) / rate if rate else None
