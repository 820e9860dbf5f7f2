"""Running a prepared job in this process."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pyarrow as pa
import pyarrow.compute as pc

from batchrun.core.errors import ExecutionError
from batchrun.core.executions import ExecutionStatus, Progress, ResourceState, Stop
from batchrun.core.protocols import OutputCache
from batchrun.datasets import Loaded
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.dispatch.feed import Feed
from batchrun.dispatch.neighbours import Rooms
from batchrun.engine.batches import BatchSizes
from batchrun.engine.engine import Engine, EngineSettings
from batchrun.execution.backing import Dispatching
from batchrun.execution.caching import cache_of
from batchrun.execution.ends import ONLY_RETRIED, ONLY_SAMPLED, by_status, timeout_stop, waiting_stop
from batchrun.execution.event_loop import loop_options
from batchrun.execution.held import ONLY_HELD, Watch, forget, limit_seconds, notes_of
from batchrun.execution.live import Live
from batchrun.execution.masking import MaskedCache, MaskedJournal, MaskedResults, masked_events
from batchrun.execution.opening import Opened, open_execution
from batchrun.execution.outputs import exports_of
from batchrun.execution.prepare import Prepared
from batchrun.execution.process import rare_collections, signals_to
from batchrun.execution.progress import Followed, at_end
from batchrun.execution.publishing import publish_ended
from batchrun.execution.reporting import note_report
from batchrun.execution.resume import Earlier
from batchrun.execution.slices.account import Ports
from batchrun.execution.slices.dispatching import Slices
from batchrun.execution.slices.opening import slices_of
from batchrun.execution.steering import Steering
from batchrun.execution.summary import Outcome, execution_record, table_metadata
from batchrun.execution.telling import Listener, Running, Telling
from batchrun.net.shared import states, stop_waiting
from batchrun.results import ResultTotals, ResultWriter, export_results, write_failures


class ExecutionRun:
    """One run of a prepared job, in this process.

    Args:
        prepared: the job.
        execution_id: names the execution.
        folder: where its files go.
        quiet: show no progress.
        earlier: the run that this one goes on from; null: the execution begins.

    Attributes:
        listeners: who is told what happens; may be set until it runs.
        leaves_others: whether it has run the items it was to run first, and others are left.
    """

    def __init__(self, prepared: Prepared, execution_id: str, folder: Path, *, quiet: bool, earlier: Earlier | None = None) -> None:
        self.prepared = prepared
        self.execution_id = execution_id
        self.folder = folder
        self.is_quiet = quiet
        self.listeners: Sequence[Listener] = ()
        self.leaves_others = False
        self._telling: Telling
        self._earlier = earlier
        self._held_items = () if earlier is None else earlier.held
        self._opened: Opened
        self._steering = Steering(prepared, lambda text: self._live.note(text))  # noqa: PLW0108 - made below
        self._mask = prepared.mask
        self._live = Live(folder, prepared.loaded.name, quiet=quiet, on_request=self._steering.on_request, mask=self._mask.text)
        self._dispatcher: Dispatching | None = None
        self._slices: Slices | None = None  # the same, when the items run in worker processes
        self._fault: str | None = None  # what broke the run
        self._has_stuck_threads = False
        self._batches: Mapping[str, BatchSizes] = {}
        self._resources: Mapping[str, ResourceState] = {}

    def run(self) -> Outcome:
        """Run all items and write the result. Blocks.

        Raises:
            JobError: the items are refused, such as duplicate ids, or metrics cannot be served; nothing is left behind.
            ExecutionError: the items cannot be copied to the disk; nothing is left behind.
        """
        started_at, loaded = datetime.now(UTC), self.prepared.loaded
        with signals_to(self._steering.on_signal), ExitStack() as afterwards:
            afterwards.callback(self._live.end)
            self._telling = Telling(self.listeners, self.execution_id, self._live.note)
            afterwards.callback(self._telling.close)
            self._telling.bind()
            opened = self._opened = open_execution(self.prepared, self.execution_id, self.folder, self._earlier)
            afterwards.callback(opened.durability.close)
            opened.record.on_change = self._live.heartbeat.save
            opened.record.on_change(opened.record.content)
            self._steering.begin(opened.record)
            self._telling.begin(loaded.name, opened, self.folder, has_log=loaded.job.output.events)
            self._live.on_progress = self._telling.progress_made
            before, totals = dict(opened.record.content), self._process(opened.items)
            outcome = self._told(totals, started_at, before)
            self._steering.keep = opened.durability.keep
            self._live.take_requests()
            is_cancelled_late = self._fault is None and self._end_of(totals) != outcome.stop
            outcome = self._told(totals, started_at, before) if is_cancelled_late else outcome
            if troubles := self._telling.end(outcome, self.progress):
                with suppress(ExecutionError):
                    opened.record.update(event_sinks=self._mask.value(troubles))
            if self._held_items and outcome.stop in (None, ONLY_HELD) and self._fault is None:
                forget(self.folder)
            publish_ended(opened.record, loaded.job.output.publish, self._live.note, self._steering.refuse_signalled)
            return outcome

    def _told(self, totals: ResultTotals | None, started_at: datetime, before: Mapping[str, Any]) -> Outcome:
        """Write down how the execution has ended, given what its record said before."""
        record, stop = self._opened.record, self._end_of(totals)
        status: ExecutionStatus = "failed" if self._fault else stop.status if stop else "completed"
        outcome = Outcome(
            status=status,
            totals=totals,
            error=self._mask.value(self._fault),
            stop=stop,
            started_at=started_at,
            completed_at=datetime.now(UTC),
            has_stuck_threads=self._has_stuck_threads,
            batches=self._batches,
            resources=self._resources,
            waited_seconds=self._live.waits.seconds,
        )
        ended = execution_record(self._opened.items, outcome, before)
        self.leaves_others = stop is ONLY_HELD and self._steering.requested is None
        try:
            if self.leaves_others:
                record.update(**ended)  # it goes on at once
            else:
                note_report(self.folder, {**record.content, **ended, "status": status}, self._live.note)
                record.enter(status, stop.reason if stop else None, **ended)
        except ExecutionError:  # the disk may be what broke the run; the outcome is still told
            record.content.update(ended, status=status)
        return outcome

    @property
    def progress(self) -> Progress:
        """How far it is; changes several times a second."""
        return self._live.progress

    @property
    def record(self) -> Mapping[str, Any]:
        """The content of execution.json."""
        return self._opened.record.content

    @property
    def has_decisions(self) -> bool:
        """Whether persons have decided about items that wait while it ran: they go on with the next resume."""
        return self._steering.decided_items > 0

    def stop(self, cause: Stop) -> None:
        """Stop, from any thread: no more items are started, and calls in flight get the grace period."""
        self._steering.stop(cause)

    def _process(self, items: Loaded) -> ResultTotals | None:
        """Run the items and write the result. Returns its totals; null when there is no result."""
        writer, totals, is_over = None, None, False
        _, layout, kept, _ = self._opened
        for note in (*self.prepared.warnings, *kept.notes, *notes_of(self._held_items)):
            self._live.note(note)
        try:
            writer = ResultWriter(self.folder, layout, journal=kept.journal, recovered=kept.recovered, spent=kept.spent)
            self._steering.keep = writer.keep
            self._dispatch_all(items, writer)
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

    def _dispatch_all(self, items: Loaded, writer: ResultWriter) -> None:
        try:
            with rare_collections(), cache_of(self.prepared.plan, self._opened.record, self._live.note) as cache:
                anyio.run(self._dispatch, items, writer, cache, backend_options=loop_options(self.prepared.plan))
        except ExecutionError as broken:
            self._fault = str(broken)
        if self._fault is not None and (self._earlier is not None or (self._slices is not None and self._slices.account.has_gaps)):
            raise ExecutionError(f"{self._fault}; what was done is kept in the journal")  # the rows would have gaps

    async def _dispatch(self, items: Loaded, writer: ResultWriter, cache: OutputCache | None) -> None:
        loaded, plan = self.prepared.loaded, self.prepared.plan
        kept, mask, note = self._opened.durability, self._mask, self._live.note
        sink = self._telling.sink(writer, self._opened.layout)
        sink = MaskedResults(sink, mask) if mask else sink
        if loaded.run.backend == "processes" and not self._held_items:
            ports = Ports(writer, sink, kept.spending, note, self._telling.pass_on, masked_events(self._telling.on_sent_back, mask))
            slices = self._dispatcher = self._slices = slices_of(self.prepared, self._opened, ports, is_told=self._telling.has_sinks)
            await self._follow(Followed(slices, slices, writer, items.total_items), slices.run)
            self._batches = slices.batches
            return
        watch = Watch(self.folder, limit_seconds(plan, loaded.run), keeps=self._earlier is not None and self._earlier.runs_chosen)
        settings = EngineSettings(
            self.execution_id,
            loaded.run,
            loaded.job.output.node_executions,
            journal=None if kept.journal is None else MaskedJournal(writer, mask, note) if mask else writer,
            restored=kept.restored if kept.recovered is not None else None,
            stale=kept.stale,
            spending=kept.spending,
            on_note=note,
            cache=MaskedCache(cache, mask) if mask and cache is not None else cache,
            part_names=self._opened.layout.parts,
            lane_slots=watch.lanes,
            is_cancelled=self._steering.is_cancelled,
            on_stopping=partial(stop_waiting, self.prepared.resources),
            on_sent_back=masked_events(self._telling.on_sent_back, mask),
            pack=sink.pack,
        )
        rooms = Rooms(Feed(items.windows(kept.wanted(items.total_items))), sink)
        async with Engine(plan, settings, on_stop=lambda cause: dispatcher.stop(Stop(cause.reason, mask.text(cause.message)))) as engine:
            dispatcher = self._dispatcher = Dispatcher(engine, rooms, loaded.run, kept.counts(), items.total_items)
            followed = Followed(dispatcher, engine, writer, items.total_items, self.prepared.resources, mask)
            try:
                with watch.armed():
                    await self._follow(followed, dispatcher.run_chunks if plan.is_in_chunks else dispatcher.run_items)
            finally:
                self._has_stuck_threads = engine.abandoned_count > 0
                self._batches = engine.batches.sizes
                self._resources = mask.value(states(self.prepared.resources))

    async def _follow(self, followed: Followed, work: Callable[[], Awaitable[None]]) -> None:
        self._telling.serve(Running(self.prepared.loaded.name, followed.writer, lambda: self.progress, lambda: self._live.waits.seconds))
        if (seconds := self._opened.durability.seconds_left) is not None:
            asyncio.get_running_loop().call_later(seconds, followed.dispatcher.stop, timeout_stop(self.prepared.loaded.run))
        with self._steering.of(followed.dispatcher):
            async with self._live.following(followed):
                await work()

    def _put_rest(self, items: Loaded, writer: ResultWriter) -> int:
        """Write the rows of the items that were not run. Returns how many rows the result must have."""
        loaded = self._dispatcher.loaded_items if self._dispatcher is not None else 0
        if self._fault is not None and self._dispatcher is not None:  # else it broke before the first item, and reading is no trouble
            return loaded
        rows, kept = loaded, self._opened.durability
        left = kept.left_over(items.total_items, loaded if self._slices is None else 0)
        left = left if self._slices is None else self._slices.account.left_over(left)
        try:
            for ordinals, columns in items.rest(left):
                for status, some in by_status(ordinals.to_pylist(), kept.waits):
                    writer.put_rest(columns.filter(pc.is_in(ordinals, pa.array(some, pa.int64()))), some, status)
                rows += columns.num_rows
        except ExecutionError as broken:
            self._fault = str(broken)
            return rows
        return items.total_items

    def _tell_end(self, items: Loaded, totals: ResultTotals) -> None:
        self._live.progress = replace(at_end(self.progress, totals), total_items=items.total_items)
        missing = items.total_items - totals.total_items
        if self._fault is not None and missing:
            self._fault += f"; the result has the {totals.total_items:,} items that were loaded before, {missing:,} are missing from it"

    def _write_copies(self, items: Loaded, totals: ResultTotals) -> None:
        try:
            if totals.failed_items or self._earlier is not None:  # what failed in an earlier run may have been mended
                write_failures(self.folder, items.rows)
            export_results(self.folder, exports_of(self.prepared.loaded))
        except ExecutionError as broken:
            self._fault = f"{self._fault}; {broken}" if self._fault else f"{broken}; results.parquet is complete"

    def _end_of(self, totals: ResultTotals | None) -> Stop | None:
        """Why the execution ends before its last item; null when it does not."""
        asked, stop = self._steering.requested, self._dispatcher.stop_cause if self._dispatcher is not None else None
        if totals is not None and totals.processed_items == self._opened.items.total_items:  # whatever was asked came too late
            return stop if stop is not None and stop.reason == "failure_policy" else None
        if asked is not None and asked.reason == "cancel":
            return asked
        if stop is None and totals is not None and self._fault is None:
            waiting, undone = totals.waiting_items, self._opened.items.total_items - totals.processed_items
            only = ONLY_HELD if self._held_items else ONLY_RETRIED if self.prepared.sample is None else ONLY_SAMPLED
            return waiting_stop(waiting) if waiting == undone else only
        return stop
