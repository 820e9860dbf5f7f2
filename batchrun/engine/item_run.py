"""One item on its way through the plan."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from batchrun.core.errors import ErrorRecord
from batchrun.core.items import Item, ItemResult, ItemStatus, NodeRecord
from batchrun.core.protocols import Rows
from batchrun.engine.context import CallContext, Trace
from batchrun.flow.retry import CallHistory
from batchrun.workflows.plan import Step
from batchrun.workflows.scope import Scope

if TYPE_CHECKING:
    from batchrun.engine.part_run import KeptPart
    from batchrun.engine.parts import CallParts

# What classes do when they are called, without their functions of Python: half of the time.
new_tuple = tuple.__new__
_new = object.__new__
_status = itemgetter(1)


class ItemRun(Scope):
    """The state of one item: what its templates see, and how far it has come.

    Attributes:
        source: the item.
        records: one record per node execution that ended.
        done: nodes that ended, as bits; they never run again.
        skipped: nodes that were skipped, as bits.
        failed: nodes that failed and did not end the item, as bits.
        kept: nodes that ended and were handed to the journal, as bits.
        has_waited: an earlier run left it where it waits for a person, who has not decided yet.
        stage: position of the stage the item is in.
        attempts: 1 + times the item was sent back by `retry`, those of earlier runs included.
        generation: how often the item was chosen by a retry of the execution.
        calls: failed calls so far, by node position; made when the first one fails.
        earlier: calls that only add to the attempts that are recorded, by node position.
        traces: what calls that did not end well left behind, by node position.
        started: engine clock when the item was first worked on; negative: it was not yet.
        excluded: seconds that do not count towards the item's deadline.
        wait_seconds: set when the item must wait before it goes on.
        waits_since: engine clock from which these seconds count; null: from when it begins to wait.
        status: set when the item has ended early: failed or cancelled.
        error: why it failed.
        path: of a part of a call: names it within its item; else empty.
        call_parts: what nodes with parts have come to, by node position.
        kept_parts: where parts go on that an earlier run of the execution began.
        successor: what goes on in its place, since its lane was abandoned.
        waiter: told when a lane is done with the item; null when the item was submitted in a chunk.
    """

    # Values of the class stand for those an item starts with: most items never change them, and setting none of them is
    # the largest saving there is in making an item.
    call_key: str | None = None
    context: CallContext | None = None
    done = 0
    skipped = 0
    failed = 0
    kept = 0
    has_waited = False
    stage = 0
    attempts = 1
    generation = 0
    calls: dict[int, CallHistory] | None = None
    earlier: Mapping[int, int] = MappingProxyType({})
    traces: Mapping[int, Trace] = MappingProxyType({})
    started = -1.0
    excluded = 0.0
    wait_seconds: float | None = None
    waits_since: float | None = None
    status: ItemStatus | None = None
    error: ErrorRecord | None = None
    path = ""
    call_parts: Mapping[int, CallParts] = MappingProxyType({})
    kept_parts: Mapping[str, KeptPart] = MappingProxyType({})
    successor: ItemRun | None = None
    waiter: asyncio.Future[ItemRun] | None = None

    def __init__(self, source: Item, node_count: int) -> None:
        # Scope.__init__ is not called: one of these is made per item.
        self.source = source
        self.item = source.data
        self.outputs = [None] * node_count
        self.records: list[NodeRecord] = []

    @property
    def has_begun(self) -> bool:
        """Whether it was ever worked on."""
        return self.started >= 0

    @property
    def goes_on(self) -> bool:
        """Whether its next node can run now: it has neither ended nor must it wait."""
        return self.status is None and self.wait_seconds is None

    def is_on_the_way_to(self, step: Step) -> bool:
        """Whether what ended before a node leads to it."""
        if step.fallback_for:
            return bool(self.failed & step.fallback_for)
        if step.sources and self.skipped & step.sources == step.sources:
            return False
        is_id = step.id.__eq__  # not ==, which would call what users define for values of theirs
        return not step.chosen_by or any(is_id(self.outputs[position]) is True for position in step.chosen_by)

    # The event loop looks at `done` while a lane works: what it goes with is set before.

    def end_with(self, step: Step, value: object) -> None:
        """A node has ended with this output; it is also that of the nodes it stands in for."""
        self.outputs[step.position] = value
        for position in step.stands_in_for:
            self.outputs[position] = value
        self.done |= step.bit

    def fail_with(self, step: Step, value: object) -> None:
        """A node has failed, and the item goes on with this in place of its output."""
        self.failed |= step.bit
        self.end_with(step, value)

    def skip(self, step: Step) -> None:
        """A node does not run; a fallback that does not run stands in for nothing."""
        self.skipped |= step.bit
        self.done |= step.bit

    def fails(self, error: BaseException | None) -> None:
        """A node has failed it with this exception."""

    def undo(self, step: Step) -> None:
        """Forget how a node ended."""
        for name in ("done", "kept", "failed", "skipped"):
            setattr(self, name, getattr(self, name) & ~step.bit)
        self.records = [record for record in self.records if record[0] != step.position]

    def attempt_of(self, position: int) -> int:
        """The number of the call of a node that is being made: 1 for the first."""
        return self.failed_calls(position) + self.earlier.get(position, 0) + 1

    def failed_calls(self, position: int) -> int:
        """Calls of a node that failed and use up its attempts."""
        return self.calls[position].attempts if self.calls is not None and position in self.calls else 0

    def left_by(self, position: int) -> Trace:
        """What the call of a node that has just ended, and those before it, have left behind. The call's context is over."""
        context, self.context = self.context, None
        if context is not None:
            trace = context.end()
            if context.position == position:  # else its lane went on to the next call in the moment it was abandoned
                return trace
        return self.traces.get(position, Trace())

    def branch(self) -> Scope:
        """A scope of its own for a node that runs beside others of the same item."""
        return Scope(self.item, self.outputs)

    def fork(self) -> ItemRun:
        """A copy that shares nothing that changes: what an abandoned thread still does must not show."""
        copy = type(self).__new__(type(self))
        vars(copy).update(vars(self))
        copy.outputs = list(self.outputs)
        copy.records = list(self.records)
        if self.call_parts:
            copy.call_parts = {position: parts.fork(copy) for position, parts in self.call_parts.items()}
        return copy

    def left(self) -> ItemRun:
        """What goes on in its place once nobody waits for it any more: a copy if a lane may still be at work on it."""
        run: ItemRun = self
        while run.successor is not None:
            run = run.successor
        if run.waiter is not None:
            run = run.fork()
            run.waiter = None
        return run


def run_maker(node_count: int) -> Callable[[Item], ItemRun]:
    """Makes the runs of items of a plan of so many nodes, as the class does, in half the time."""

    def begin(source: Item) -> ItemRun:
        run = _new(ItemRun)
        run.source = source
        run.item = source.data
        run.outputs = [None] * node_count
        run.records = []
        return run

    return begin


class Finished(NamedTuple):
    """What came out of a chunk.

    Attributes:
        results: of items that have ended.
        statuses: how many items have ended with which status.
        waiting: items that must wait before they are tried again.
        rows: made of the results of further items that have ended.
    """

    results: list[ItemResult]
    statuses: Mapping[ItemStatus, int]
    waiting: list[ItemRun]
    rows: list[Rows] = []  # noqa: RUF012 - nobody adds to it

    @classmethod
    def of(cls, results: list[ItemResult], waiting: list[ItemRun]) -> Finished:
        """The same with what can be counted."""
        return cls(results, Counter(map(_status, results)) if results else {}, waiting)
