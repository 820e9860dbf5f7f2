"""How many items have ended, and how."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from batchrun.core.items import Item, ItemResult


@dataclass(slots=True)
class Counts:
    """Running totals of one execution."""

    completed: int = 0
    failed: int = 0
    skipped: int = 0
    waiting: int = 0
    cancelled: int = 0

    def add(self, results: Sequence[ItemResult]) -> None:
        """Count results."""
        for result in results:
            status = result.status
            if status == "completed":
                self.completed += 1
            else:
                setattr(self, status, getattr(self, status) + 1)

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
