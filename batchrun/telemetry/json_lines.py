"""events.jsonl: one JSON object per event."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from batchrun.core.events import Event, plain
from batchrun.workflows.encoding import encode

EVENTS_FILE = "events.jsonl"
_PIECE_BYTES = 65_536


class JsonLines:
    """Appends events to a file, each as a JSON object on a line of its own; times are ISO 8601, UTC.

    What was half written when an earlier process was killed is cut off first.

    Args:
        path: the file; made readable for its owner only.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.ftruncate(self._file, _end_of_lines(self._file))

    def take(self, events: Sequence[Event]) -> None:
        """Write events; they are in the file when this returns."""
        text = memoryview(b"".join([encode(plain(event)) + b"\n" for event in events]))
        before = os.fstat(self._file).st_size
        try:
            while text:
                text = text[os.write(self._file, text) :]
        except OSError:
            os.ftruncate(self._file, before)  # a full disk: what comes later must not follow half a line
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def _end_of_lines(file: int) -> int:
    """The size of a file without an unfinished last line."""
    end = os.fstat(file).st_size
    while end > 0:
        start = max(end - _PIECE_BYTES, 0)
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
