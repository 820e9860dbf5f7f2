"""How many items have ended, and how."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from batchrun.core.items import Item, ItemResult, ItemStatus


@dataclass(slots=True)
class Counts:
    """Running totals of one execution.

    Attributes:
        reused: completed items whose row is that of an earlier execution.
    """

    completed: int = 0
    failed: int = 0
    skipped: int = 0
    waiting: int = 0
    cancelled: int = 0
    reused: int = 0

    def add(self, statuses: Mapping[ItemStatus, int]) -> None:
        """Count items: how many have ended with which status."""
        for status, count in statuses.items():
            setattr(self, status, getattr(self, status) + count)

    def add_one(self, result: ItemResult) -> None:
        """Count a result."""
        status = result[1]
        if status == "completed":  # without a look-up by name
            self.completed += 1
        else:
            setattr(self, status, getattr(self, status) + 1)

    @property
    def completed_here(self) -> int:
        """The items that this execution has completed itself."""
        return self.completed - self.reused

    @property
    def processed(self) -> int:
        """The items that are done."""
        return self.completed + self.failed + self.skipped

    @property
    def ended(self) -> int:
        """All items counted."""
        return self.completed + self.failed + self.skipped + self.waiting + self.cancelled


def unstarted(items: Iterable[Item]) -> list[ItemResult]:
    """The results of items that were loaded and never started."""
    return [ItemResult(item, "cancelled", None, None, 0, None, 0.0, ()) for item in items]
