"""Files of this machine as bodies of requests, read while they are sent."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio.to_thread

from batchrun.core.errors import FileUnreadable
from batchrun.net.client import Upload

_PIECE_BYTES = 2**20


class FileUpload(Upload):
    """The content of a file. Each time it is sent, it must be what it was when this was made.

    Args:
        path: of the file.

    Raises:
        OSError: it cannot be looked at.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found = _identity(path.stat())
        self.size_bytes = self._found[0]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, self.size_bytes, _PIECE_BYTES):
            yield await anyio.to_thread.run_sync(self._read, start)

    def _read(self, start: int) -> bytes:
        # Opened anew each time: whoever sends it may stop at any piece, and nothing stays open then.
        with self._path.open("rb") as file:
            is_same = _identity(os.fstat(file.fileno())) == self._found
            file.seek(start)
            piece = file.read(_PIECE_BYTES)
        if not is_same or len(piece) != min(_PIECE_BYTES, self.size_bytes - start):
            raise FileUnreadable(f"{self._path} was changed while it was sent", retryable=True)
        return piece


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ino
