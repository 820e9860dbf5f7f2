"""What a journal keeps of nodes whose items are not completed: a line of JSON for each, found again by where it stands."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeGuard, cast

import orjson

from batchrun.core.errors import ErrorRecord
from batchrun.core.items import KeptNode, NodeRecord, PartRecord, Told, Usage
from batchrun.results.by_ordinal import Numbers
from batchrun.results.journal import Mapped, mapped

_BYTES = (5, 6)  # fields of a node record that are JSON text
_MOST_MAPS = 8
_OFFSET_BITS = 40


def place_of(epoch: int, offset: int) -> int:
    """Where something stands in a journal: places grow from epoch to epoch and within each."""
    return (epoch << _OFFSET_BITS) + offset


def nodes_frame(nodes: Sequence[KeptNode]) -> bytes:
    """The body of a frame of nodes: a line for each."""
    return b"".join([orjson.dumps(node, _plain, orjson.OPT_APPEND_NEWLINE) for node in nodes])


class KeptNodes:
    """Finds what is kept of the nodes of an item. Holds a few bytes for each; they are read when they are asked for.

    Args:
        paths: the journal files, by epoch.
    """

    def __init__(self, paths: dict[int, Path]) -> None:
        self._paths = paths
        self._maps: dict[int, Mapped] = {}
        self._last = Numbers()  # the last entry of each item
        self._before = array("q")  # by entry: the entry of the same item before it
        self._places = array("q")  # by entry

    def add(self, place: int, body: memoryview, done: bytearray) -> None:
        """Note a frame of nodes, but for those of items that are done; frames come in the order they were written.

        Args:
            place: of the body.
            body: of the frame.
            done: by ordinal: 0 for items that are not done.
        """
        lines = bytes(body).splitlines(keepends=True)  # JSON has no line ends of its own
        last, count = self._last, len(done)
        for line, end in zip(lines, accumulate(map(len, lines)), strict=True):
            ordinal = int(line[1 : line.index(b",")])
            if ordinal >= count or not done[ordinal]:
                self._before.append(last[ordinal])
                last[ordinal] = len(self._places)
                self._places.append(place + end - len(line))

    def of(self, ordinal: int) -> Iterator[tuple[int, KeptNode]]:
        """What is kept of the nodes of an item, each with its place; the newest first.

        Raises:
            ExecutionError: the journal cannot be read.
        """
        entry = self._last[ordinal]
        while entry >= 0:
            place = self._places[entry]
            yield place, self._read(place)
            entry = self._before[entry]

    def _read(self, place: int) -> KeptNode:
        epoch, offset = place >> _OFFSET_BITS, place & ((1 << _OFFSET_BITS) - 1)
        content = self._maps.get(epoch) or self._map(epoch)
        return _kept_node(orjson.loads(content[offset : content.find(b"\n", offset)]))._replace(epoch=epoch)

    def _map(self, epoch: int) -> Mapped:
        if len(self._maps) >= _MOST_MAPS:  # each holds a file open
            self._maps.clear()
        self._maps[epoch] = content = mapped(self._paths[epoch])
        return content


def is_output(node: KeptNode) -> bool:
    """Whether a retry goes on from it: neither from failures, though the item went on, nor from calls that never ended."""
    return node.record is not None and node.record[1] in ("completed", "skipped")


def is_waiting(node: KeptNode | None) -> TypeGuard[KeptNode]:
    """Whether a node waits for a person."""
    return node is not None and node.record is not None and node.record[1] == "waiting"


def _plain(value: Any) -> Any:
    if isinstance(value, Told):
        return [*value, value.prompt, value.external_id]
    return value.decode() if isinstance(value, bytes) else list(value)


def _kept_node(values: list[Any]) -> KeptNode:
    ordinal, item_index, item_attempts, node_id, node_attempts, record, output, checkpoint, _, written, code, _ = values
    parts = tuple(PartRecord(id, node_type, _record(each)) for id, node_type, each in written)
    known = _record(record) if record is not None else None
    texts = _encoded(output), _encoded(checkpoint)
    return KeptNode(ordinal, item_index, item_attempts, node_id, node_attempts, known, *texts, parts=parts, code=code)


def _record(values: list[Any]) -> NodeRecord:
    fields = [_encoded(value) if position in _BYTES else value for position, value in enumerate(values)]
    fields[7] = ErrorRecord(*fields[7]) if fields[7] is not None else None
    usage = fields[9]
    if usage is not None:
        fields[9] = Usage(*usage) if len(usage) == len(Usage._fields) else Told.of(Usage(*usage[:3]), *usage[3:])
    return cast("NodeRecord", tuple(fields))


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
