"""Telling others what an execution does: sinks of events, the log of events, traces, and the metrics server."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from batchrun.core.events import (
    Event,
    EventSink,
    ExecutionEnded,
    ExecutionStarted,
    ProgressMade,
    SentBack,
    Throttled,
)
from batchrun.core.executions import Progress
from batchrun.core.items import ItemResult, Usage
from batchrun.core.protocols import ResultSink
from batchrun.execution.item_events import events_of
from batchrun.execution.opening import Opened
from batchrun.execution.summary import Outcome
from batchrun.results import NodeTotals, ResultLayout, ResultWriter
from batchrun.results.durations import cumulated
from batchrun.telemetry.collector import collector_of_environment
from batchrun.telemetry.json_lines import EVENTS_FILE, JsonLines
from batchrun.telemetry.prometheus import Figures, MetricsServer, NodeFigures, Prometheus, exposition
from batchrun.telemetry.sinks import Broadcast, ManyAtOnce

Listener: TypeAlias = EventSink | Prometheus


class Running(NamedTuple):
    """What a look at the metrics needs of a running execution."""

    job_name: str
    writer: ResultWriter
    progress: Callable[[], Progress]
    waited_seconds: Callable[[], Mapping[str, float]]


class Telling:
    """Tells sinks and Prometheus of one run of an execution. Without any of them, nothing is made or called.

    Args:
        listeners: who wants to know.
        execution_id: names the execution.
        on_note: called with lines for people; from any thread.
    """

    def __init__(self, listeners: Sequence[Listener], execution_id: str, on_note: Callable[[str], None]) -> None:
        self._sinks: list[EventSink | ManyAtOnce] = [listener for listener in listeners if not isinstance(listener, Prometheus)]
        self._places = [listener for listener in listeners if isinstance(listener, Prometheus)]
        self._id = execution_id
        self._on_note = on_note
        self._servers: list[MetricsServer] = []
        self._broadcast: Broadcast | None = None
        self._sent_back = Counter[tuple[str, bool]]()
        self._lock = threading.Lock()

    def bind(self) -> None:
        """Take the ports of the metrics, before anything else is done.

        Raises:
            JobError: one of them cannot be used.
        """
        with ExitStack() as undo:
            for place in self._places:
                server = MetricsServer(place)
                undo.callback(server.close)
                self._servers.append(server)
            undo.pop_all()

    def begin(self, job_name: str, opened: Opened, folder: Path, *, has_log: bool) -> None:
        """The items are about to begin.

        Args:
            job_name: of the job.
            opened: the execution.
            folder: its folder.
            has_log: whether events are written down there.
        """
        if has_log:
            try:
                self._sinks.append(JsonLines(folder / EVENTS_FILE))
            except OSError as error:
                self._on_note(f"cannot write {folder / EVENTS_FILE}: {error.strerror}; events are not written down")
        self._sinks += collector_of_environment(self._on_note)
        if self._sinks:
            self._broadcast = Broadcast(self._sinks, self._on_note)
            started = ExecutionStarted(
                execution_id=self._id,
                at=datetime.now(UTC),
                job_name=job_name,
                total_items=opened.items.total_items,
                restored_items=opened.durability.counts().ended,
            )
            self._broadcast.tell(started)

    def serve(self, running: Running) -> None:
        """Answer for metrics from here on."""
        for server in self._servers:
            server.serve(lambda: exposition(self._figures(running)))
            self._on_note(f"metrics: {server.url}")

    @property
    def on_sent_back(self) -> Callable[[SentBack], None] | None:
        """Is to be told of calls that will be made again; null when nobody wants to know."""
        return self._count_sent_back if self._broadcast is not None or self._servers else None

    def sink(self, writer: ResultSink, layout: ResultLayout) -> ResultSink:
        """Where results go: the writer itself when nobody listens.

        Args:
            writer: writes them down.
            layout: names the nodes.
        """
        return writer if self._broadcast is None else _ToldResults(writer, self._broadcast, self._id, layout)

    @property
    def has_sinks(self) -> bool:
        """Whether somebody wants to know what happens to each item."""
        return self._broadcast is not None

    def pass_on(self, events: Sequence[Event]) -> None:
        """Tell of what happened to items elsewhere."""
        if self._broadcast is not None:
            self._broadcast.put(events)

    def progress_made(self, progress: Progress) -> None:
        """Tell how far the execution is."""
        if self._broadcast is not None:
            self._broadcast.tell(ProgressMade(execution_id=self._id, at=datetime.now(UTC), progress=progress))

    def end(self, outcome: Outcome, progress: Progress) -> list[dict[str, Any]]:
        """Tell how the run has ended, and close. Returns what became of the events of sinks that did not take all of them."""
        if self._broadcast is None:
            self.close()
            return []
        ended = ExecutionEnded(
            execution_id=self._id,
            at=outcome.completed_at,
            status=outcome.status,
            stop_reason=outcome.stop.reason if outcome.stop is not None else None,
            error=outcome.error or (outcome.stop.message if outcome.stop is not None else None),
            started_at=outcome.started_at,
            duration_seconds=outcome.duration_seconds,
            progress=progress,
        )
        self._broadcast.tell(ended)
        return self.close()

    def close(self) -> list[dict[str, Any]]:
        """Tell what is left, in bounded time, and serve no more. May be called again."""
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()
        broadcast, self._broadcast = self._broadcast, None
        return [report._asdict() for report in broadcast.close()] if broadcast is not None else []

    def _count_sent_back(self, event: SentBack) -> None:
        with self._lock:
            self._sent_back[event.node_id, isinstance(event, Throttled)] += 1
        if self._broadcast is not None:
            self._broadcast.tell(event)

    def _figures(self, running: Running) -> Figures:
        durations = running.writer.durations
        nodes = [self._node_figures(node, durations.get(node.node_id, {})) for node in running.writer.totals.nodes]
        return Figures(running.job_name, running.progress(), running.waited_seconds(), nodes)

    def _node_figures(self, node: NodeTotals, buckets: Mapping[int, int]) -> NodeFigures:
        return NodeFigures(
            node_id=node.node_id,
            executions={"completed": node.completed, "failed": node.failed, "skipped": node.skipped},
            cached=node.cached,
            attempts=node.attempts,
            durations=cumulated(buckets),
            timed=sum(buckets.values()),
            total_seconds=node.total_ms / 1e3,
            retries=self._sent_back[node.node_id, False],
            throttles=self._sent_back[node.node_id, True],
            usage=Usage(node.input_tokens, node.output_tokens, node.cost),
        )


class _ToldResults:
    """Hands results to the writer, and tells of them."""

    def __init__(self, writer: ResultSink, broadcast: Broadcast, execution_id: str, layout: ResultLayout) -> None:
        self._writer = writer
        self._broadcast = broadcast
        self._id = execution_id
        self._layout = layout

    @property
    def backlog(self) -> int:
        return max(self._writer.backlog, self._broadcast.backlog)

    def put(self, results: Sequence[ItemResult]) -> None:
        self._writer.put(results)
        self._broadcast.put(list(events_of(results, self._id, self._layout)))

    def pack(self, _results: Sequence[ItemResult]) -> None:
        """No rows: whoever listens is told of each result when it is put."""

    def put_rows(self, rows: Any) -> None:
        self._writer.put_rows(rows)
