"""What can be known of one execution: how far it is, how it ended, and its result."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from batchrun.client.detached import why_lost
from batchrun.client.pauses import Pauses
from batchrun.client.spawning import LOG_FILE
from batchrun.core.checks import above, refuse
from batchrun.core.errors import ExecutionError
from batchrun.core.executions import Progress, ShownStatus
from batchrun.execution import Outcome, Record, account, why_held
from batchrun.execution.sourced import rows_with_source
from batchrun.reports import short_page
from batchrun.results import NodeTotals, ResultTotals, read_results, scan_results
from batchrun.store import StoredExecution

_IN_PROGRESS = ("pending", "running", "finalizing")
_LONGEST_INTERVAL_SECONDS = 30.0
_GROWTH = 1.5


class Ended(NamedTuple):
    """An execution that this process has run. What it says need not be on the disk: that may be full."""

    record: Mapping[str, Any]
    progress: Progress
    outcome: Outcome


class _Look(NamedTuple):
    """What was seen of an execution at one moment; in one piece, as several threads may look."""

    record: Mapping[str, Any]
    status: ShownStatus
    progress: Progress


class ExecutionView:
    """One execution as of the moment this was made or last refreshed. Nothing can be asked of it; see `Execution`.

    Args:
        folder: the execution's folder, or a copy of it.
        stored: what the store says of it; null: it is asked.
        ended: how it ended in this process; null: it is read.

    Raises:
        ExecutionError: there is no execution in the folder.

    Attributes:
        folder: where its files are.
        has_stuck_threads: whether calls of this process still hang in threads that nothing can end; they are gone when it ends.

    Example:
        >>> view = ExecutionView("runs/20261101T093000-0a1b2c3d4e")  # doctest: +SKIP
        >>> view.status, view.progress.processed_items, view.is_in_progress  # doctest: +SKIP
        ('running', 4200, True)
    """

    _seen: _Look

    def __init__(self, folder: str | Path, *, stored: StoredExecution | None = None, ended: Ended | None = None) -> None:
        self.folder = Path(folder).resolve()
        self.has_stuck_threads = False
        if ended is None:
            self.look(stored)
        else:
            self.has_stuck_threads = ended.outcome.has_stuck_threads
            self._seen = _Look(ended.record, ended.outcome.status, ended.progress)

    @classmethod
    def like(cls, view: ExecutionView) -> Self:
        """The execution of another view, as of the same moment."""
        same = cls.__new__(cls)
        vars(same).update(vars(view))
        return same

    def look(self, stored: StoredExecution | None = None) -> ShownStatus:
        """Look at the execution again; returns its status.

        Args:
            stored: what the store says of it; null: it is asked.

        Raises:
            ExecutionError: its folder is gone.
        """
        record = Record.read(self.folder).content
        while True:
            stored = stored or account.stored_of(record, self.folder)
            status = account.status_of(record, self.folder, stored.heartbeat_at if stored is not None else None)
            if status != "interrupted":
                break
            # Its process has gone. It may have ended in the ordinary way since its record was read.
            before, record = record, Record.read(self.folder).content
            if record == before:
                break
        self._seen = _Look(record, status, account.progress_of(record, stored))
        return status

    @property
    def record(self) -> Mapping[str, Any]:
        """The content of its execution.json."""
        return self._seen.record

    @property
    def progress(self) -> Progress:
        """Its counters, and what its items are doing."""
        return self._seen.progress

    @property
    def id(self) -> str:
        """The execution id; it sorts by time."""
        id: str = self.record["execution_id"]
        return id

    @property
    def job_name(self) -> str:
        """The name of its job."""
        name: str = self.record["job_name"]
        return name

    @property
    def status(self) -> ShownStatus:
        """`completed`, even with failed items; `paused` when it was stopped; `failed` when a policy or a fault ended it.

        `interrupted` when its process is gone without having said so; like all but `completed` and `rejected`, it can be resumed.
        """
        return self._seen.status

    @property
    def error(self) -> str | None:
        """Why the execution did not complete; null when it did, or goes on."""
        error: str | None = self.record.get("error")
        return error if error is not None or self.status != "interrupted" else why_held(self.folder)

    @property
    def stop_reason(self) -> str | None:
        """What told the execution to stop: user, cancel, signal, rule, stuck, budget or failure_policy; null when nothing did."""
        reason: str | None = self.record.get("stop_reason")
        return reason

    @property
    def has_succeeded(self) -> bool:
        """Whether every item was processed and none failed."""
        return self.status == "completed" and self.progress.failed_items == 0

    @property
    def is_paused(self) -> bool:
        """Whether it was stopped before its last item, by a person, a budget or a retry rule."""
        return self.status == "paused"

    @property
    def is_in_progress(self) -> bool:
        """Whether a process runs it or is about to."""
        return self.status in _IN_PROGRESS

    @property
    def duration_seconds(self) -> float:
        """How long it was run, from the check of the items to the finished result, over all its resumes; 0 before its first end."""
        return float(self.record.get("duration_seconds") or 0.0)

    @property
    def totals(self) -> ResultTotals | None:
        """Counters, node statistics and grouped failures; null when there is no result."""
        totals = self.record.get("totals")
        return ResultTotals.from_plain(totals) if totals is not None else None

    @property
    def nodes(self) -> tuple[NodeTotals, ...]:
        """Statistics of each node over all items; empty while there is no result."""
        totals = self.totals
        return totals.nodes if totals is not None else ()

    @property
    def waited_seconds(self) -> Mapping[str, float]:
        """What its items spent their time with, in all runs that came to an end, by what they waited for, longest first.

        `call`, `lane` (a thread), `backoff`, `resource` (its turn there) or `batch` (others to join). The time of all items together:
        two items that wait for a second count as two. Sampled a few times a second, so of a short run it says little.
        """
        return self.record.get("waited_seconds") or {}

    @property
    def results(self) -> pa.Table:
        """The result: one row per item, sorted by `item_index`. Read from the file each time.

        Raises:
            ExecutionError: the execution has not come to a result.
        """
        return read_results(self.folder)

    def results_frame(self, *, with_source: bool = False) -> pl.LazyFrame:
        """The result as a polars frame that reads only what is asked of it.

        Args:
            with_source: have the columns of each item's row in the dataset at the end. One that the result has another column of the
                same name for gets the prefix `source_`.

        Raises:
            ExecutionError: the execution has not come to a result.
            JobError: with `with_source`, the dataset is not what it was, naming the files, or is gone.

        Example:
            >>> execution.results_frame(with_source=True).group_by("language").len().collect()  # doctest: +SKIP
        """
        return rows_with_source(Record.read(self.folder)).frame if with_source else scan_results(self.folder)

    @property
    def failures(self) -> pa.Table:
        """The rows of the result that failed. Their source rows are in failures.parquet."""
        results = self.results
        return results.filter(pc.equal(results["status"].cast(pa.string()), "failed"))

    def looks(self, interval_seconds: float, timeout_seconds: float | None, *, adaptive: bool) -> Pauses[ShownStatus]:
        """Look at the execution until it has ended; gives the seconds to sleep before the next look. See `Execution.wait`.

        Raises:
            InvalidFields: the interval is not above 0.
            TimeoutError: it still goes on when the time is over.
            ExecutionError: its folder is gone, or the process that was started for it here ended without a trace.
        """
        refuse(above(0, interval_seconds=interval_seconds))
        end = time.monotonic() + timeout_seconds if timeout_seconds is not None else None
        while self.look() in _IN_PROGRESS:
            if self.status == "pending" and (reason := why_lost(self.folder)) is not None:
                raise ExecutionError(f"execution {self.id} did not begin: {reason}")
            left = end - time.monotonic() if end is not None else interval_seconds
            if left <= 0:
                raise TimeoutError(f"execution {self.id} is still {self.status} after {timeout_seconds:g} s; {self._outlook()}")
            yield min(interval_seconds, left)
            if adaptive:
                interval_seconds = min(interval_seconds * _GROWTH, max(interval_seconds, _LONGEST_INTERVAL_SECONDS))
        return self.status

    def _outlook(self) -> str:
        if self.status == "pending":
            return f"no process has begun it yet: if none does, {self.folder / LOG_FILE} says why, and resume starts one"
        return "it goes on"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        folder = min(str(self.folder), os.path.relpath(self.folder), key=len)
        return short_page(self.record, self.status, self.error, self.progress, folder)

    def __repr__(self) -> str:
        shown, kind = self.progress, type(self).__name__
        return f"<{kind} {self.id} {self.status}: {shown.processed_items} of {shown.total_items} items, {shown.failed_items} failed>"
