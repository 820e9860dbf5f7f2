"""Group commit: what finishes within a tenth of a second goes to the disk together."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from batchrun.core.items import KeptNode
from batchrun.results.journal import NODES, ROWS, SPENT, Journal
from batchrun.results.kept import nodes_frame
from batchrun.results.recovery import rows_frame

_COMMIT_SECONDS = 0.1
_MOST_LATE_SECONDS = 0.01


class Checkpoint(NamedTuple):
    """A checkpoint on its way to the disk, and who waits for it."""

    node: KeptNode
    loop: asyncio.AbstractEventLoop
    written: asyncio.Future[None]

    def tell(self) -> None:
        """Say that it is there; from any thread."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        if not self.written.done():
            self.written.set_result(None)


class GroupCommit:
    """Writes to the journal, and decides when it is brought to the disk. One thread at a time.

    Args:
        journal: null: nothing is kept.
        spent: counters that are written whenever they have changed.

    Raises:
        ExecutionError: from `rows` and `commit`: the journal cannot be written, or another process goes on with the execution.
    """

    def __init__(self, journal: Journal | None, spent: Callable[[], Mapping[str, Any]]) -> None:
        self._journal = journal
        self._spent = spent
        self._spent_before: Mapping[str, Any] = {}
        self._nodes: list[KeptNode] = []
        self._checkpoints: list[Checkpoint] = []
        self._due = math.inf

    @property
    def seconds_left(self) -> float | None:
        """Time until the next commit is due; null: nothing waits for one."""
        return None if self._due == math.inf else max(self._due - time.monotonic(), 0.0)

    @property
    def may_wait(self) -> bool:
        """Whether a commit that is due may take along what is there already, such as the checkpoints that came during the last one."""
        return time.monotonic() - self._due < _MOST_LATE_SECONDS

    def expect(self) -> None:
        """Something was taken that is to be on the disk soon, or, without a journal, on its way into the result."""
        self._due = min(self._due, time.monotonic() + _COMMIT_SECONDS)

    def nodes(self, nodes: Sequence[KeptNode]) -> None:
        """Take what nodes of items that are not completed have come to."""
        self._nodes += nodes
        self.expect()

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Take a checkpoint; a commit is due at once."""
        self._checkpoints.append(checkpoint)
        self._nodes.append(checkpoint.node)
        self._due = min(self._due, time.monotonic())

    def rows(self, batch: pa.RecordBatch, ordinals: Sequence[int]) -> None:
        """Write rows of the result, after what is kept of their nodes: the last word about an item is its row."""
        if self._journal is not None:
            self.frame(memoryview(rows_frame(batch, ordinals)))

    def frame(self, body: bytes | memoryview) -> None:
        """The same with rows that are a frame already."""
        if self._journal is not None:
            self._write_nodes()
            self._journal.append(ROWS, body)

    def commit(self) -> None:
        """Bring everything that was taken to the disk."""
        self._due = math.inf
        if self._journal is None:
            return
        self._write_nodes()
        spent = self._spent()
        if spent != self._spent_before:
            self._journal.append(SPENT, orjson.dumps(spent))
            self._spent_before = spent
        self._journal.sync()
        for checkpoint in self._checkpoints:
            checkpoint.tell()
        self._checkpoints = []

    def _write_nodes(self) -> None:
        if self._journal is not None and self._nodes:
            self._journal.append(NODES, nodes_frame(self._nodes))
            self._nodes = []
