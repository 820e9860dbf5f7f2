"""What a worker process and its parent tell each other. Each message is a frame: its length, then one of these tuples."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any, NamedTuple, TypeAlias

from batchrun.core.events import Event, SentBack
from batchrun.core.executions import Stop
from batchrun.core.items import KeptNode, RestoredItem, Usage
from batchrun.core.job import LoadedJob
from batchrun.datasets.handing import ItemShape
from batchrun.engine.batches import BatchSizes
from batchrun.engine.open_items import Activity
from batchrun.nodes.crossing import LENGTH, packed, read_frame, unpacked
from batchrun.results import ResultLayout
from batchrun.results.handed import HandedRows

# From the parent to a worker


class Start(NamedTuple):
    """What a worker is told first.

    Attributes:
        loaded: the job; `run` is that of one worker.
        columns: of the dataset.
        secrets: of the job, by name.
        shape: how rows become items.
        layout: of the result.
        execution_id: names the execution.
        folder: its folder.
        stale: see `EngineSettings`.
        is_resumed: whether items may have begun before.
        tells_events: whether somebody wants to know of each item and node.
        tells_sent_back: whether somebody wants to know of calls that are made again.
        is_durable: whether there is a journal.
    """

    loaded: LoadedJob
    columns: tuple[str, ...]
    secrets: Mapping[str, str]
    shape: ItemShape
    layout: ResultLayout
    execution_id: str
    folder: str
    stale: frozenset[str]
    is_resumed: bool
    tells_events: bool
    tells_sent_back: bool
    is_durable: bool


class Slice(NamedTuple):
    """Items to run: their rows, and where those go on that have begun before, by ordinal."""

    rows: bytes
    restored: Mapping[int, RestoredItem]


class Over(NamedTuple):
    """There are no more items."""


class Halt(NamedTuple):
    """Start no more items; those at work have the grace period."""

    cause: Stop


class Resize(NamedTuple):
    """Work on so many items at once from now on."""

    parallelism: int


class Written(NamedTuple):
    """A checkpoint is on the disk, or cannot be written: why."""

    number: int
    error: str | None


# From a worker to its parent


class Ready(NamedTuple):
    """The nodes are set up."""


class Broken(NamedTuple):
    """Nothing can be run here: why."""

    message: str


class Wanted(NamedTuple):
    """A slice was taken up; there is room for another one."""


class Rows(NamedTuple):
    """Items that have ended.

    Attributes:
        rows: of the result.
        events: what happened to them, if somebody wants to know.
        used: tokens and cost since the last ones.
    """

    rows: HandedRows
    events: Sequence[Event]
    used: Usage


class Kept(NamedTuple):
    """What nodes of items that have not ended have come to."""

    nodes: Sequence[KeptNode]


class Checkpointed(NamedTuple):
    """A checkpoint that is to be written; `Written` says when it is."""

    number: int
    node: KeptNode


class Beat(NamedTuple):
    """The worker lives; what its items are doing."""

    activity: Activity


class Note(NamedTuple):
    """A line for people."""

    text: str


class MadeAgain(NamedTuple):
    """A call failed and will be made again."""

    event: SentBack


class Stopped(NamedTuple):
    """A call said that no other item can fare better, or calls hang: the execution is to stop."""

    cause: Stop


class Ended(NamedTuple):
    """All items have ended that the worker was given, and all rows are handed over.

    Attributes:
        batches: how large the calls of batched nodes were.
        has_stuck_threads: whether calls still hang.
    """

    batches: Mapping[str, BatchSizes]
    has_stuck_threads: bool


Order: TypeAlias = Start | Slice | Over | Halt | Resize | Written
Report: TypeAlias = Ready | Broken | Wanted | Rows | Kept | Checkpointed | Beat | Note | MadeAgain | Stopped | Ended


def framed(message: Order | Report) -> bytes:
    """A message as it crosses.

    Raises:
        InvalidValue: a value in it cannot be sent to another process; the message names its type.
    """
    data = packed(message, "a message")
    return LENGTH.pack(len(data)) + data


def told(data: bytes) -> Any:
    """The message in a frame.

    Raises:
        InvalidValue: it cannot be made in this process.
    """
    return unpacked(data, "what a worker process was told")


class Link:
    """A worker's end of the connection; blocks. Any thread may send, one may receive.

    Args:
        connection: to the parent.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = Lock()

    def send(self, message: Report) -> None:
        """Tell the parent something. When it is gone, so is this process about to be."""
        frame = framed(message)
        with self._lock:
            self._connection.sendall(frame)

    def receive(self) -> bytes | None:
        """The next frame; null: the parent is gone."""
        return read_frame(self._connection)
