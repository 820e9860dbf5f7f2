"""The protocols between rooms that never import one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from batchrun.core.items import ItemResult, ItemStatus, KeptNode


class Slot(Protocol):
    """A place among the items that are worked on at once. The dispatcher lends it to the engine, one per item."""

    def parked(self) -> AbstractAsyncContextManager[None]:
        """Give the slot back for as long as the item waits, and take one again before it goes on."""


class Rows(Protocol):
    """Rows of the result, made of results."""

    @property
    def statuses(self) -> Mapping[ItemStatus, int]:
        """How many of their items have which status."""


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

    def pack(self, results: Sequence[ItemResult]) -> Rows | None:
        """Make rows of results, in any thread: in the one that has just made them, they are still in its cache.

        Returns:
            what `put_rows` takes; null for results that are to be put as they are, because they are few or something is wrong with one
            of them. Never raises.
        """

    def put_rows(self, rows: Any) -> None:
        """Take rows that `pack` has made; as `put`.

        Raises:
            ExecutionError: as from `put`.
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


class OutputCache(Protocol):
    """Keeps outputs of nodes for later calls, in this execution or another one. Any thread may use it; it never raises."""

    def get(self, key: bytes) -> bytes | None:
        """The output that is kept under a key, as JSON; null when there is none. Takes microseconds."""

    def put(self, key: bytes, output: bytes, node_id: str, fingerprint: str) -> None:
        """Keep an output; never blocks.

        Args:
            key: of the call.
            output: what it gave, as JSON.
            node_id: the node.
            fingerprint: of what the node does; also part of the key.
        """
