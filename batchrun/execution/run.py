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

from batchrun.config import locate
from batchrun.core.errors import ExecutionError, JobError, Problem
from batchrun.core.executions import ExecutionStatus, Progress, Stop
from batchrun.datasets import Loaded
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.dispatch.feed import Feed
from batchrun.dispatch.neighbours import Rooms
from batchrun.engine.engine import Engine, EngineSettings
from batchrun.engine.item_run import ItemRun
from batchrun.execution.prepare import Prepared
from batchrun.execution.process import rare_collections, signals_to
from batchrun.execution.summary import Outcome, execution_record, table_metadata
from batchrun.results import ResultLayout, ResultTotals, ResultWriter, atomic_json, export_results, write_failures
from batchrun.results.files import unwritable
from batchrun.telemetry.progress import Display, Nothing, display

_TICK_SECONDS = 0.2
_SAME_SIGNAL_SECONDS = 1.0  # `timeout` and some supervisors send each signal to the process and to its group


class ExecutionRun:
    """One run of a prepared job, in this process.

    Attributes:
        progress: how far it is; replaced several times a second.
        record: the content of execution.json, once it has ended.
    """

    def __init__(self, prepared: Prepared, execution_id: str, folder: Path, *, quiet: bool) -> None:
        self.prepared = prepared
        self.execution_id = execution_id
        self.folder = folder
        self.progress = Progress()
        self.record: Mapping[str, Any] = {}
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
            items = self._load()
            self._has_begun = True
            totals = self._process(items)
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
        self.record = execution_record(self.execution_id, self.prepared, items, outcome)
        with suppress(ExecutionError):  # the disk may be what broke the run; the outcome is still told
            atomic_json(self.folder / "execution.json", self.record)
        return outcome

    def stop(self, cause: Stop) -> None:
        """Stop, from any thread: no more items are started, and calls in flight get the grace period."""
        self._requested = self._requested or cause
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it has just been closed: all items have ended
                loop.call_soon_threadsafe(self._begin_stop)

    def _load(self) -> Loaded:
        loaded, plan = self.prepared.loaded, self.prepared.plan
        try:
            is_new = not self.folder.exists()
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            message = f"cannot make the folder {self.folder}: {error.strerror}; choose another output.path"
            raise locate([Problem(("output", "path"), message)], loaded) from None
        items = None
        try:
            _ = self.prepared.source.fingerprint  # of what is read now: files may change, or go, while the items run
            items = self.prepared.source.load(
                plan.columns, self.prepared.keep, spool=self.folder / ".spool", rejects=self.folder / "rejects.parquet"
            )
        except JobError as error:
            raise locate(error.problems, loaded) from None
        except OSError as error:  # copies of files that cannot be read in slices
            raise unwritable(self.folder / ".spool", error) from error
        finally:
            if items is None and is_new:
                shutil.rmtree(self.folder, ignore_errors=True)
        return items

    def _layout(self, items: Loaded) -> ResultLayout:
        plan = self.prepared.plan
        return ResultLayout(
            window_schema=items.window_schema,
            nodes=tuple((step.id, step.type) for step in plan.steps),
            output_type=plan.output_type,
            node_executions=self.prepared.loaded.job.output.node_executions,
        )

    def _process(self, items: Loaded) -> ResultTotals | None:
        """Run the items and write the result. Returns its totals; null when there is no result."""
        writer, totals, is_over = None, None, False
        try:
            writer = ResultWriter(self.folder, self._layout(items))
            self._dispatch_all(items, writer)
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
            if not is_over:
                with suppress(OSError):  # aborted: a folder with nothing in it says nothing
                    self.folder.rmdir()
        return totals

    def _dispatch_all(self, items: Loaded, writer: ResultWriter) -> None:
        try:
            with rare_collections():
                anyio.run(self._dispatch, items, writer)
        except ExecutionError as broken:
            self._fault = str(broken)

    async def _dispatch(self, items: Loaded, writer: ResultWriter) -> None:
        loaded, plan = self.prepared.loaded, self.prepared.plan
        settings = EngineSettings(self.execution_id, loaded.run, loaded.job.output.node_executions)
        async with Engine(plan, settings, on_stop=lambda cause: dispatcher.stop(cause)) as engine:  # noqa: PLW0108 - made below
            dispatcher = self._dispatcher = Dispatcher(engine, Rooms(Feed(items.windows()), writer), loaded.run)
            self._loop = asyncio.get_running_loop()
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

    def _put_rest(self, items: Loaded, writer: ResultWriter) -> int:
        """Write the rows of the items that were never loaded. Returns how many rows the result must have."""
        rows = self._dispatcher.loaded_items if self._dispatcher is not None else 0
        if self._fault is not None:
            return rows
        try:
            for columns in items.remaining(rows):
                writer.put_rest(columns, "cancelled")
                rows += columns.num_rows
        except ExecutionError as broken:
            self._fault = str(broken)
            return rows
        return items.total_items

    def _tell_end(self, items: Loaded, totals: ResultTotals) -> None:
        counters = {name: count for name, count in totals.counters().items() if name != "processed_items"}
        self.progress = replace(self.progress, **{**counters, "total_items": items.total_items}, open_items=0)
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
