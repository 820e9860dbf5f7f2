"""The batchers of one execution, all together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from batchrun.engine.batcher import Batcher, BatchPorts
from batchrun.workflows.plan import Plan, Step
from batchrun.workflows.scope import Scope


class BatchSizes(NamedTuple):
    """How large the calls of a node were.

    Attributes:
        calls: that were made.
        items: in all of them together; an item counts once for each call it was in.
    """

    calls: int
    items: int


class Batches:
    """The batchers of one execution. All methods are called on the event loop.

    Args:
        plan: the workflow.
        parallelism: the most calls of each node at once.
        ports: what the batchers share.

    Attributes:
        calls: of the nodes that are batched, by position.
    """

    def __init__(self, plan: Plan, parallelism: int, ports: BatchPorts) -> None:
        self._batchers = {
            step.id: Batcher(step, step.batch, step.call_many, parallelism, ports)
            for step in plan.steps
            if step.batch is not None and step.call_many is not None
        }
        self._stages = [[self._batchers[step.id] for step in stage.steps if step.id in self._batchers] for stage in plan.stages]
        self.calls: Mapping[int, Callable[[Scope], Any]] = {
            step.position: self._batchers[step.id].call for step in plan.steps if step.id in self._batchers
        }

    def of(self, step: Step) -> Batcher:
        """That of a node whose calls are made for several items."""
        return self._batchers[step.id]

    @property
    def sizes(self) -> dict[str, BatchSizes]:
        """How large the calls were, by node; nothing of nodes that were not called."""
        return {id: BatchSizes(each.made_calls, each.called_items) for id, each in self._batchers.items() if each.made_calls}

    @property
    def abandoned_count(self) -> int:
        """Threads of calls that were given up and have still not come back."""
        return sum(each.abandoned_count for each in self._batchers.values())

    def send_waiting(self, *, is_end: bool) -> None:
        """All open items wait, and no other can begin for now: what waits for more items waits no longer, if none can come.

        Items of calls that are being made may come from an earlier node; unless no other item will ever begin (`is_end`),
        each that ends makes room for another one.
        """
        is_calling = False  # at an earlier node
        for batchers in self._stages:
            if not (is_calling if is_end else self._is_calling):
                for each in batchers:
                    each.send_waiting()
            is_calling = is_calling or any(each.is_calling for each in batchers)

    @property
    def _is_calling(self) -> bool:
        return any(each.is_calling for each in self._batchers.values())

    def resize(self, parallelism: int) -> None:
        """Make more or fewer calls at once, from now on."""
        for each in self._batchers.values():
            each.resize(parallelism)

    async def close(self) -> None:
        """End what can be ended."""
        for each in self._batchers.values():
            await each.close()


def largest_batch(plan: Plan) -> int:
    """The most items in one call; 0 when no calls are put together."""
    return max((step.batch.max_items for step in plan.steps if step.batch is not None), default=0)
