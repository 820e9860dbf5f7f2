"""Reading a journal back: which items are done, and where the others were."""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import polars as pl
import pyarrow as pa

from batchrun.core.errors import ErrorRecord, ExecutionError
from batchrun.core.items import DONE_STATUSES, ITEM_STATUSES, KeptNode, RestoredItem, Usage
from batchrun.results.journal import AGAIN, HEADER, NODES, ROWS, SPENT, Frame, epochs, frames
from batchrun.results.reader import matching

ORDINAL = "ordinal"
"""The last column of the rows in a journal: where the item stands in the run."""

_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")
_BYTES = (5, 6)  # fields of a node record that are JSON text


class _Again(NamedTuple):
    """An item that retries have chosen.

    Attributes:
        generation: how often.
        row_frame: the frame with its row before the last one.
        since: the frame that says so.
        anew_since: the frame since which it runs without what was kept of its nodes; -1: never.
    """

    generation: int
    row_frame: int
    since: int
    anew_since: int


class Recovered:
    """What the journal of an execution says. Frames are read again when they are needed: memory holds a few bytes per item.

    Call `read_open_items` before asking for an `item`.

    Attributes:
        done: by ordinal: 0 for items that are not done, else 1 + the position of their status in `ITEM_STATUSES`.
        spent: what was spent: counters by name; empty when nothing was counted.
        dropped: what could not be read, for people.

    Raises:
        ExecutionError: a file cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._frame_of = array("q")  # by ordinal: the frame that has its row
        self._again: dict[int, _Again] = {}
        self._nodes: dict[int, dict[str, KeptNode]] = {}
        self._earlier: dict[int, tuple[int, dict[str, int]]] = {}  # attempts of an item and of its nodes before the last retry
        self._frame_count = 0
        self.done = bytearray()
        self.spent: Mapping[str, Any] = {}
        self.dropped: list[str] = []
        for number, frame in self._frames(self.dropped):
            self._frame_count = number + 1
            if frame.kind == ROWS:
                self._take_rows(number, frame)
            elif frame.kind == AGAIN:
                self._run_again(number, **orjson.loads(frame.body))
            elif frame.kind == SPENT:
                self.spent = orjson.loads(frame.body)
            elif frame.kind not in (HEADER, NODES):
                raise ExecutionError(f"the journal in {folder} was written by a newer version of batchrun; resume with that version")

    def count(self, status: str) -> int:
        """How many items are done with this status."""
        return self.done.count(1 + ITEM_STATUSES.index(status))

    def failed(self, where: str | None, schema: pa.Schema) -> list[int]:
        """The ordinals of failed items, ascending.

        Args:
            where: a SQL WHERE expression over the columns of the result; null: all failed items.
            schema: these columns.

        Raises:
            JobError: the expression is not one on these columns.
        """
        is_failed = 1 + ITEM_STATUSES.index("failed")
        if where is None:
            return [ordinal for ordinal, status in enumerate(self.done) if status == is_failed]
        matching(pl.LazyFrame(schema.empty_table()), where)
        frames = {self._frame_of[ordinal] for ordinal, status in enumerate(self.done) if status == is_failed}
        found: list[int] = []
        for ordinals, batch in self._rows(frames):
            rows = pl.LazyFrame(batch).with_columns(pl.Series(ORDINAL, ordinals)).filter(pl.col("status") == "failed")
            found += matching(rows, where).select(ORDINAL).collect()[ORDINAL]
        return sorted(found)

    def run_again(self, ordinals: Sequence[int], *, from_start: bool) -> bytes:
        """Take these failed items for not done. Returns the body of the frame that says so.

        Args:
            ordinals: ascending.
            from_start: whether all their nodes run again, or only those that did not complete.
        """
        self._run_again(self._frame_count, list(ordinals), from_start=from_start)
        return orjson.dumps({"ordinals": ordinals, "from_start": from_start})

    def read_open_items(self) -> None:
        """Read where the items were that are not done."""
        row_frames: dict[int, list[int]] = {}
        for ordinal, again in self._again.items():
            if not self.done[ordinal]:
                row_frames.setdefault(again.row_frame, []).append(ordinal)
        for number, frame in self._frames([]):
            if frame.kind == NODES:
                self._take_nodes(number, orjson.loads(frame.body))
            elif number in row_frames:
                self._take_attempts(frame, row_frames[number])

    def item(self, ordinal: int) -> RestoredItem | None:
        """Where an item goes on that was begun and is not done."""
        nodes, again = self._nodes.get(ordinal, {}), self._again.get(ordinal)
        if not nodes and again is None:
            return None
        attempts, earlier = self._earlier.get(ordinal, (0, {}))
        attempts = max([attempts + 1, *(node.item_attempts for node in nodes.values())])
        return RestoredItem(attempts, again.generation if again else 0, tuple(nodes.values()), earlier)

    def rows(self) -> Iterator[tuple[list[int], pa.RecordBatch]]:
        """The rows of all items that are done, with their ordinals in ascending order; a frame at a time."""
        return self._rows(None)

    def _rows(self, wanted: set[int] | None) -> Iterator[tuple[list[int], pa.RecordBatch]]:
        frame_of = self._frame_of
        for number, frame in self._frames([]):
            if frame.kind == ROWS and (wanted is None or number in wanted):
                batch = pa.ipc.open_stream(pa.py_buffer(frame.body)).read_next_batch()
                ordinals = batch.column(ORDINAL).to_pylist()
                rows = [row for row, ordinal in enumerate(ordinals) if ordinal < len(frame_of) and frame_of[ordinal] == number]
                if rows:
                    found = batch.drop_columns([ORDINAL])
                    yield [ordinals[row] for row in rows], found if len(rows) == len(ordinals) else found.take(pa.array(rows, pa.int64()))

    def _take_rows(self, number: int, frame: Frame) -> None:
        batch = _columns(frame, ["status", ORDINAL])
        done, frame_of = self.done, self._frame_of
        for ordinal, status in zip(batch.column(ORDINAL).to_pylist(), batch.column("status").indices.to_pylist(), strict=True):
            if status >= len(DONE_STATUSES):
                continue
            if ordinal >= len(done):
                more = max(ordinal + 1, 2 * len(done)) - len(done)
                done.extend(bytes(more))
                frame_of.extend([-1] * more)
            done[ordinal] = 1 + status
            frame_of[ordinal] = number

    def _run_again(self, number: int, ordinals: Sequence[int], *, from_start: bool) -> None:
        for ordinal in ordinals:
            before = self._again.get(ordinal, _Again(0, -1, -1, -1))
            anew_since = number if from_start else before.anew_since
            self._again[ordinal] = _Again(before.generation + 1, self._frame_of[ordinal], number, anew_since)
            self.done[ordinal] = 0
            self._frame_of[ordinal] = -1

    def _take_nodes(self, number: int, nodes: list[list[Any]]) -> None:
        done, count = self.done, len(self.done)
        for values in nodes:
            ordinal = values[0]
            if ordinal < count and done[ordinal]:
                continue
            node = _kept_node(values)
            again = self._again.get(ordinal)
            if again is None or number > again.since or (number > again.anew_since and _is_output(node)):
                self._nodes.setdefault(ordinal, {})[node.node_id] = node

    def _take_attempts(self, frame: Frame, wanted: Sequence[int]) -> None:
        batch = _columns(frame, ["attempts", "node_executions", ORDINAL])
        rows = dict(zip(batch.column(ORDINAL).to_pylist(), range(batch.num_rows), strict=True))
        for ordinal in wanted:
            row = rows[ordinal]
            nodes = batch.column("node_executions")[row].as_py()
            self._earlier[ordinal] = (batch.column("attempts")[row].as_py(), {node["node_id"]: node["attempts"] for node in nodes})

    def _frames(self, dropped: list[str]) -> Iterator[tuple[int, Frame]]:
        number = 0
        for path in epochs(self._folder):
            for frame in _read(path, dropped):
                yield number, frame
                number += 1


def _columns(frame: Frame, names: Sequence[str]) -> pa.RecordBatch:
    """Some columns of a frame of rows; the others are not decoded."""
    with pa.ipc.open_stream(pa.py_buffer(frame.body)) as stream:
        known = stream.schema.names
    options = pa.ipc.IpcReadOptions(included_fields=[known.index(name) for name in names])
    return pa.ipc.open_stream(pa.py_buffer(frame.body), options=options).read_next_batch()


def _is_output(node: KeptNode) -> bool:
    """Whether a retry goes on from it: neither from failures, though the item went on, nor from calls that never ended."""
    return node.record is not None and node.record[1] in ("completed", "skipped")


def rows_frame(batch: pa.RecordBatch, ordinals: Sequence[int]) -> pa.Buffer:
    """The body of a frame of rows: an Arrow stream of one batch."""
    rows = batch.append_column(pa.field(ORDINAL, pa.int64()), pa.array(ordinals, pa.int64()))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=_LZ4) as stream:
        stream.write_batch(rows)
    return sink.getvalue()


def nodes_frame(nodes: Sequence[KeptNode]) -> bytes:
    """The body of a frame of nodes: a JSON list."""
    return orjson.dumps(nodes, _plain)


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else list(value)


def _kept_node(values: list[Any]) -> KeptNode:
    ordinal, item_index, item_attempts, node_id, node_attempts, record, output, checkpoint = values
    if record is not None:
        fields = [_encoded(value) if position in _BYTES else value for position, value in enumerate(record)]
        fields[7] = ErrorRecord(*fields[7]) if fields[7] is not None else None
        fields[9] = Usage(*fields[9]) if fields[9] is not None else None
        record = tuple(fields)
    return KeptNode(ordinal, item_index, item_attempts, node_id, node_attempts, record, _encoded(output), _encoded(checkpoint))


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _read(path: Path, dropped: list[str]) -> Generator[Frame, None, None]:
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) if size else memoryview(b"")
    except OSError as error:
        raise ExecutionError(f"cannot read the journal file {path}: {error.strerror}") from error
    end = yield from frames(content)
    if end < size:
        dropped.append(f"{path.name}: the last {size - end:,} bytes were cut off or damaged; what was in them is run again")
