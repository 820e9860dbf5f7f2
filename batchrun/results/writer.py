"""The result writer: takes finished items from the event loop and writes them in one thread of its own."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from batchrun.core.errors import ExecutionError
from batchrun.core.items import ItemResult, KeptNode
from batchrun.results.columns import ResultColumns
from batchrun.results.commits import Checkpoint, GroupCommit
from batchrun.results.files import discard, explained, hidden, publish, unwritable
from batchrun.results.handed import HandedRows
from batchrun.results.journal import Journal
from batchrun.results.parquet import result_file
from batchrun.results.reader import RESULT_FILE
from batchrun.results.recovery import Recovered
from batchrun.results.reorder import Reorder
from batchrun.results.rows import Gathered, ResultRows
from batchrun.results.schema import ResultLayout
from batchrun.results.totals import ResultTotals, Tally

_Message: TypeAlias = Sequence[ItemResult] | Sequence[KeptNode] | Checkpoint | ResultRows | HandedRows


class ResultWriter:
    """Writes `results.parquet`: one row per item, in item order, complete or not at all.

    Results are put in any order, from one thread. Then either `finish` or `abandon` ends the writer. With a journal, what
    was put is on the disk a tenth of a second later; `results.parquet` itself only appears at the end.

    Args:
        folder: the execution's folder; it exists.
        layout: what the table looks like.
        journal: takes results and what nodes of other items have come to; null: a crash costs everything.
        recovered: the rows of items that were done before; they come first.
        spent: counters that are written to the journal whenever they change.
        buffer_bytes: the most memory for finished items that wait for an earlier one; the rest waits on the disk.

    Raises:
        ExecutionError: the folder cannot be written to.
    """

    def __init__(
        self,
        folder: Path,
        layout: ResultLayout,
        *,
        journal: Journal | None = None,
        recovered: Recovered | None = None,
        spent: Callable[[], Mapping[str, Any]] = dict,
        buffer_bytes: int = 64 * 2**20,
    ) -> None:
        self._path = folder / RESULT_FILE
        self._tally = Tally(layout.nodes)
        self._columns = ResultColumns(layout)
        self._gathered = Gathered()
        self._temporary = hidden(self._path)
        try:
            self._file, emit = result_file(self._temporary, layout)
        except OSError as error:
            discard(self._temporary)
            raise unwritable(self._path, error) from error
        self._reorder = Reorder(self._batch, emit, folder, buffer_bytes)
        self._commits = GroupCommit(journal, spent)
        self._is_durable = journal is not None
        self._recovered = recovered
        self._queue: SimpleQueue[_Message | None] = SimpleQueue()
        self._handed_over = self._taken = 0
        self._failure: BaseException | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="batchrun-results", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """Items handed over that the writer thread has not taken up yet. None once it is broken: the next `put` says so.

        Rows count by their size: what takes as much memory as a result counts like one.
        """
        return 0 if self._failure is not None else self._handed_over - self._taken

    @property
    def totals(self) -> ResultTotals:
        """What became of the items so far; may be asked from any thread."""
        return self._tally.snapshot()

    @property
    def durations(self) -> dict[str, dict[int, int]]:
        """The executions of each node by the bucket of their duration; may be asked from any thread."""
        return self._tally.durations()

    def put(self, results: Sequence[ItemResult]) -> None:
        """Hand over results in any order; never blocks. The sequence must not change afterwards.

        Raises:
            ExecutionError: writing failed, or the writer was ended; no result is taken any more.
        """
        self._refuse_if_broken(len(results))
        if results:
            self._handed_over += len(results)
            self._queue.put(results)

    def pack(self, results: Sequence[ItemResult]) -> ResultRows | None:
        """Make rows of results for `put_rows`; see `ResultSink`."""
        return self._columns.packed(results)

    def put_rows(self, rows: ResultRows | HandedRows) -> None:
        """Hand over rows that are made already, perhaps by another process; as `put`."""
        self._refuse_if_broken(len(rows.ordinals))
        self._handed_over += rows.weight
        self._queue.put(rows)

    def keep(self, nodes: Sequence[KeptNode]) -> None:
        """Keep what nodes of items that are not completed have come to; from any thread. See `NodeJournal`."""
        if self._is_durable and nodes:
            self._queue.put(nodes)

    async def checkpoint(self, node: KeptNode) -> None:
        """Keep a checkpoint, and return once it is on the disk.

        Raises:
            ExecutionError: it cannot be written.
        """
        self._refuse_if_broken()
        loop = asyncio.get_running_loop()
        checkpoint = Checkpoint(node, loop, loop.create_future())
        self._queue.put(checkpoint)
        while not checkpoint.written.done():
            await asyncio.wait([checkpoint.written], timeout=1.0)
            self._refuse_if_broken()
            if self._closed and not checkpoint.written.done():
                raise ExecutionError(f"a checkpoint of node {node.node_id} came after {self._path} was closed; it is not kept")

    def put_rest(self, columns: pa.RecordBatch, ordinals: Sequence[int], status: Literal["cancelled", "waiting"]) -> None:
        """Add rows of items that did not run, after all items that were put. Blocks.

        Args:
            columns: the rows, with the columns of `ResultLayout.window_schema`.
            ordinals: of these items, ascending.
            status: of all these items.

        Raises:
            ExecutionError: writing failed.
        """
        self._stop()
        with explained(self._path):
            self._reorder.add_rows(self._columns.unfinished(columns, status), ordinals)
            self._reorder.drain()
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
                self._commit()
                self._file.close({**metadata, **{name: str(count) for name, count in totals.counters().items()}})
                publish(self._temporary, self._path)
        finally:
            self._discard()
        return totals

    def abandon(self) -> None:
        """End the writer without a result: stop the thread and remove the temporary files. May follow an error."""
        self._closed = not self._is_durable  # what has finished is kept for a resume
        self._queue.put(None)
        self._thread.join()
        if self._failure is None and self._is_durable:
            with suppress(ExecutionError, OSError, pa.ArrowException):  # it is given up anyway
                self._commit()
        self._closed = True
        self._discard()

    def _work(self) -> None:
        with suppress(ExecutionError, OSError, pa.ArrowException):  # put and finish report these; anything else is printed too: it is a bug
            try:
                self._restore()
                while not self._closed and (message := self._next()) is not None:
                    self._take(message)
            finally:
                self._failure = sys.exc_info()[1]
                if self._failure is not None:
                    self._discard()

    def _restore(self) -> None:
        if self._recovered is not None:
            for ordinals, batch in self._recovered.rows():
                self._tally.add_rows(batch)
                self._reorder.add_rows(batch, ordinals)
                self._reorder.drain()

    def _next(self) -> _Message | None:
        """What was put next; null at the end. Commits when it is time, and else writes rows that waited for others, step by step."""
        while True:
            if self._commits.seconds_left == 0 and not (self._commits.may_wait and not self._queue.empty()):
                self._commit()
                continue
            with suppress(Empty):
                return self._queue.get_nowait()
            if not self._reorder.drain():
                with suppress(Empty):
                    return self._queue.get(timeout=self._commits.seconds_left)

    def _take(self, message: _Message) -> None:
        if isinstance(message, Checkpoint):
            self._commits.checkpoint(message)
        elif isinstance(message, HandedRows):
            self._taken += message.weight
            self._tally.merge(message.tally)
            self._commits.frame(message.body)
            self._commits.expect()
            self._reorder.add_rows(message.batch(), message.ordinals)
            self._reorder.drain()
        elif isinstance(message, ResultRows):
            self._taken += message.weight
            self._tally.add_items(message)
            self._gathered.add(message)
            self._commits.expect()
            if self._gathered.is_full:
                self._settle()
                self._reorder.drain()
        elif isinstance(message[0], KeptNode):
            self._commits.nodes(message)  # type: ignore[arg-type] # a list of one kind
        else:
            results: Sequence[ItemResult] = message  # type: ignore[assignment] # as above
            self._taken += len(results)
            self._tally.add_results(results)
            self._commits.expect()
            self._reorder.add(results)

    def _batch(self, results: Sequence[ItemResult]) -> pa.RecordBatch:
        """Make a batch of sorted results; it is in the journal before anything else is done with it."""
        rows = self._columns.rows(results, [result[0][0] for result in results])
        self._tally.add_executions(rows)
        self._commits.rows(rows.batch, rows.ordinals)
        return rows.batch

    def _settle(self) -> None:
        for rows in self._gathered.take():
            self._tally.add_executions(rows)
            self._commits.rows(rows.batch, rows.ordinals)
            self._reorder.add_rows(rows.batch, rows.ordinals)
        self._reorder.settle()

    def _commit(self) -> None:
        self._settle()
        self._commits.commit()
        self._reorder.drain()  # only now: to write a row group takes as long as a commit may be late

    def _stop(self) -> None:
        """Let the thread finish its work, and bring it to the disk; from here on the caller writes."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        self._closed = True
        self._refuse_if_broken()
        with explained(self._path):
            self._commit()

    def _refuse_if_broken(self, count: int | None = None) -> None:
        """Raise what broke the writer; for results that come, also that it was ended."""
        if isinstance(self._failure, ExecutionError):
            raise self._failure
        if self._failure is not None:
            raise unwritable(self._path, self._failure) from self._failure
        if self._closed and count is not None:
            raise ExecutionError(f"{count} results came after {self._path} was closed; they are not in it")

    def _reconcile(self, totals: ResultTotals, expected_items: int) -> None:
        wrong = self._reorder.wrong(expected_items)
        if wrong or {totals.total_items, self._file.rows, self._reorder.next_ordinal} != {expected_items}:
            raise ExecutionError(
                f"the result does not add up, so {self._path} was not written: {expected_items} items were loaded, "
                f"{self._file.rows} have a row{wrong}. This is a bug in batchrun: please report it"
            )

    def _discard(self) -> None:
        self._reorder.close()
        self._file.abandon()
        discard(self._temporary)
