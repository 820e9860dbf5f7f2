"""The state of an execution, as it is told to people and programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

ExecutionStatus: TypeAlias = Literal[
    "pending", "running", "finalizing", "completed", "paused", "waiting", "failed", "cancelled", "rejected"
]

StopReason: TypeAlias = Literal["user", "signal", "rule", "stuck", "failure_policy"]


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
        return "failed" if self.reason == "failure_policy" else "paused"


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
        elapsed_seconds: time since the first item was started.
    """

    total_items: int = 0
    completed_items: int = 0
    failed_items: int = 0
    skipped_items: int = 0
    cancelled_items: int = 0
    waiting_items: int = 0
    open_items: int = 0
    elapsed_seconds: float = 0.0

    @property
    def processed_items(self) -> int:
        """Items that are done: completed, failed or skipped."""
        return self.completed_items + self.failed_items + self.skipped_items

    @property
    def items_per_second(self) -> float:
        """Items done per second, on average."""
        return self.processed_items / self.elapsed_seconds if self.elapsed_seconds > 0 else 0.0

    @property
    def remaining_seconds(self) -> float | None:
        """Estimated time to the end at the average rate; null before the first item is done."""
        rate = self.items_per_second
        return (self.total_items - self.processed_items) / rate if rate else None
