"""How long items and attempts may take."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from batchrun.core.errors import Timeout
from batchrun.engine.item_run import ItemRun
from batchrun.workflows.plan import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """The deadlines of one execution.

    An attempt's clock starts when the call is made. An item's clock starts with its first node and stands still while
    the item is throttled.

    Attributes:
        item_timeout_seconds: what an item may take; null: as long as it likes.
        clock: seconds; never goes back.
    """

    item_timeout_seconds: float | None
    clock: Callable[[], float]

    def attempt_seconds(self, run: ItemRun, step: Step, spent_seconds: float = 0.0) -> float | None:
        """What a call may still take that has taken `spent_seconds`; null: as long as it likes."""
        own = None if step.timeout_seconds is None else max(step.timeout_seconds - spent_seconds, 0.0)
        if self.item_timeout_seconds is None:
            return own
        left = max(run.started + run.excluded + self.item_timeout_seconds - self.clock(), 0.0)
        return left if own is None or left < own else own

    def item_ends_at(self, run: ItemRun) -> float:
        """By the clock, when an item's time is up; infinite: never."""
        return math.inf if self.item_timeout_seconds is None else run.started + run.excluded + self.item_timeout_seconds

    def leaves_time_after(self, run: ItemRun, wait_seconds: float) -> bool:
        """Whether the item will have time left after a wait."""
        left = self._item_seconds(run, self.clock())
        return left is None or left > wait_seconds

    def is_late(self, run: ItemRun, step: Step | None, began: float) -> bool:
        """Whether a call that began then should have ended by now."""
        now = self.clock()
        if step is not None and step.timeout_seconds is not None and now - began > step.timeout_seconds:
            return True
        left = self._item_seconds(run, now)
        return left is not None and left <= 0

    def timeout(self, run: ItemRun, step: Step, began: float) -> Timeout:
        """The error of a call that began then and ran past its deadline."""
        left = self._item_seconds(run, began)
        if step.timeout_seconds is not None and (left is None or step.timeout_seconds < left):
            return Timeout(f"the call ran longer than timeout_seconds: {step.timeout_seconds:g}")
        error = Timeout(f"the item ran longer than item_timeout_seconds: {self.item_timeout_seconds:g}")
        error.retryable = False
        return error

    def _item_seconds(self, run: ItemRun, now: float) -> float | None:
        return None if self.item_timeout_seconds is None else self.item_ends_at(run) - now
