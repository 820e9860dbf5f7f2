"""Driving items through the stages of a plan, each in a task."""

from __future__ import annotations

from collections.abc import Awaitable

import anyio

from batchrun.core.protocols import Slot
from batchrun.engine.calls import Calls
from batchrun.engine.item_run import ItemRun
from batchrun.engine.lanes import LanePool
from batchrun.engine.open_items import OpenItems
from batchrun.engine.settling import Settling
from batchrun.engine.stopping import Stopping
from batchrun.engine.together import together
from batchrun.flow.reach import Reach
from batchrun.workflows.plan import Stage


class Driver:
    """Drives items through one plan. Made on the event loop.

    Args:
        calls: calls its nodes.
        settling: decides which of them are skipped.
        lanes: where those run that do not wait.
        open_items: is told of the items.
        stopping: set when none may wait any more.
        most_together: the most nodes of an item at once; null: all that can.
    """

    def __init__(
        self, calls: Calls, settling: Settling, lanes: LanePool, open_items: OpenItems, stopping: Stopping, most_together: int | None
    ) -> None:
        self._stages = calls.policy.plan.stages
        self._bits = [sum(step.bit for step in stage.steps) for stage in self._stages]
        self._calls = calls
        self._settling = settling
        self._lanes = lanes
        self._open = open_items
        self._stopping = stopping
        self._most_together = most_together
        self._clock = calls.policy.deadlines.clock
        self._clock_offset = anyio.current_time() - self._clock()

    async def drive(self, run: ItemRun, slot: Slot, reach: Reach | None) -> ItemRun:
        """Run an item from where it is to its end. Returns what has come to the end in place of `run`.

        Args:
            run: the item.
            slot: given back while it waits.
            reach: of the task; null: each call that waits has a cancel scope of its own.
        """
        if run.started < 0:
            run.started = self._clock()
        self._open.add(run)
        run.slot, last = slot, len(self._stages)
        try:
            while run.stage < last:
                if run.wait_seconds is not None and not await self._waited(run, slot):
                    run.status, run.error = "cancelled", None
                    break
                run = await self._stage(run, reach)
                if run.status is not None:
                    break
                if run.wait_seconds is None:
                    run.stage += 1
            return run
        finally:
            self._open.remove(run)

    async def _waited(self, run: ItemRun, slot: Slot) -> bool:
        seconds, run.wait_seconds = run.wait_seconds or 0.0, None
        since = anyio.current_time() if run.waits_since is None else run.waits_since + self._clock_offset
        with self._open.backing_off(run):
            async with slot.parked():
                with anyio.CancelScope(deadline=since + seconds):
                    await self._stopping.wait()
        return not self._stopping.is_set()

    def _stage(self, run: ItemRun, reach: Reach | None) -> Awaitable[ItemRun]:
        """Run the stage that an item is in, and those after it that go with it, until it ends or must wait."""
        at = run.stage
        if reach is not None and self._calls.walks[at]:
            return self._calls.walk(run, reach)
        if self._stages[at].waits:
            return self._wait_stage(run, self._stages[at], reach)
        return self._in_lane(run)

    async def _in_lane(self, run: ItemRun) -> ItemRun:
        bits = self._bits[run.stage]
        return run if run.done & bits == bits else await self._lanes.run(run)

    async def _wait_stage(self, run: ItemRun, stage: Stage, reach: Reach | None) -> ItemRun:
        calls = self._calls
        ready = [
            step for step in stage.steps if not run.done & step.bit and not (step.conditional and self._settling.is_skipped(run, step))
        ]
        if run.goes_on and len(ready) == 1:
            await calls.call_waiting(run, ready[0], run, reach)
        elif run.goes_on and ready:
            await together(calls.call_waiting, run, ready, self._most_together)
        return run
