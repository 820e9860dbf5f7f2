"""Running a prepared job in this process."""

from __future__ import annotations

import asyncio
import math
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio

from batchrun.core.errors import ExecutionError, JobError
from batchrun.core.executions import ExecutionStatus, Progress, Stop
from batchrun.core.job import Run
from batchrun.datasets import Loaded
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.dispatch.feed import Feed
from batchrun.dispatch.neighbours import Rooms
from batchrun.engine.engine import Engine, EngineSettings
from batchrun.engine.item_run import ItemRun
from batchrun.execution.control import Request
from batchrun.execution.live import Followed, Live
from batchrun.execution.opening import Opened, open_execution
from batchrun.execution.prepare import Prepared
from batchrun.execution.process import rare_collections, signals_to
from batchrun.execution.resume import Earlier
from batchrun.execution.summary import Outcome, execution_record, table_metadata
from batchrun.execution.tuning import shown, tuning
from batchrun.net.shared import tune
from batchrun.results import ResultTotals, ResultWriter, export_results, write_failures

_ONLY_RETRIED = Stop("user", "only failed items were run again, and others have not ended: to run these, resume")
_SAME_SIGNAL_SECONDS = 1.0  # `timeout` and some supervisors send each signal to the process and to its group


class ExecutionRun:
    """One run of a prepared job, in this process.

    Args:
        prepared: the job.
        execution_id: names the execution.
        folder: where its files go.
        quiet: show no progress.
        earlier: the run that this one goes on from; null: the execution begins.

    """

    def __init__(self, prepared: Prepared, execution_id: str, folder: Path, *, quiet: bool, earlier: Earlier | None = None) -> None:
        self.prepared = prepared
        self.execution_id = execution_id
        self.folder = folder
        self._earlier = earlier
        self._opened: Opened
        self._live = Live(folder, prepared.loaded.name, quiet=quiet, on_request=self._on_request)
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
            opened.record.on_change = self._live.heartbeat.save
            self._has_begun = True
            try:
                return self._outcome(opened, started_at)
            finally:
                opened.durability.close()
                self._live.end()

    def _outcome(self, opened: Opened, started_at: datetime) -> Outcome:
        self._live.heartbeat.save(opened.record.content)
        totals = self._process(opened.items)
        stop = self._end_of(opened.items, totals)
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
        ended = execution_record(opened.items, outcome, opened.record.content)
        try:
            opened.record.enter(status, stop.reason if stop else None, **ended)
        except ExecutionError:  # the disk may be what broke the run; the outcome is still told
            opened.record.content.update(ended, status=status)
        return outcome

    @property
    def progress(self) -> Progress:
        """How far it is; changes several times a second."""
        return self._live.progress

    @property
    def record(self) -> Mapping[str, Any]:
        """The content of execution.json."""
        return self._opened.record.content

    def stop(self, cause: Stop) -> None:
        """Stop, from any thread: no more items are started, and calls in flight get the grace period."""
        if self._requested is None or (cause.reason == "cancel" and self._requested.reason != "cancel"):
            self._requested = cause
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
            metadata = table_metadata(self.execution_id, self.prepared, self._opened.record.content["job"])
            totals = writer.finish(metadata, expected_items)
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
            on_note=self._live.note,
        )
        async with Engine(plan, settings, on_stop=lambda cause: dispatcher.stop(cause)) as engine:  # noqa: PLW0108 - made below
            dispatcher = self._dispatcher = Dispatcher(
                engine, Rooms(Feed(items.windows(kept.wanted(items.total_items))), writer), loaded.run, kept.counts()
            )
            loop = self._loop = asyncio.get_running_loop()
            if (seconds := kept.seconds_left) is not None:
                loop.call_later(seconds, dispatcher.stop, _timeout_stop(loaded.run))
            try:
                for note in kept.notes:
                    self._live.note(note)
                async with self._live.following(Followed(dispatcher, engine, writer, items.total_items)):
                    if self._requested is not None:
                        self._begin_stop()
                    await (dispatcher.run_chunks() if plan.is_one_stretch else dispatcher.run_items())
            finally:
                self._loop = None
                self._stop = dispatcher.stop_cause
                self._has_stuck_threads = engine.lanes.abandoned_count > 0

    def _begin_stop(self) -> None:
        requested = self._requested
        if self._dispatcher is None or requested is None or self._dispatcher.stop_cause is not None:
            return
        advice = "; once more to abort without a result" if requested.reason == "signal" else ""
        self._tell(f"{requested.message}: calls in flight have {self.prepared.loaded.run.grace_seconds:g} s to end{advice}")
        self._dispatcher.stop(requested)

    def _tell(self, text: str) -> None:
        self._is_told = True
        self._live.note(text)

    def _on_request(self, request: Request) -> None:
        """Do what was asked for from outside, on the event loop."""
        try:
            if request.kind == "tune":
                self._tune(request)
            elif request.kind == "pause":
                self.stop(Stop("user", f"paused by {request.by}"))
            elif self._opened.record.content.get("cancel_requested_at") is None:
                self.stop(Stop("cancel", f"cancelled by {request.by}"))
                self._opened.record.update(cancel_requested_at=datetime.now(UTC).isoformat())
        except (JobError, ExecutionError) as error:
            self._live.note(f"a request by {request.by} was not taken up: {error}")

    def _tune(self, request: Request) -> None:
        record = self._opened.record
        change = tuning(record.content["job"], self.prepared.loaded.folder, request.settings)
        if change.parallelism is not None and self._dispatcher is not None:
            self._dispatcher.resize(change.parallelism)
        for name, limit in change.max_concurrency.items():
            tune(self.prepared.loaded.job.resources[name], limit)
        record.update(job=change.job)
        self._live.note(f"{shown(request.settings)}: set by {request.by}")

    def _put_rest(self, items: Loaded, writer: ResultWriter) -> int:
        """Write the rows of the items that were not run. Returns how many rows the result must have."""
        loaded = self._dispatcher.loaded_items if self._dispatcher is not None else 0
        if self._fault is not None:
            return loaded
        rows = loaded
        try:
            for ordinals, columns in items.rest(self._opened.durability.left_over(items.total_items, loaded)):
                writer.put_rest(columns, ordinals.to_pylist(), "cancelled")
                rows += columns.num_rows
        except ExecutionError as broken:
            self._fault = str(broken)
            return rows
        return items.total_items

    def _tell_end(self, items: Loaded, totals: ResultTotals) -> None:
        counters = {name: count for name, count in totals.counters().items() if name != "processed_items"}
        self._live.progress = replace(self.progress, open_items=0, **{**counters, "total_items": items.total_items})  # type: ignore[arg-type]
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

    def _end_of(self, items: Loaded, totals: ResultTotals | None) -> Stop | None:
        """Why the execution ends before its last item; null when it does not."""
        stop = self._requested if self._requested is not None and self._requested.reason == "cancel" else self._stop
        is_breach = stop is not None and stop.reason == "failure_policy"
        if totals is not None and totals.processed_items == items.total_items and not is_breach:
            return None  # a stop came too late to keep any item from its end
        return stop or (_ONLY_RETRIED if totals is not None else None)

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


def _timeout_stop(run: Run) -> Stop:
    return Stop("budget", f"run.timeout_seconds, {run.timeout_seconds:g} s, is used up: to go on, raise it and resume")
