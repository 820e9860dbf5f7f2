"""The engine: runs items through a plan."""

from __future__ import annotations

import asyncio
import time
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self

from batchrun.core.executions import Stop
from batchrun.core.items import Item, ItemResult, RestoredItem
from batchrun.core.protocols import NodeJournal, Slot
from batchrun.engine.batch_runs import BatchRuns
from batchrun.engine.batcher import BatchPorts
from batchrun.engine.batches import Batches, largest_batch
from batchrun.engine.calls import Calls, Unwatched
from batchrun.engine.context import CallPorts
from batchrun.engine.deadlines import Deadlines
from batchrun.engine.driving import Driver
from batchrun.engine.hints import ProcessHint
from batchrun.engine.item_run import Finished, ItemRun
from batchrun.engine.keeping import Keeper
from batchrun.engine.lane_work import LaneWork
from batchrun.engine.lanes import LanePool
from batchrun.engine.open_items import Activity, OpenItems
from batchrun.engine.part_engines import PartEngines
from batchrun.engine.part_names import PartNames
from batchrun.engine.policy import CallPolicy
from batchrun.engine.quick_calls import QuickCaller
from batchrun.engine.restoring import Restorer
from batchrun.engine.settings import EngineSettings
from batchrun.engine.settling import Settling
from batchrun.engine.sharing import SharingPorts
from batchrun.engine.stopping import Stopping
from batchrun.engine.threads import Threads
from batchrun.flow.reach import Reach
from batchrun.workflows.plan import Plan, Step

__all__ = ["Engine", "EngineSettings"]


class Engine:
    """Runs items through one plan. An async context manager: connections and threads live as long as it is open.

    An item's failure is never raised: it is in its result.
    """

    def __init__(
        self, plan: Plan, settings: EngineSettings, *, on_stop: Callable[[Stop], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.plan = plan
        self._settings = settings
        self._clock = clock
        self._deadlines = Deadlines(item_timeout_seconds=settings.run.item_timeout_seconds, clock=clock)
        self._part_names = settings.part_names if settings.part_names is not None else []
        self._names = PartNames(settings.prefix, self._part_names)
        self._restorer = Restorer(plan, settings.stale, settings.recording, self._names)
        self._on_stop = on_stop
        self._most_abandoned = max(8, settings.run.parallelism)
        self._stack = AsyncExitStack()
        self._lanes: LanePool | None = None
        self._batch_runs: BatchRuns | None = None
        self._stopping = Stopping(settings.on_stopping)
        self.names: Sequence[int] = []
        self._parallelism = settings.run.parallelism
        self._parts: PartEngines[Engine] = PartEngines(self._part_engine, settings.journal, self._catch_up)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for lifespan in self.plan.lifespans:
                await stack.enter_async_context(lifespan())
            self._stack = stack.pop_all()
        self._threads = Threads(self._stop_if_stuck)
        policy = self._policy(keeper := self._keeper())
        ports = BatchPorts(limits=policy.limits, clock=self._clock, on_abandoned=self._stop_if_stuck)
        self.batches = Batches(self.plan, self._settings.run.parallelism, ports)
        self._settling = Settling(replace(policy, batched=self.batches.calls))
        self._calls = Calls(self._settling)
        self._is_walk = [len(walk) for walk in self._calls.walks[:1]] == [len(self.plan.stages)]
        self.quick = QuickCaller(self._calls, self._settling)
        self._work = LaneWork(self._calls, self._settling, self._abandoned, self._settings.pack)
        hint, slots = ProcessHint(self._settings.on_note, self._settings.cores), self._settings.lane_slots
        self._lanes = LanePool(self._settings.run.parallelism, self._work.hooks, hint, slots)
        self._open = OpenItems(self.plan, self._lanes, keeper)
        most_together = self._settings.run.max_parallel_nodes
        self._driver = Driver(self._calls, self._settling, self._lanes, self._open, self._stopping, most_together)
        if self.plan.is_one_batch:
            self._batch_runs = BatchRuns(self.batches.of(self.plan.steps[0]), self._settling, self._open, self._run_of)
        self._keep = keeper.keep if keeper is not None else lambda _runs: None
        self.names = self._names.positions(self.plan)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._parts.close()
        self._open.close()
        self.lanes.close()
        await self._threads.close()
        await self.batches.close()
        await self._stack.__aexit__(kind, error, trace)

    @property
    def lanes(self) -> LanePool:
        """The lane threads; only while the engine is open."""
        if self._lanes is None:
            raise RuntimeError("the engine is not open: use it in an async with statement")
        return self._lanes

    @property
    def is_in_lanes(self) -> bool:
        """Whether anything is queued or at work in a lane, or in a thread of its own."""
        return self.lanes.is_busy or self._threads.is_busy or self._parts.is_in_lanes

    @property
    def abandoned_count(self) -> int:
        """Threads of calls that were given up and have still not come back."""
        own = self.lanes.abandoned_count + self.batches.abandoned_count + self._threads.abandoned_count
        return own + self._parts.abandoned_count

    @property
    def largest_batch(self) -> int:
        """The most items that wait for one another, to be called together; 0: none do."""
        return largest_batch(self.plan)

    def submit(self, items: list[Item], on_finished: Callable[[Finished], None]) -> None:
        """Run items of a plan that is one stretch or one batch, in chunks; uses the list up. `on_finished` is called on the event loop."""
        if self._batch_runs is not None:
            self._batch_runs.on_finished = on_finished
            self._batch_runs.submit(items)
        else:
            self._work.on_finished = on_finished
            self.lanes.submit([*map(self._run_of, items)] if self._settings.restored is not None else items)

    def withdraw(self) -> list[Item]:
        """Take back submitted items that have not started."""
        return [queued.source if isinstance(queued, ItemRun) else queued for queued in self.lanes.withdraw()]

    def reach(self) -> Reach:
        """What calls are cancelled by that a task makes for one item after another."""
        return Reach(self._clock)

    def run(self, item: Item, slot: Slot, reach: Reach | None = None) -> Awaitable[ItemResult]:
        """Run one item to its end; calls need no scopes of their own where the task has a `reach`."""
        if reach is None or not self._is_walk or self._settings.restored is not None:
            return self.finish(self._run_of(item), slot, reach)
        return self._walk(ItemRun(item, len(self.plan.steps)), slot, reach)

    @types.coroutine
    def _walk(self, run: ItemRun, slot: Slot, reach: Reach) -> Generator[Any, Any, ItemResult]:
        """As `finish`, for an item that has not begun and can be walked through: whoever wakes up passes through fewer frames."""
        run.started = self._clock()
        self._open.add(run)
        try:
            try:
                yield from self._calls.walk(run, reach)
            finally:
                self._open.remove(run)
            if run.wait_seconds is None:
                return self._settling.result(run)
        except asyncio.CancelledError:
            return self._cancelled(run)
        result: ItemResult = yield from self.finish(run, slot, reach)
        return result

    async def finish(self, run: ItemRun, slot: Slot, reach: Reach | None = None) -> ItemResult:
        """Run an item from where it is to its end; it gives `slot` back while it waits."""
        try:
            return self._settling.result(await self._driver.drive(run, slot, reach))
        except asyncio.CancelledError:
            # The grace period is over. What the item has done so far still becomes its row; a lane may still be at it.
            return self._cancelled(run.left())

    def drive(self, run: ItemRun, slot: Slot, reach: Reach | None = None) -> Coroutine[Any, Any, ItemRun]:
        """The same, without a result. Returns what has come to the end in place of `run`."""
        return self._driver.drive(run, slot, reach)

    def run_here(self, run: ItemRun) -> None:
        """Run an item of a plan that is one stretch, in this lane thread, to its end or until it must wait."""
        run.wait_seconds = None
        self._calls.run_stretch(run, Unwatched(), self._clock())

    def keep(self, runs: Iterable[ItemRun]) -> None:
        """Hand over what nodes of runs have come to."""
        self._keep(runs)

    def restore(self, run: ItemRun, restored: RestoredItem) -> None:
        """Have a part take over what is kept of it."""
        self._restorer.restore(run, restored)

    def resize(self, parallelism: int) -> None:
        """Let more or fewer functions run in lanes at once, from now on; calls in flight go on."""
        self._parallelism = parallelism
        self.lanes.resize(parallelism)
        self.batches.resize(parallelism)
        self._parts.each(lambda engine: engine.resize(parallelism))

    def activity(self) -> Activity:
        """What the items that have begun are doing."""
        return self._open.activity()

    def send_waiting(self, *, is_end: bool) -> None:
        """All open items wait, and no other can begin, now or (`is_end`) ever: let none wait for others that cannot come."""
        self.batches.send_waiting(is_end=is_end)
        self._parts.each(lambda engine: engine.send_waiting(is_end=is_end))

    def stop_waiting(self) -> None:
        """Let items end as cancelled that wait for another attempt, or for their turn at a service."""
        self._work.is_stopping = True
        self._stopping.set()
        self._parts.each(Engine.stop_waiting)

    def abandon_all(self) -> None:
        """Let items that run in lanes end as cancelled, whether their calls return or not."""
        self.stop_waiting()
        self._calls.is_over = True
        self.lanes.abandon_all()
        if self._batch_runs is not None:
            self._batch_runs.abandon_all()
        self._parts.each(Engine.abandon_all)

    def _part_engine(self, plan: Plan, step: Step, journal: NodeJournal | None) -> Engine:
        """The engine of a plan that calls of a node run as part of theirs."""
        settings = self._settings._replace(
            journal=journal, restored=None, stale=frozenset(), prefix=f"{self._settings.prefix}{step.id}.", part_names=self._part_names
        )
        return Engine(plan, settings, on_stop=self._stop_by_call, clock=self._clock)

    def _catch_up(self, engine: Engine) -> None:
        """Tell an engine of parts, which begins in the middle of the run, what the others know."""
        engine.resize(self._parallelism)
        if self._stopping.is_set():
            engine.stop_waiting()
        if self._calls.is_over:
            engine.abandon_all()

    def _keeper(self) -> Keeper | None:
        journal, names = self._settings.journal, None if self._settings.recording == "none" else self._names
        on_note = partial(self._parts.on_loop, self._settings.on_note)
        return None if journal is None else Keeper(self.plan.steps, journal, on_note, names)

    def _policy(self, keeper: Keeper | None) -> CallPolicy:
        settings = self._settings
        return CallPolicy(
            plan=self.plan,
            recording=settings.recording,
            deadlines=self._deadlines,
            ports=CallPorts(settings.execution_id, settings.journal, settings.spending, settings.is_cancelled, self._stopping.resting),
            keeper=keeper,
            on_stop=self._stop_by_call,
            threads=self._threads,
            parts=self._parts,
            prefix=settings.prefix,
            sharing=SharingPorts(settings.cache, self._clock, partial(self._parts.on_loop, settings.on_note)),
            on_sent_back=settings.on_sent_back,
        )

    def _stop_by_call(self, cause: Stop) -> None:
        self._work.is_stopping = True  # at once, for what is queued in the same lane
        self._parts.on_loop(self._on_stop, cause)

    def _run_of(self, item: Item) -> ItemRun:
        restored = self._settings.restored and self._settings.restored(item.ordinal)
        return ItemRun(item, len(self.plan.steps)) if restored is None else self._restorer.run_of(item, restored)

    def _abandoned(self, successor: ItemRun, step: Step) -> None:
        self._stop_if_stuck(step)
        self._open.replace(successor)

    def _stop_if_stuck(self, step: Step) -> None:
        if self.abandoned_count > self._most_abandoned and not self._calls.is_over:
            message = f"{self.abandoned_count} calls hang, the last one in node {step.id}; their threads cannot be ended"
            self._on_stop(Stop("stuck", message))

    def _cancelled(self, run: ItemRun) -> ItemResult:
        run.status, run.error = "cancelled", None
        return self._settling.result(run)
