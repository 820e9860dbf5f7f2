"""Running a prepared job in this process."""

from __future__ import annotations

import asyncio
import math
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio

from batchrun.core.errors import ExecutionError
from batchrun.core.executions import ExecutionStatus, Progress, Stop
from batchrun.core.job import Run
from batchrun.datasets import Loaded
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.dispatch.feed import Feed
from batchrun.dispatch.neighbours import Rooms
from batchrun.engine.engine import Engine, EngineSettings
from batchrun.engine.item_run import ItemRun
from batchrun.execution.durability import left_over
from batchrun.execution.opening import Opened, open_execution
from batchrun.execution.prepare import Prepared
from batchrun.execution.process import rare_collections, signals_to
from batchrun.execution.resume import Earlier
from batchrun.execution.summary import Outcome, execution_record, table_metadata
from batchrun.results import ResultTotals, ResultWriter, export_results, write_failures
from batchrun.telemetry.progress import Display, Nothing, display

_TICK_SECONDS = 0.2
_SAME_SIGNAL_SECONDS = 1.0  # `timeout` and some supervisors send each signal to the process and to its group


class ExecutionRun:
    """One run of a prepared job, in this process.

    Args:
        prepared: the job.
        execution_id: names the execution.
        folder: where its files go.
        quiet: show no progress.
        earlier: the run that this one goes on from; null: the execution begins.

    Attributes:
        progress: how far it is; replaced several times a second.
        record: the content of execution.json.
    """

    def __init__(self, prepared: Prepared, execution_id: str, folder: Path, *, quiet: bool, earlier: Earlier | None = None) -> None:
        self.prepared = prepared
        self.execution_id = execution_id
        self.folder = folder
        self.progress = Progress()
        self._earlier = earlier
        self._opened: Opened
        self._display: Display = Nothing()
        self._quiet = quiet
        self._dispatcher: Dispatcher[ItemRun] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_begun = False
        self._requested: Stop | None = None  # asked for from outside
        self._is_told = False  # that it stops
        self._signalled_at = -math.inf
        self._stop: Stop | None = None  # what made the dispatcher stop
        self._fault: str | None = None  # what broke the run
        self._has_stuck_threads = False

    def run(self) -> Outcome:
        """Run all items and write the result. Blocks.

        Raises:
            JobError: the items are refused, such as duplicate ids; nothing is left behind.
            ExecutionError: the items cannot be copied to the disk; nothing is left behind.
        """
        started_at = datetime.now(UTC)
        with signals_to(self._on_signal):
            opened = self._opened = open_execution(self.prepared, self.execution_id, self.folder, self._earlier)
            items = opened.items
            self._has_begun = True
            try:
                totals = self._process(items)
            finally:
                opened.durability.close()
        stop = None if self._is_done_anyway(items, totals) else self._stop
        status: ExecutionStatus = "failed" if self._fault else stop.status if stop else "completed"
        outcome = Outcome(
            status=status,
            totals=totals,
            error=self._fault,
            stop=stop,
            started_at=started_at,
            completed_at=datetime.now(UTC),
            has_stuck_threads=self._has_stuck_threads,
        )
        with suppress(ExecutionError):  # the disk may be what broke the run; the outcome is still told
            opened.record.enter(status, stop.reason if stop else None, **execution_record(items, outcome))
        return outcome

    @property
    def record(self) -> Mapping[str, Any]:
        """The content of execution.json."""
        return self._opened.record.content

    def stop(self, cause: Stop) -> None:
        """Stop, from any thread: no more items are started, and calls in flight get the grace period."""
        self._requested = self._requested or cause
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it has just been closed: all items have ended
                loop.call_soon_threadsafe(self._begin_stop)

    def _process(self, items: Loaded) -> ResultTotals | None:
        """Run the items and write the result. Returns its totals; null when there is no result."""
        writer, totals, is_over = None, None, False
        _, layout, kept, _ = self._opened
        try:
            writer = ResultWriter(self.folder, layout, journal=kept.journal, recovered=kept.recovered, spent=kept.spent)
            self._dispatch_all(items, writer)
            self._refuse_gaps()
            with suppress(ExecutionError):  # a full disk is told by the writer
                self._opened.record.enter("finalizing")
            expected_items = self._put_rest(items, writer)
            totals = writer.finish(table_metadata(self.execution_id, self.prepared), expected_items)
            self._tell_end(items, totals)
            self._write_copies(items, totals)
            is_over = True
        except ExecutionError as broken:
            self._fault = self._fault or str(broken)
            is_over = True
        finally:
            if writer is not None and totals is None:
                writer.abandon()
            shutil.rmtree(self.folder / ".spool", ignore_errors=True)
            if not is_over and kept.journal is None:
                shutil.rmtree(self.folder, ignore_errors=True)  # aborted, and nothing to go on from
        return totals

    def _refuse_gaps(self) -> None:
        if self._fault is not None and self._earlier is not None:
            raise ExecutionError(f"{self._fault}; what was done is kept in the journal")  # the rows would have gaps

    def _dispatch_all(self, items: Loaded, writer: ResultWriter) -> None:
        try:
            with rare_collections():
                anyio.run(self._dispatch, items, writer)
        except ExecutionError as broken:
            self._fault = str(broken)

    async def _dispatch(self, items: Loaded, writer: ResultWriter) -> None:
        loaded, plan = self.prepared.loaded, self.prepared.plan
        kept = self._opened.durability
        settings = EngineSettings(
            self.execution_id,
            loaded.run,
            loaded.job.output.node_executions,
            journal=writer if kept.journal is not None else None,
            restored=kept.restored if kept.recovered is not None else None,
            stale=kept.stale,
            spending=kept.spending,
            on_note=self._note,
        )
        async with Engine(plan, settings, on_stop=lambda cause: dispatcher.stop(cause)) as engine:  # noqa: PLW0108 - made below
            dispatcher = self._dispatcher = Dispatcher(
                engine, Rooms(Feed(items.windows(kept.wanted(items.total_items))), writer), loaded.run, kept.counts()
            )
            loop = self._loop = asyncio.get_running_loop()
            if (seconds := kept.seconds_left) is not None:
                loop.call_later(seconds, dispatcher.stop, _timeout_stop(loaded.run))
            try:
                async with self._showing(dispatcher, items.total_items):
                    if self._requested is not None:
                        self._begin_stop()
                    await (dispatcher.run_chunks() if plan.is_one_stretch else dispatcher.run_items())
            finally:
                self._loop = None
                self._stop = dispatcher.stop_cause
                self._has_stuck_threads = engine.lanes.abandoned_count > 0

    def _begin_stop(self) -> None:
        if self._dispatcher is None or self._requested is None or self._dispatcher.stop_cause is self._requested:
            return
        grace = self.prepared.loaded.run.grace_seconds
        self._tell(f"{self._requested.message}: calls in flight have {grace:g} s to end; once more to abort without a result")
        self._dispatcher.stop(self._requested)

    def _tell(self, text: str) -> None:
        self._is_told = True
        self._display.note(text)

    def _note(self, text: str) -> None:
        self._display.note(text)

    def _put_rest(self, items: Loaded, writer: ResultWriter) -> int:
        """Write the rows of the items that were not run. Returns how many rows the result must have."""
        loaded = self._dispatcher.loaded_items if self._dispatcher is not None else 0
        if self._fault is not None:
            return loaded
        rows = loaded
        wanted = self._opened.durability.wanted(items.total_items) or bytearray(b"\1") * items.total_items
        try:
            for ordinals, columns in items.rest(left_over(wanted, loaded)):
                writer.put_rest(columns, ordinals.to_pylist(), "cancelled")
                rows += columns.num_rows
        except ExecutionError as broken:
            self._fault = str(broken)
            return rows
        return items.total_items

    def _tell_end(self, items: Loaded, totals: ResultTotals) -> None:
        counters = {name: count for name, count in totals.counters().items() if name != "processed_items"}
        self.progress = replace(self.progress, open_items=0, **{**counters, "total_items": items.total_items})  # type: ignore[arg-type]
        if self._fault is not None:
            missing = items.total_items - totals.total_items
            self._fault += f"; the result has the {totals.total_items:,} items that were loaded before, {missing:,} are missing from it"

    def _write_copies(self, items: Loaded, totals: ResultTotals) -> None:
        try:
            if totals.failed_items:
                write_failures(self.folder, items.rows)
            export_results(self.folder, self.prepared.loaded.job.output.export)
        except ExecutionError as broken:
            self._fault = f"{self._fault}; {broken}" if self._fault else f"{broken}; results.parquet is complete"

    def _is_done_anyway(self, items: Loaded, totals: ResultTotals | None) -> bool:
        """Whether a stop came too late to keep any item from its end. A breach of the failure policy never does."""
        is_breach = self._stop is not None and self._stop.reason == "failure_policy"
        return totals is not None and totals.processed_items == items.total_items and not is_breach

    def _on_signal(self, name: str) -> None:
        """The first signal stops the execution; the second one, or one before the first item, aborts it."""
        if not self._has_begun:
            raise KeyboardInterrupt(name)
        if self._requested is None:
            self._signalled_at = time.monotonic()
            self.stop(Stop("signal", f"stopped by {name}"))
            if self._loop is None and self._dispatcher is not None:
                self._tell(f"{name}: all items have ended, the result is being written; once more to abort without it")
        elif self._is_told or time.monotonic() - self._signalled_at > _SAME_SIGNAL_SECONDS:
            if self._loop is not None:
                self._loop.set_exception_handler(lambda _loop, _context: None)  # what is cut off need not be reported
            raise KeyboardInterrupt(name)

    @asynccontextmanager
    async def _showing(self, dispatcher: Dispatcher[ItemRun], total_items: int) -> AsyncIterator[None]:
        """Keep `progress` and the display up to date."""
        started = time.monotonic()
        self._display = display(self.prepared.loaded.name, total_items, quiet=self._quiet)
        for line in self._opened.durability.notes:
            self._note(line)
        restored_items = dispatcher.counts.ended

        def snapshot() -> Progress:
            counts = dispatcher.counts
            return Progress(
                total_items=total_items,
                completed_items=counts.completed,
                failed_items=counts.failed,
                skipped_items=counts.skipped,
                cancelled_items=counts.cancelled,
                waiting_items=counts.waiting,
                open_items=dispatcher.open_items,
                restored_items=restored_items,
                elapsed_seconds=time.monotonic() - started,
            )

        async def tick() -> None:
            while True:
                await anyio.sleep(_TICK_SECONDS)
                self.progress = snapshot()
                self._display.update(self.progress)

        ticking = asyncio.create_task(tick())  # not in a task group, which would wrap the errors of the run
        try:
            yield
        finally:
            ticking.cancel()
            self.progress = snapshot()
            self._display.close(self.progress)


def _timeout_stop(run: Run) -> Stop:
    return Stop("budget", f"run.timeout_seconds, {run.timeout_seconds:g} s, is used up: to go on, raise it and resume")
