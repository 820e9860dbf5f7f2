"""What an execution asks of whatever runs its items: the dispatcher of this process, or that of worker processes."""

from __future__ import annotations

from typing import Protocol

from batchrun.core.executions import Stop
from batchrun.dispatch.counts import Counts
from batchrun.engine.open_items import Activity
from batchrun.workflows.plan import Plan


class Dispatching(Protocol):
    """Runs the items. All methods are called on the event loop.

    Attributes:
        counts: items that have ended, in earlier runs or in this one.
        stop_cause: why it stopped early; null while it did not.
    """

    counts: Counts
    stop_cause: Stop | None

    @property
    def loaded_items(self) -> int:
        """Items that have a row, or will have one."""

    def resize(self, parallelism: int) -> None:
        """Work on this many items at once from now on."""

    def stop(self, cause: Stop) -> None:
        """Start no more items; those at work may go on for the grace period."""

    def abandon(self) -> None:
        """Wait no longer for items at work."""


class Working(Protocol):
    """Knows what open items are doing."""

    @property
    def plan(self) -> Plan:
        """The workflow."""

    def activity(self) -> Activity:
        """What the items that have begun are doing."""
