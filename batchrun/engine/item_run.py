"""One item on its way through the plan."""

from __future__ import annotations

import asyncio

from batchrun.core.errors import ErrorRecord
from batchrun.core.items import Item, ItemResult, ItemStatus, NodeRecord
from batchrun.flow.retry import CallHistory
from batchrun.workflow.scope import Scope


class ItemRun(Scope):
    """The state of one item: what its templates see, and how far it has come.

    Attributes:
        source: the item.
        records: one record per node execution that ended.
        done: nodes that ended, as bits; they never run again.
        skipped: nodes that were skipped, as bits.
        stage: position of the stage the item is in.
        attempts: 1 + times the item was sent back by `retry`.
        calls: failed calls so far, by node position; made when the first one fails.
        started: engine clock when the item was first worked on.
        excluded: seconds that do not count towards the item's deadline.
        wait_seconds: set when the item must wait before it goes on.
        status: set when the item has ended early: failed or cancelled.
        error: why it failed.
        result: the finished result, once a lane has made it.
        waiter: told when a lane is done with the item; null when the item was submitted in a chunk.
    """

    __slots__ = (
        "attempts", "calls", "done", "error", "excluded", "records", "result", "skipped", "source", "stage", "started",
        "status", "wait_seconds", "waiter",
    )  # fmt: skip

    def __init__(self, source: Item, node_count: int) -> None:
        # Scope.__init__ is repeated here because one of these is made per item and the call would be its largest part.
        self.item = source.data
        self.outputs = [None] * node_count
        self.call_key = None
        self.timeout_seconds = None
        self.source = source
        self.records: list[NodeRecord] = []
        self.done = 0
        self.skipped = 0
        self.stage = 0
        self.attempts = 1
        self.calls: dict[int, CallHistory] | None = None
        self.started = 0.0
        self.excluded = 0.0
        self.wait_seconds: float | None = None
        self.status: ItemStatus | None = None
        self.error: ErrorRecord | None = None
        self.result: ItemResult | None = None
        self.waiter: asyncio.Future[ItemRun] | None = None

    @property
    def goes_on(self) -> bool:
        """Whether its next node can run now: it has neither ended nor must it wait."""
        return self.status is None and self.wait_seconds is None

    def branch(self) -> Scope:
        """A scope of its own for a node that runs beside others of the same item."""
        return Scope(self.item, self.outputs)

    def fork(self) -> ItemRun:
        """A copy that shares nothing that changes: what an abandoned thread still does must not show."""
        copy = ItemRun(self.source, 0)
        for name in self.__slots__:
            setattr(copy, name, getattr(self, name))
        copy.outputs = list(self.outputs)
        copy.records = list(self.records)
        return copy
