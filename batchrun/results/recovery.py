"""Reading a journal back: which items are done, and where the others were."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from itertools import compress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson
import polars as pl
import pyarrow as pa

from batchrun.core.errors import ExecutionError
from batchrun.core.items import DONE_STATUSES, ITEM_STATUSES, KeptNode, RestoredItem
from batchrun.results.by_ordinal import Values
from batchrun.results.journal import AGAIN, HEADER, NODES, ROWS, SPENT, Frame, epochs, frames, mapped
from batchrun.results.kept import KeptNodes, is_output, is_waiting, place_of

_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)  # handing dozens of small columns to threads costs more than it saves
_ORDINAL = pa.field("ordinal", pa.int64())  # the last column of the rows in a journal: where the item stands in the run
_NOW = 2**62  # a place after all that is written down
_FAILED = 1 + ITEM_STATUSES.index("failed")
_WAITING = ITEM_STATUSES.index("waiting")


class _Again(NamedTuple):
    """What retries have done to an item.

    Attributes:
        generation: how often they have chosen it.
        rows: the places of the rows it had before.
        since: the place that says so.
        anew_since: the place since which it runs without what was kept of its nodes; -1: never.
    """

    generation: int = 0
    rows: tuple[int, ...] = ()
    since: int = -1
    anew_since: int = -1


class _Earlier(NamedTuple):
    """Attempts before the last retry: those of an item, and those of its nodes."""

    item: int = 0
    nodes: tuple[tuple[str, int], ...] = ()


class Recovered:
    """What the journal of an execution says. What is needed later is read again then: memory holds a few bytes per item.

    Attributes:
        done: by ordinal: 0 for items that are not done, else 1 + the position of their status in `ITEM_STATUSES`.
        waiting: the ordinals of items that had come to a node which waits for a person when they were last run; they are not done.
        spent: what was spent: counters by name; empty when nothing was counted.
        reused: how many completed items have their row from an earlier execution.
        dropped: what could not be read, for people.

    Raises:
        ExecutionError: a file cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._row_of = array("q")  # by ordinal: the place of the frame that has its row
        self._again = Values(_Again())
        self._earlier = Values(_Earlier())
        self._edits: dict[str, list[int]] = {}  # by node: the places that say that it was edited
        self._edited_last = -1  # the last of these places
        self._nodes: KeptNodes | None = None
        self.done = bytearray()
        self.waiting: dict[int, int] = {}  # with the place of the frame that has the row
        self.spent: Mapping[str, Any] = {}
        self.reused = 0
        self.dropped: list[str] = []
        for place, frame in self._frames(self.dropped):
            if frame.kind == ROWS:
                self._take_rows(place, frame)
            elif frame.kind == AGAIN:
                self._run_again(place, **orjson.loads(frame.body))
            elif frame.kind == SPENT:
                self.spent = orjson.loads(frame.body)
            elif frame.kind == HEADER:
                header = orjson.loads(frame.body)
                self.reused += header.get("reused", 0)
                for id in header.get("edited", ()):
                    self._edits.setdefault(id, []).append(place)
                    self._edited_last = place
            elif frame.kind != NODES:
                raise ExecutionError(f"the journal in {folder} was written by a newer version of batchrun; resume with that version")

    def count(self, status: str) -> int:
        """How many items are done with this status."""
        return self.done.count(1 + ITEM_STATUSES.index(status))

    def failed(self, where: pl.Expr | None, absent: Mapping[str, pl.DataType] = MappingProxyType({})) -> list[int]:
        """The ordinals of failed items, ascending.

        Args:
            where: an expression over the columns of the result that looks at one row at a time; null: all failed items.
            absent: further columns it may name, which are null for all failed items.
        """
        failed = [ordinal for ordinal, status in enumerate(self.done) if status == _FAILED]
        if where is None:
            return failed
        row_of, count = self._row_of, len(self._row_of)  # a frame also has rows of items that are not done, perhaps beyond the last one
        places, names = {row_of[ordinal] for ordinal in failed}, {"status", *where.meta.root_names()}
        found: list[int] = []
        for place, frame in self._frames([]):
            if place in places:
                batch = _columns(frame, names)
                ordinals = _ordinals(batch)
                chosen = (ordinal < count and row_of[ordinal] == place and self.done[ordinal] == _FAILED for ordinal in ordinals)
                rows = [row for row, is_chosen in enumerate(chosen) if is_chosen]
                columns = pl.DataFrame(batch.remove_column(batch.num_columns - 1))[rows]
                columns = columns.with_columns(pl.lit(None, kind).alias(name) for name, kind in absent.items())
                matches = columns.with_columns(where.alias("status"))["status"]
                found += [ordinals[row] for row, is_match in zip(rows, matches, strict=True) if is_match]
        return sorted(found)

    def run_again(self, ordinals: Sequence[int], *, from_start: bool) -> bytes:
        """Take these failed items for not done. Returns the body of the frame that says so.

        Args:
            ordinals: ascending.
            from_start: whether all their nodes run again, or only those that did not complete.
        """
        self._run_again(_NOW, ordinals, from_start=from_start)
        self._nodes = None  # they were not open when it was made
        return orjson.dumps({"ordinals": list(ordinals), "from_start": from_start})

    def read_open_items(self) -> None:
        """Read where the items were that are not done; it is read when the first `item` is asked for, at the latest."""
        self._nodes = nodes = KeptNodes(epochs(self._folder))
        rows = {place for again in self._again.different for place in again.rows}
        for place, frame in self._frames([]):
            if frame.kind == NODES:
                nodes.add(place, frame.body, self.done)
            elif place in rows:
                self._take_attempts(place, frame)

    def item(self, ordinal: int) -> RestoredItem | None:
        """Where an item goes on that was begun and is not done; null when nothing of it is left.

        Raises:
            ExecutionError: the journal cannot be read.
        """
        if self._nodes is None:
            self.read_open_items()
        again, earlier = self._again[ordinal], self._earlier[ordinal]
        attempts, node_attempts = 1 + earlier.item, Counter(dict(earlier.nodes))
        nodes: dict[str, KeptNode | None] = {}
        asked: dict[str, KeptNode] = {}  # what was last written down of nodes that wait for a person
        counted: set[tuple[str, int]] = set()
        for place, entry in self._nodes.of(ordinal) if self._nodes is not None else ():
            # What is kept of a part may hold though the node was edited whose call it is part of: see `batchrun.engine.restoring`.
            node = entry._replace(is_before_edit="/" in entry.node_id and place < self._edited_last)
            attempts = max(attempts, node.item_attempts)
            edits = self._edits.get(node.node_id, [])
            stretch = bisect_right(edits, place)  # between which edits of the node
            is_since = place > again.since
            holds = stretch == len(edits) and (is_since or (place > again.anew_since and is_output(node)))
            if (last := asked.pop(node.node_id, None)) is not None and holds:
                nodes[node.node_id] = _joined(node, last)
            if node.node_id not in nodes and holds:
                nodes[node.node_id] = node
            elif is_since and (node.node_id, stretch) not in counted:
                node_attempts[node.node_id] += node.node_attempts
            nodes.setdefault(node.node_id, None)  # the last word about a node counts, or nothing does
            if is_waiting(newest := nodes[node.node_id]):
                asked[node.node_id] = newest
            counted.add((node.node_id, stretch))
        if not nodes and not again.generation:
            return None
        return RestoredItem(attempts, again.generation, tuple(filter(None, reversed(nodes.values()))), node_attempts)

    def rows(self) -> Iterator[tuple[list[int], pa.RecordBatch]]:
        """The rows of all items that are done, with their ordinals in ascending order; a frame at a time."""
        row_of, count = self._row_of, len(self._row_of)

        def wanted(ordinals: list[int], place: int) -> list[bool]:
            if max(ordinals, default=-1) >= count:
                return [ordinal < count and row_of[ordinal] == place for ordinal in ordinals]
            return [found == place for found in map(row_of.__getitem__, ordinals)]

        return self._rows(wanted)

    def waiting_rows(self) -> Iterator[tuple[list[int], pa.RecordBatch]]:
        """The rows of the items in `waiting`, in the same way."""
        return self._rows(lambda ordinals, place: [self.waiting.get(ordinal) == place for ordinal in ordinals])

    def _rows(self, wanted: Callable[[list[int], int], list[bool]]) -> Iterator[tuple[list[int], pa.RecordBatch]]:
        for place, frame in self._frames([]):
            if frame.kind != ROWS:
                continue
            batch = pa.ipc.open_stream(pa.py_buffer(frame.body)).read_next_batch()
            ordinals, last = batch.column(batch.num_columns - 1).to_pylist(), batch.num_columns - 1
            are_wanted, found = wanted(ordinals, place), batch.remove_column(last)
            if are_wanted and all(are_wanted):
                yield ordinals, found
            elif any(are_wanted):
                yield list(compress(ordinals, are_wanted)), found.filter(pa.array(are_wanted, pa.bool_()))

    def _take_rows(self, place: int, frame: Frame) -> None:
        batch = _columns(frame, {"status"})
        done, row_of = self.done, self._row_of
        for ordinal, status in zip(_ordinals(batch), batch.column("status").indices.to_pylist(), strict=True):
            if status < len(DONE_STATUSES):
                if ordinal >= len(done):
                    self._know(ordinal)
                done[ordinal] = 1 + status
                row_of[ordinal] = place
                if self.waiting:
                    self.waiting.pop(ordinal, None)
            elif status == _WAITING:
                self.waiting[ordinal] = place

    def _run_again(self, place: int, ordinals: Sequence[int], *, from_start: bool) -> None:
        for ordinal in ordinals:
            if ordinal >= len(self.done):
                self._know(ordinal)  # its row has been lost since
            before = self._again[ordinal]
            anew_since = place if from_start else before.anew_since
            rows = (*before.rows, self._row_of[ordinal])
            self._again[ordinal] = _Again(before.generation + 1, rows, place, anew_since)
            self.done[ordinal] = 0
            self._row_of[ordinal] = -1

    def _know(self, ordinal: int) -> None:
        more = max(ordinal + 1, 2 * len(self.done)) - len(self.done)
        self.done.extend(bytes(more))
        self._row_of.extend([-1] * more)

    def _take_attempts(self, place: int, frame: Frame) -> None:
        """Take the attempts from rows of items that run again. They only grow, but a row lacks nodes that its run did not reach."""
        ordinals = _ordinals(_columns(frame, set()))
        wanted = [row for row, ordinal in enumerate(ordinals) if place in self._again[ordinal].rows and not self.done[ordinal]]
        if not wanted:
            return
        batch = _columns(frame, {"attempts", "node_executions"})
        items, nodes = batch.column("attempts").to_pylist(), batch.column("node_executions")
        starts = nodes.offsets.to_pylist()
        each = list(zip(*(nodes.values.field(name).to_pylist() for name in ("node_id", "attempts")), strict=True))
        for row in wanted:
            known = self._earlier[ordinals[row]]
            of_nodes = {**dict(known.nodes), **dict(each[starts[row] : starts[row + 1]])}
            self._earlier[ordinals[row]] = _Earlier(items[row], tuple(of_nodes.items()))

    def _frames(self, dropped: list[str]) -> Iterator[tuple[int, Frame]]:
        for epoch, path in epochs(self._folder).items():
            for frame in _read(path, dropped):
                yield place_of(epoch, frame.start), frame


def rows_frame(batch: pa.RecordBatch, ordinals: Sequence[int]) -> pa.Buffer:
    """The body of a frame of rows: an Arrow stream of one batch."""
    rows = batch.append_column(_ORDINAL, pa.array(ordinals, pa.int64()))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=_LZ4) as stream:
        stream.write_batch(rows)
    return sink.getvalue()


def _joined(node: KeptNode, last: KeptNode) -> KeptNode:
    """What holds of a node that waits for a person, given what was written down of it just before.

    A process that is told a decision before the item comes to the node asks all the same: it writes down that it waits after
    the decision, unless that is made elsewhere. And it waits since it was asked first, however often it was asked the same since.
    """
    if is_waiting(node) and node.output == last.output:
        return last._replace(record=node.record)
    is_told = node.record is None and node.checkpoint is not None and node.epoch == last.epoch and last.checkpoint is None
    return node if is_told else last


def _columns(frame: Frame, names: set[str]) -> pa.RecordBatch:
    """Some columns of a frame of rows, and the ordinals as the last one; the others are not decoded."""
    with pa.ipc.open_stream(pa.py_buffer(frame.body)) as stream:
        known = stream.schema.names
    wanted = [position for position, name in enumerate(known[:-1]) if name in names]
    options = pa.ipc.IpcReadOptions(included_fields=[*wanted, len(known) - 1])
    return pa.ipc.open_stream(pa.py_buffer(frame.body), options=options).read_next_batch()


def _ordinals(batch: pa.RecordBatch) -> list[int]:
    ordinals: list[int] = batch.column(batch.num_columns - 1).to_pylist()
    return ordinals


def _read(path: Path, dropped: list[str]) -> Generator[Frame, None, None]:
    content = mapped(path)
    end = yield from frames(memoryview(content))
    if end < len(content):
        dropped.append(f"{path.name}: the last {len(content) - end:,} bytes were cut off or damaged; what was in them is run again")
