"""Reading a journal back: which items are done, and where the others were."""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from batchrun.core.errors import ErrorRecord, ExecutionError
from batchrun.core.items import DONE_STATUSES, ITEM_STATUSES, KeptNode, RestoredItem, Usage
from batchrun.results.journal import HEADER, NODES, ROWS, SPENT, Frame, epochs, frames

ORDINAL = "ordinal"
"""The last column of the rows in a journal: where the item stands in the run."""

_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")
_BYTES = (5, 6)  # fields of a node record that are JSON text


class Recovered:
    """What the journal of an execution says. Frames are read again when they are needed: memory holds a few bytes per item.

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
        self._nodes: dict[int, dict[str, KeptNode]] = {}
        self.done = bytearray()
        self.spent: Mapping[str, Any] = {}
        self.dropped: list[str] = []
        for number, frame in self._frames(self.dropped):
            if frame.kind == ROWS:
                self._take_rows(number, frame)
            elif frame.kind == NODES:
                for node in map(_kept_node, orjson.loads(frame.body)):
                    self._nodes.setdefault(node.ordinal, {})[node.node_id] = node
            elif frame.kind == SPENT:
                self.spent = orjson.loads(frame.body)
            elif frame.kind != HEADER:
                raise ExecutionError(f"the journal in {folder} was written by a newer version of batchrun; resume with that version")

    def count(self, status: str) -> int:
        """How many items are done with this status."""
        return self.done.count(1 + ITEM_STATUSES.index(status))

    def item(self, ordinal: int) -> RestoredItem | None:
        """Where an item goes on that was begun and is not done."""
        nodes = self._nodes.get(ordinal)
        if nodes is None:
            return None
        return RestoredItem(max(node.item_attempts for node in nodes.values()), 0, tuple(nodes.values()), {})

    def rows(self) -> Iterator[tuple[list[int], pa.RecordBatch]]:
        """The rows of all items that are done, with their ordinals in ascending order; a frame at a time."""
        frame_of = self._frame_of
        for number, frame in self._frames([]):
            if frame.kind == ROWS:
                batch = pa.ipc.open_stream(pa.py_buffer(frame.body)).read_next_batch()
                ordinals = batch.column(ORDINAL).to_pylist()
                rows = [row for row, ordinal in enumerate(ordinals) if ordinal < len(frame_of) and frame_of[ordinal] == number]
                if rows:
                    found = batch.drop_columns([ORDINAL])
                    yield [ordinals[row] for row in rows], found if len(rows) == len(ordinals) else found.take(pa.array(rows, pa.int64()))

    def _take_rows(self, number: int, frame: Frame) -> None:
        with pa.ipc.open_stream(pa.py_buffer(frame.body)) as stream:
            names = stream.schema.names
        options = pa.ipc.IpcReadOptions(included_fields=[names.index("status"), names.index(ORDINAL)])
        batch = pa.ipc.open_stream(pa.py_buffer(frame.body), options=options).read_next_batch()
        done, frame_of, nodes = self.done, self._frame_of, self._nodes
        for ordinal, status in zip(batch.column(ORDINAL).to_pylist(), batch.column("status").indices.to_pylist(), strict=True):
            if status >= len(DONE_STATUSES):
                continue
            if ordinal >= len(done):
                more = max(ordinal + 1, 2 * len(done)) - len(done)
                done.extend(bytes(more))
                frame_of.extend([-1] * more)
            done[ordinal] = 1 + status
            frame_of[ordinal] = number
            if nodes:
                nodes.pop(ordinal, None)

    def _frames(self, dropped: list[str]) -> Iterator[tuple[int, Frame]]:
        number = 0
        for path in epochs(self._folder):
            for frame in _read(path, dropped):
                yield number, frame
                number += 1


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
