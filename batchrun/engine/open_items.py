"""The items that have begun and not ended: what they are doing, and keeping what their nodes come to."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import chain
from typing import NamedTuple

from batchrun.engine.item_run import ItemRun
from batchrun.engine.keeping import Keeper
from batchrun.engine.lanes import LanePool
from batchrun.workflows.plan import Plan

_KEEPING_SECONDS = 0.1


class Activity(NamedTuple):
    """Where the items are that have begun and not ended.

    Attributes:
        nodes: how many are at each node, by its id; an item counts for the first node that it is at.
        waiting_for: how many wait for a `call` to return, for a `lane` to be free, for their `backoff` to pass, for their turn at a
            `resource`, or in a `batch` for others to join. An item with several calls at once counts as in a call.
    """

    nodes: dict[str, int]
    waiting_for: dict[str, int]


class OpenItems:
    """The open items of an execution. All methods are called on the event loop.

    Items that are run in chunks are only looked up in their lanes: they must not cost anything.

    Args:
        plan: the workflow.
        lanes: where functions run that do not wait.
        keeper: takes what nodes come to, ten times a second; items that have ended by then are never looked at. Null: nothing is kept.
    """

    def __init__(self, plan: Plan, lanes: LanePool, keeper: Keeper | None) -> None:
        self._plan = plan
        self._lanes = lanes
        self._keeper = keeper
        self._runs: dict[int, ItemRun] = {}
        self._backing_off: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        if keeper is not None:
            self._keep(keeper)

    def add(self, run: ItemRun) -> None:
        """An item is run from here on."""
        self._runs[run.source.ordinal] = run

    def remove(self, run: ItemRun) -> None:
        """It has ended."""
        del self._runs[run.source.ordinal]

    def replace(self, successor: ItemRun) -> None:
        """An item was abandoned by its lane: `successor` goes on in its place."""
        if successor.source.ordinal in self._runs:
            self._runs[successor.source.ordinal] = successor
        elif self._keeper is not None:  # until a lane takes it, nobody can look it up
            self._keeper.keep([successor])

    @contextmanager
    def backing_off(self, run: ItemRun) -> Iterator[None]:
        """The item waits for another attempt."""
        self._backing_off.add(run.source.ordinal)
        try:
            yield
        finally:
            self._backing_off.remove(run.source.ordinal)

    def activity(self) -> Activity:
        """Count what the items are doing."""
        in_lanes = {run.source.ordinal: run for run in self._lanes.current}
        node_at = cache(self._node_at)  # items may be many, the places they are at are few
        nodes = Counter[str]()
        waiting_for = Counter(call=0, lane=0, backoff=0, resource=0, batch=0)
        for ordinal, run in {**in_lanes, **self._runs}.items():
            node_id = node_at(run.stage, run.done)
            if node_id is not None:
                nodes[node_id] += 1
                is_queued = run.waiter is not None and ordinal not in in_lanes
                at_call = run.sharing.waits_for if run.sharing is not None else "call"
                waiting_for["backoff" if ordinal in self._backing_off else "lane" if is_queued else at_call] += 1
        return Activity(dict(nodes), dict(waiting_for))

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _node_at(self, stage: int, done: int) -> str | None:
        """The first node that an item is at which has come so far; null when it is just about to end."""
        return next((step.id for stage in self._plan.stages[stage : stage + 1] for step in stage.steps if not done & step.bit), None)

    def _keep(self, keeper: Keeper) -> None:
        keeper.keep(chain(self._runs.values(), self._lanes.current))
        self._timer = asyncio.get_running_loop().call_later(_KEEPING_SECONDS, self._keep, keeper)
