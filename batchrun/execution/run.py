"""Running a prepared job in this process."""

from __future__ import annotations

import asyncio
import gc
import shutil
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import anyio

from batchrun.config import locate
from batchrun.core.errors import ExecutionError, JobError, Problem
from batchrun.core.executions import ExecutionStatus, Progress, Stop
from batchrun.datasets import Loaded
from batchrun.dispatch.dispatcher import Dispatcher, Rooms
from batchrun.dispatch.feed import Feed
from batchrun.engine.engine import Engine, EngineSettings
from batchrun.engine.item_run import ItemRun
from batchrun.execution.prepare import Prepared
from batchrun.execution.summary import Outcome, execution_record, table_metadata
from batchrun.results import ResultLayout, ResultTotals, ResultWriter, atomic_json, export_results, write_failures
from batchrun.telemetry.progress import Display, Nothing, display

_TICK_SECONDS = 0.2


class ExecutionRun:
    """One run of a prepared job, in this process.

    Attributes:
        progress: how far it is; replaced several times a second.
    """

    def __init__(self, prepared: Prepared, execution_id: str, folder: Path, *, quiet: bool) -> None:
        self.prepared = prepared
        self.execution_id = execution_id
        self.folder = folder
        self.progress = Progress()
        self._display: Display = Nothing()
        self._quiet = quiet
        self._dispatcher: Dispatcher[ItemRun] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: Stop | None = None
        self._has_stuck_threads = False

    def run(self) -> Outcome:
        """Run all items and write the result. Blocks.

        Raises:
            JobError: the items are refused, such as duplicate ids; nothing is left behind.
        """
        started_at = datetime.now(UTC)
        items = self._load()
        writer = ResultWriter(self.folder, self._layout(items))
        error, totals = None, None
        try:
            error = self._dispatch_all(items, writer)
            totals = self._finalize(items, writer, is_whole=error is None)
        except ExecutionError as broken:
            error = error or str(broken)
        finally:
            if totals is None:
                writer.abandon()
            shutil.rmtree(self.folder / ".spool", ignore_errors=True)
        status: ExecutionStatus = "failed" if error else self._stop.status if self._stop else "completed"
        outcome = Outcome(
            status=status,
            totals=totals,
            error=error,
            stop=self._stop,
            started_at=started_at,
            completed_at=datetime.now(UTC),
            has_stuck_threads=self._has_stuck_threads,
        )
        with suppress(OSError):  # the disk may be what broke the run; the outcome is still told
            atomic_json(self.folder / "execution.json", execution_record(self.execution_id, self.prepared, items, outcome))
        return outcome

    def stop(self, cause: Stop) -> None:
        """Stop, from any thread: no more items are started, and calls in flight get the grace period."""
        if self._loop is not None and self._dispatcher is not None:
            self._loop.call_soon_threadsafe(self._dispatcher.stop, cause)

    def _load(self) -> Loaded:
        loaded, plan = self.prepared.loaded, self.prepared.plan
        is_new = not self.folder.exists()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            message = f"cannot make the folder {self.folder}: {error.strerror}; choose another output.path"
            raise locate([Problem(("output", "path"), message)], loaded) from None
        items = None
        try:
            items = self.prepared.source.load(
                plan.columns, self.prepared.keep, spool=self.folder / ".spool", rejects=self.folder / "rejects.parquet"
            )
        except JobError as error:
            raise locate(error.problems, loaded) from None
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

    def _dispatch_all(self, items: Loaded, writer: ResultWriter) -> str | None:
        """Run the items. Returns what broke the run, if anything did."""
        try:
            with _rare_collections():
                anyio.run(self._dispatch, items, writer)
        except ExecutionError as error:
            return str(error)
        return None

    async def _dispatch(self, items: Loaded, writer: ResultWriter) -> None:
        loaded, plan = self.prepared.loaded, self.prepared.plan
        self._loop = asyncio.get_running_loop()
        settings = EngineSettings(self.execution_id, loaded.run, loaded.job.output.node_executions)
        async with Engine(plan, settings, on_stop=lambda cause: dispatcher.stop(cause)) as engine:
            dispatcher = self._dispatcher = Dispatcher(engine, Rooms(Feed(items.windows()), writer), loaded.run)
            try:
                with self._signals(dispatcher):
                    async with self._showing(dispatcher, items.total_items):
                        await (dispatcher.run_chunks() if plan.is_one_stretch else dispatcher.run_items())
            finally:
                self._stop = dispatcher.stop_cause
                self._has_stuck_threads = engine.lanes.abandoned_count > 0

    def _finalize(self, items: Loaded, writer: ResultWriter, *, is_whole: bool) -> ResultTotals:
        """Write the rows of items that were never started, and close the result."""
        dispatcher = self._dispatcher
        loaded_items = dispatcher.loaded_items if dispatcher is not None else 0
        if is_whole:
            for columns in items.remaining(loaded_items):
                writer.put_rest(columns, "cancelled")
        totals = writer.finish(table_metadata(self.execution_id, self.prepared), items.total_items if is_whole else loaded_items)
        if totals.failed_items:
            write_failures(self.folder, items.rows)
        export_results(self.folder, self.prepared.loaded.job.output.export)
        return totals

    @contextmanager
    def _signals(self, dispatcher: Dispatcher[ItemRun]) -> Iterator[None]:
        """SIGINT and SIGTERM stop the execution; a second one acts as it would without batchrun, at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        handled = (signal.SIGINT, signal.SIGTERM)

        def on_signal(number: signal.Signals) -> None:
            for each in handled:
                loop.remove_signal_handler(each)
            grace = self.prepared.loaded.run.grace_seconds
            self._display.note(f"{number.name}: stopping; calls in flight have {grace:g} s to end. Once more to abort at once.")
            dispatcher.stop(Stop("signal", f"stopped by {number.name}"))

        for each in handled:
            loop.add_signal_handler(each, on_signal, each)
        try:
            yield
        finally:
            for each in handled:
                loop.remove_signal_handler(each)

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

        async with anyio.create_task_group() as group:
            group.start_soon(tick)
            try:
                yield
            finally:
                group.cancel_scope.cancel()
                self.progress = snapshot()
                self._display.close(self.progress)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Let the cyclic garbage collector run seldom: items and results are many, short-lived and free of cycles."""
    thresholds = gc.get_threshold()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
