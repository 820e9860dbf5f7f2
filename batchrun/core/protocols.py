"""The protocols between rooms that never import one another."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from batchrun.core.items import ItemResult, KeptNode


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


class NodeJournal(Protocol):
    """Keeps what nodes of items that are not completed have come to, so that no crash can cost it."""

    def keep(self, nodes: Sequence[KeptNode]) -> None:
        """Take what is to be kept; from any thread. Never blocks and never raises: `ResultSink.put` tells of a broken journal."""

    async def checkpoint(self, node: KeptNode) -> None:
        """Take a checkpoint of a running call, and return once it is safe on the disk.

        Raises:
            ExecutionError: it cannot be written.
        """
