"""The protocols between rooms that never import one another."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from batchrun.core.items import ItemResult


class Slot(Protocol):
    """A place among the items that are worked on at once. The dispatcher lends it to the engine, one per item."""

    def parked(self) -> AbstractAsyncContextManager[None]:
        """Give the slot back for as long as the item waits, and take one again before it goes on."""


class ResultSink(Protocol):
    """Takes finished items."""

    @property
    def backlog(self) -> int:
        """Items taken but not yet written. The dispatcher loads no more items while it is high."""

    def put(self, results: Sequence[ItemResult]) -> None:
        """Take results in any order, from one thread; never blocks.

        Raises:
            ExecutionError: writing failed; no result is taken any more.
        """
