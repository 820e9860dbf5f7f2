"""Where Parquet files are cut into pieces small enough to hold, and large enough to be read at the speed of the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import pyarrow.parquet as pq

_PIECE_BYTES = 32 * 2**20
_JOINED_BYTES = 8 * 2**20
"""Of small row groups that are read together: more of them are not read in less time for each, and take memory twice."""
_PIECE_ROWS = 2**21
_WHOLE_GROUP_BYTES = 64 * 2**20
_BATCH_BYTES = 8 * 2**20
_VALUE_BYTES = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8}
_TEXT_BYTES = 16
"""Of a text in memory, besides its characters: those that a file has once in a dictionary are there once, too."""

Needed = Callable[[int, int], bool]


class Stretch(NamedTuple):
    """Consecutive rows of a file.

    Attributes:
        first: position of the first one in the file.
        rows: how many.
        batch_rows: rows to decode at once; null when all can be decoded at once.
    """

    first: int
    rows: int
    batch_rows: int | None


class _Group(NamedTuple):
    rows: int
    stored_bytes: int
    decoded_bytes: int


def stretches(metadata: pq.FileMetaData, columns: Sequence[str], start: int, stop: int, is_needed: Needed) -> Iterator[Stretch]:
    """The rows of a file from `start` to before `stop` as they are read: small row groups together, large ones in parts.

    A row group is decoded anew for each of its parts, so only those that are too large to hold have any. It is left out if
    `is_needed`, which is told the positions of its first row and of the one after its last, says so.
    """
    first = held = held_bytes = at = 0
    for group in _groups(metadata, columns):
        begin, end = max(start, at), min(stop, at + group.rows)
        at += group.rows
        if begin >= end:
            continue
        is_left_out = not is_needed(begin, end)
        is_whole = not is_left_out and group.decoded_bytes <= _WHOLE_GROUP_BYTES
        fits = held_bytes + group.decoded_bytes <= _JOINED_BYTES and held + end - begin <= _PIECE_ROWS
        if held and not (is_whole and fits):
            yield Stretch(first, held, None)
            held = held_bytes = 0
        if is_whole:
            first = first if held else begin
            held, held_bytes = held + end - begin, held_bytes + group.decoded_bytes
        elif not is_left_out:
            yield from _parts(group, begin, end)
    if held:
        yield Stretch(first, held, None)


def read_whole(metadata: pq.FileMetaData, columns: Sequence[str]) -> list[bool]:
    """For each row group of a file, whether polars reads it; then it is not decoded where statistics rule it out."""
    return [group.stored_bytes <= _WHOLE_GROUP_BYTES for group in _groups(metadata, columns)]


def _parts(group: _Group, begin: int, end: int) -> Iterator[Stretch]:
    if group.stored_bytes > _WHOLE_GROUP_BYTES:
        yield Stretch(begin, end - begin, max(1, group.rows * _BATCH_BYTES // group.decoded_bytes))
        return
    step = max(1, group.rows * _PIECE_BYTES // group.decoded_bytes)
    yield from (Stretch(row, min(step, end - row), None) for row in range(begin, end, step))


def _groups(metadata: pq.FileMetaData, columns: Sequence[str]) -> Iterator[_Group]:
    """The rows of each row group, and the bytes of the columns in it: without compression, and decoded, at least."""
    wanted = set(columns)
    paths = [metadata.schema.column(leaf).path.split(".") for leaf in range(metadata.num_columns)]
    leaves = [leaf for leaf, path in enumerate(paths) if _is_part(path, wanted)]
    widths = [_VALUE_BYTES.get(metadata.schema.column(leaf).physical_type, _TEXT_BYTES) for leaf in leaves]
    for at in range(metadata.num_row_groups):
        group = metadata.row_group(at)
        stored = decoded = 0
        for leaf, width in zip(leaves, widths, strict=True):
            column = group.column(leaf)
            stored += column.total_uncompressed_size
            decoded += max(column.total_uncompressed_size, column.num_values * width)
        yield _Group(group.num_rows, stored, decoded)


def _is_part(steps: list[str], wanted: set[str]) -> bool:
    """Whether the path of a leaf leads into a wanted column, whose name may have dots of its own."""
    return any(".".join(steps[:end]) in wanted for end in range(1, len(steps) + 1))
