"""What an engine is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from batchrun.core.events import SentBack
from batchrun.core.items import ItemResult, RestoredItem
from batchrun.core.job import Run
from batchrun.core.protocols import NodeJournal, OutputCache, Rows
from batchrun.engine.lane import LaneSlots
from batchrun.flow.budget import Spending


class EngineSettings(NamedTuple):
    """What an engine needs besides the plan.

    Attributes:
        execution_id: goes into call keys.
        run: the run policies.
        recording: how much of each node execution is written down.
        journal: keeps what nodes of items come to that are not completed; null: nothing is kept.
        restored: where an item goes on that an earlier run began, by its ordinal; null for items that begin anew.
        stale: ids of nodes that were edited since; what is kept of them and of nodes after them is not used.
        spending: counts calls and what they use against the budget.
        on_note: called with a line for people, on the event loop.
        cache: keeps outputs for other calls; null: nothing is kept for them.
        prefix: goes before the ids of the nodes, when they belong to parts of calls of another node.
        part_names: takes id and type of each node of a part; the record of the n-th has the position -1 - n.
        lane_slots: where lanes mark the items they begin; null: nobody asks.
        is_cancelled: whether somebody has cancelled the execution.
        on_stopping: called on the event loop when nothing is to be waited for any more, once or more often.
        on_sent_back: is told of each call that failed and will be made again; from any thread. Null: nobody wants to know.
        cores: that this process is to use; null: all that it may.
        pack: makes rows of results in the lane that has made them, as the sink does; null for those that are handed over as they are.
    """

    execution_id: str
    run: Run
    recording: Literal["full", "summary", "none"] = "full"
    journal: NodeJournal | None = None
    restored: Callable[[int], RestoredItem | None] | None = None
    stale: frozenset[str] = frozenset()
    spending: Spending | None = None
    on_note: Callable[[str], None] = lambda _line: None
    cache: OutputCache | None = None
    prefix: str = ""
    part_names: list[tuple[str, str]] | None = None
    lane_slots: LaneSlots | None = None
    is_cancelled: Callable[[], bool] = lambda: False
    on_stopping: Callable[[], None] = lambda: None
    on_sent_back: Callable[[SentBack], None] | None = None
    cores: int | None = None
    pack: Callable[[Sequence[ItemResult]], Rows | None] = lambda _results: None
