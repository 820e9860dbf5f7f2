"""Why an execution ends before its last item."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from batchrun.core.executions import Stop
from batchrun.core.job import Run

ONLY_RETRIED = Stop("user", "only failed items were run again, and others have not ended: to run these, resume")
"""The items that were chosen have ended."""

ONLY_SAMPLED = Stop("user", "only a sample was run, and others have not ended: to run these, resume")
"""The items of the sample have ended; see `Prepared.sample`."""


def waiting_stop(count: int) -> Stop:
    """Only items are left that wait for a person."""
    items = "1 item waits" if count == 1 else f"{count:,} items wait"
    return Stop("waiting", f"{items} for a person")


def timeout_stop(run: Run) -> Stop:
    """The time of the job is over."""
    return Stop("budget", f"run.timeout_seconds, {run.timeout_seconds:g} s, is used up: to go on, raise it and resume")


def by_status(ordinals: list[int], waits: Callable[[int], bool]) -> Iterator[tuple[Literal["cancelled", "waiting"], list[int]]]:
    """Items that were not run, by what they are."""
    waiting = [ordinal for ordinal in ordinals if waits(ordinal)]
    if waiting:
        yield "waiting", waiting
        ordinals = sorted({*ordinals} - {*waiting})
    if ordinals:
        yield "cancelled", ordinals
