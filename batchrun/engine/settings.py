"""What an engine is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from batchrun.core.items import RestoredItem
from batchrun.core.job import Run
from batchrun.core.protocols import NodeJournal, OutputCache
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
