"""The result writer: takes finished items from the event loop and writes them in one thread of its own."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

import pyarrow as pa

from batchrun.core.errors import ExecutionError
from batchrun.core.items import ItemResult
from batchrun.results.columns import ResultColumns
from batchrun.results.files import discard, explained, hidden, publish, unwritable
from batchrun.results.parquet import RowGroups
from batchrun.results.reader import RESULT_FILE
from batchrun.results.reorder import Reorder
from batchrun.results.schema import ResultLayout
from batchrun.results.totals import ResultTotals, Tally

_SHOWN = 5
_REPEATING = (
    "status",
    "error.type",
    "error.node_id",
    *(f"node_executions.list.element.{name}" for name in ("node_id", "node_type", "status", "error.type", "error.node_id")),
)
"""Columns with few different values. Most others differ in every row: a dictionary would make them larger and slower."""


class ResultWriter:
    """Writes `results.parquet`: one row per item, in item order, complete or not at all.

    Results are put in any order, from one thread. Then either `finish` or `abandon` ends the writer.

    Args:
        folder: the execution's folder; it exists.
        layout: what the table looks like.
        buffer_bytes: the most memory for finished items that wait for an earlier one; the rest waits on the disk.

    Raises:
        ExecutionError: the folder cannot be written to.
    """

    def __init__(self, folder: Path, layout: ResultLayout, *, buffer_bytes: int = 64 * 2**20) -> None:
        self._path = folder / RESULT_FILE
        self._tally = Tally(layout.nodes)
        self._columns = ResultColumns(layout, self._tally)
        self._temporary = hidden(self._path)
        flat = [field.name for field in self._columns.schema if field.name != "output" and not pa.types.is_nested(field.type)]
        repeating = [*_REPEATING, *(name for name in layout.kept if name in flat)]
        try:
            self._file = RowGroups(self._temporary, self._columns.schema, use_dictionary=repeating, write_statistics=flat)
        except OSError as error:
            discard(self._temporary)
            raise unwritable(self._path, error) from error
        self._reorder = Reorder(self._columns.batch, self._file.append, folder, buffer_bytes)
        self._queue: SimpleQueue[Sequence[ItemResult] | None] = SimpleQueue()
        self._handed_over = 0
        self._taken = 0
        self._failure: BaseException | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="batchrun-results", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """Items handed over that the writer thread has not taken up yet. None once it is broken: the next `put` says so."""
        return 0 if self._failure is not None else self._handed_over - self._taken

    @property
    def totals(self) -> ResultTotals:
        """What became of the items so far; may be asked from any thread."""
        return self._tally.snapshot()

    def put(self, results: Sequence[ItemResult]) -> None:
        """Hand over results in any order; never blocks. The sequence must not change afterwards.

        Raises:
            ExecutionError: writing failed, or the writer was ended; no result is taken any more.
        """
        self._refuse_if_broken()
        if self._closed:
            raise ExecutionError(f"{len(results)} results came after {self._path} was closed; they are not in it")
        self._handed_over += len(results)
        self._queue.put(results)

    def put_rest(self, columns: pa.RecordBatch, status: Literal["cancelled", "waiting"]) -> None:
        """Add rows of items that never ran, in order; they come after all items that were put. Blocks.

        Args:
            columns: the rows, with the columns of `ResultLayout.window_schema`.
            status: of all these items.

        Raises:
            ExecutionError: writing failed.
        """
        self._stop()
        with explained(self._path):
            self._reorder.finish()
            self._file.append(self._columns.unfinished(columns, status))
        self._reorder.next_ordinal += columns.num_rows
        self._tally.add_unfinished(status, columns.num_rows)

    def finish(self, metadata: Mapping[str, str], expected_items: int) -> ResultTotals:
        """Write what is left, check that every item is there exactly once, and publish the file. Blocks.

        Args:
            metadata: goes into the file's metadata, together with the counters.
            expected_items: how many items were loaded.

        Raises:
            ExecutionError: writing failed, or items are missing or doubled; nothing was published.
        """
        try:
            self._stop()
            with explained(self._path):
                self._reorder.finish()
                totals = self._tally.snapshot()
                self._reconcile(totals, expected_items)
                self._file.close({**metadata, **{name: str(count) for name, count in totals.counters().items()}})
                publish(self._temporary, self._path)
        finally:
            self._discard()
        return totals

    def abandon(self) -> None:
        """End the writer without a result: stop the thread and remove the temporary files. May follow an error."""
        self._closed = True
        self._queue.put(None)
        self._thread.join()
        self._discard()

    def _work(self) -> None:
        with suppress(OSError, pa.ArrowException):  # put and finish report these; anything else is printed too: it is a bug
            try:
                while (results := self._queue.get()) is not None and not self._closed:
                    self._taken += len(results)
                    self._tally.add_results(results)
                    self._reorder.add(results)
            finally:
                self._failure = sys.exc_info()[1]
                if self._failure is not None:
                    self._discard()

    def _stop(self) -> None:
        """Let the thread finish its work; from here on the caller writes."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        self._closed = True
        self._refuse_if_broken()

    def _refuse_if_broken(self) -> None:
        if self._failure is not None:
            raise unwritable(self._path, self._failure) from self._failure

    def _reconcile(self, totals: ResultTotals, expected_items: int) -> None:
        reorder = self._reorder
        if reorder.next_ordinal < expected_items:
            reorder.missing.append(range(reorder.next_ordinal, expected_items))
        counts = {totals.total_items, self._file.rows, reorder.next_ordinal}
        if counts == {expected_items} and not reorder.missing and not reorder.doubled:
            return
        missing = ", ".join(_shown(gap) for gap in reorder.missing[:_SHOWN]) + (", …" if len(reorder.missing) > _SHOWN else "")
        doubled = ", ".join(map(str, sorted(reorder.doubled)[:_SHOWN])) + (", …" if len(reorder.doubled) > _SHOWN else "")
        raise ExecutionError(
            f"the result does not add up, so {self._path} was not written: {expected_items} items were loaded, {self._file.rows} have a row"
            f"{f'; missing items (by position in the run): {missing}' if missing else ''}"
            f"{f'; items with more than one result: {doubled}' if doubled else ''}. This is a bug in batchrun: please report it"
        )

    def _discard(self) -> None:
        self._reorder.close()
        self._file.abandon()
        discard(self._temporary)


def _shown(gap: range) -> str:
    return str(gap.start) if len(gap) == 1 else f"{gap.start}–{gap.stop - 1}"
