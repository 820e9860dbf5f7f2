"""The parent of worker processes: gives them the items, takes their rows, and judges what becomes of the execution."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import anyio
import polars as pl

from batchrun.core.errors import ErrorRecord, ExecutionError, InvalidValue
from batchrun.core.executions import Stop
from batchrun.core.job import Run
from batchrun.core.policies import FailurePolicy
from batchrun.datasets.handing import ORDINAL, packed_rows
from batchrun.dispatch.slots import at_most
from batchrun.engine.batches import BatchSizes
from batchrun.engine.open_items import Activity
from batchrun.engine.part_names import PartNames
from batchrun.engine.restoring import Restorer
from batchrun.execution.slices.account import Account, Items, Ports
from batchrun.execution.slices.messages import (
    Broken,
    Checkpointed,
    Ended,
    Kept,
    MadeAgain,
    Note,
    Order,
    Rows,
    Slice,
    Start,
    Stopped,
    Written,
)
from batchrun.execution.slices.process import WorkerProcess
from batchrun.execution.slices.seat import Seat
from batchrun.execution.slices.stock import Stock
from batchrun.flow.failure import policy_breach
from batchrun.flow.slices import fair_slice, shares
from batchrun.nodes.workers import usable_cores
from batchrun.workflows.plan import Plan

_LARGEST_BACKLOG = 8_000  # rows that came and are not written yet
_MOST_CRASHES = 10
_MOST_FAILED_STARTS = 3
_LATE_SECONDS = 5.0  # what a worker may take to say so after the grace period


class Slices:
    """Has worker processes run items, slice by slice; see `Dispatching`, `Working` and `Hub`.

    Args:
        start: what each worker is told first.
        plan: the workflow.
        items: that are to be run.
        ports: where things go.

    Attributes:
        account: which items have a row.
        counts: items that have ended, in earlier runs or in this one.
        batches: how large the calls of batched nodes were, known at the end.
    """

    def __init__(self, start: Start, plan: Plan, items: Items, ports: Ports) -> None:
        self.plan = plan
        self.account = Account(items, ports)
        self.counts = self.account.counts
        self.stop_cause: Stop | None = None
        self.batches: dict[str, BatchSizes] = {}
        self._start = start
        self._run = at_most(start.loaded.run, start.loaded.run.parallelism, items.total)
        self._restorer = Restorer(plan, start.stale, start.loaded.job.output.node_executions, PartNames("", start.layout.parts))
        self._items = items
        self._ports = ports
        self._stock = Stock(items.frames, items.total if items.wanted is None else items.wanted.count(1))
        self._workers = max(1, min(self._run.processes or usable_cores(), self._run.parallelism, self._stock.left))
        self._seats = [Seat(self, share) for share in shares(self._run.parallelism, self._workers)]
        self._crashes = self._failed_starts = 0  # since an item ended, and since a worker started
        self._fault: ExecutionError | None = None
        self._unreadable: ExecutionError | None = None  # items cannot be loaded
        self._notes: set[str] = set()

    async def run(self) -> None:
        """Run all items.

        Raises:
            ExecutionError: the dataset cannot be read or results cannot be written any further, or no worker can be started.
        """
        try:
            async with anyio.create_task_group() as group:
                if self._stock.left:
                    self._stock.begin()  # while workers get ready
                    for seat in self._seats:
                        group.start_soon(seat.run)
        finally:
            self._stock.close()
        if (fault := self._fault or self._unreadable) is not None:
            raise fault
        self._judge(at_end=self.counts.processed == self._items.total)

    @property
    def loaded_items(self) -> int:
        """Items of this run that have a row."""
        return self.account.settled_items

    def activity(self) -> Activity:
        """What the items that have begun are doing."""
        nodes, waiting_for = Counter[str](), Counter[str]()
        for seat in self._seats:
            nodes.update(seat.activity.nodes)
            waiting_for.update(seat.activity.waiting_for)
        return Activity(dict(nodes), dict(waiting_for))

    def resize(self, parallelism: int) -> None:
        """Work on this many items at once from now on."""
        self._run = at_most(self._run, parallelism, self._items.total)
        for seat, share in zip(self._seats, shares(self._run.parallelism, self._workers), strict=True):
            seat.resize(share)

    def stop(self, cause: Stop) -> None:
        """Start no more items; those at work may go on for the grace period. Further calls change nothing, but a cancel is passed on."""
        is_first = self.stop_cause is None
        if is_first or cause.reason == "cancel":
            for seat in self._seats:
                seat.halt(cause)
        if not is_first:
            return
        self.stop_cause = cause
        asyncio.get_running_loop().call_later(self._run.grace_seconds + _LATE_SECONDS, self.abandon)

    def abandon(self) -> None:
        """Wait no longer for items at work."""
        for seat in self._seats:
            seat.kill()

    # What the seats ask

    @property
    def is_stopping(self) -> bool:
        """See `Hub`."""
        return self.stop_cause is not None or self._fault is not None

    @property
    def has_room(self) -> bool:
        """See `Hub`."""
        return self._ports.sink.backlog < _LARGEST_BACKLOG or self.is_stopping

    def start(self, parallelism: int) -> Order:
        """See `Hub`."""
        run = self._run_of_worker(parallelism)
        has_begun = self._start.is_resumed or bool(self.account.begun)
        return self._start._replace(loaded=replace(self._start.loaded, run=run), is_resumed=has_begun)

    def slice(self, frame: pl.DataFrame) -> Order:
        """See `Hub`."""
        return Slice(packed_rows(frame), self.account.begun.of(frame[ORDINAL].to_list()))

    async def take(self, items: int) -> pl.DataFrame | None:
        """See `Hub`."""
        try:
            return await self._stock.take(fair_slice(items, self._stock.left, self._workers))
        except ExecutionError as error:  # those at work may end
            self._unreadable = error
            return None

    def give_back(self, frame: pl.DataFrame) -> None:
        """See `Hub`."""
        self._stock.give_back(frame)

    def has_rows(self, frame: pl.DataFrame) -> bool:
        """See `Hub`."""
        return self.account.has_rows(frame)

    def unsettled(self, frame: pl.DataFrame) -> pl.DataFrame:
        """See `Hub`."""
        return self.account.unsettled(frame)

    async def report(self, message: Any, seat: Seat) -> None:
        """See `Hub`.

        Raises:
            ExecutionError: nothing can be written any more.
        """
        if isinstance(message, Rows):
            self.account.take(message)
            if message.rows.tally.counted().items["completed"]:
                self._crashes = self._failed_starts = 0
            if self.counts.failed:
                self._judge()
        elif isinstance(message, Kept):
            self.account.begun.keep(message.nodes)
            self._ports.writer.keep(message.nodes)
        elif isinstance(message, Checkpointed):
            seat.send(await self._written(message))
        elif isinstance(message, Stopped):
            self.stop(message.cause)
        elif isinstance(message, Broken):
            self.break_off(ExecutionError(message.message))
        else:
            self._pass_on(message)

    def _pass_on(self, message: Any) -> None:
        if isinstance(message, MadeAgain) and self._ports.sent_back is not None:
            self._ports.sent_back(message.event)
        elif isinstance(message, Note):  # each worker finds out for itself
            self.note(message.text)
        elif isinstance(message, Ended):
            for node_id, sizes in message.batches.items():
                known = self.batches.get(node_id, BatchSizes(0, 0))
                self.batches[node_id] = BatchSizes(known.calls + sizes.calls, known.items + sizes.items)

    def not_started(self, reason: str) -> None:
        """See `Hub`."""
        self._failed_starts += 1
        if self._failed_starts >= _MOST_FAILED_STARTS:
            self.break_off(ExecutionError(f"worker processes do not start: {reason}"))

    def died(self, reason: str) -> None:
        """See `Hub`."""
        self._ports.note(f"a worker process died between items: {reason}")
        self._crashed(reason)

    def blame(self, frame: pl.DataFrame, process: WorkerProcess, code: int) -> None:
        """See `Hub`."""
        item = self._start.shape.items(frame)[0]
        if process.was_held:
            kind, message = "Timeout", "the item held the interpreter of its worker process past its deadline, so the process was ended"
        else:
            kind, message = "WorkerCrashed", f"the item ended its worker process with {process.how_it_ended(code)}"
            message += "; it was run alone when it did"
        only = self.plan.steps[0].id if len(self.plan.steps) == 1 else None
        error = ErrorRecord(kind, message, only, retryable=False, http_status=None, traceback=process.last_words or None)
        self.account.fail(item, error, self._restorer)
        self._judge()
        if not process.was_held:
            self._crashed(message)

    def note(self, line: str) -> None:
        """See `Hub`."""
        if line not in self._notes:
            self._notes.add(line)
            self._ports.note(line)

    def break_off(self, error: ExecutionError) -> None:
        """See `Hub`."""
        self._fault = self._fault or error
        self.abandon()

    async def _written(self, message: Checkpointed) -> Written:
        self.account.begun.keep([message.node])
        try:
            await self._ports.writer.checkpoint(message.node)
        except (ExecutionError, InvalidValue) as error:
            return Written(message.number, str(error))
        return Written(message.number, None)

    def _crashed(self, reason: str) -> None:
        self._crashes += 1
        if self._crashes >= _MOST_CRASHES:
            message = f"{self._crashes} worker processes died one after another, and no item has completed in between: {reason}"
            self.stop(Stop("stuck", message))

    def _judge(self, *, at_end: bool = False) -> None:
        counts, policy = self.counts, self._run.failure_policy
        breach = policy_breach(policy, failed=counts.failed, completed=counts.completed_here, at_end=at_end)
        if breach is not None:
            self.stop(Stop("failure_policy", breach))

    def _run_of_worker(self, parallelism: int) -> Run:
        open_items = self._run.max_open_items
        most_open = None if open_items is None else max(open_items // self._workers, parallelism)
        # What is judged over all items is judged here.
        return replace(
            self._run, parallelism=parallelism, max_open_items=most_open, failure_policy=FailurePolicy(), timeout_seconds=None, durable=True
        )
