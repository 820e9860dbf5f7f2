"""Record batches that wait on the disk instead of in memory."""

from __future__ import annotations

import mmap
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

import pyarrow as pa


class Spilled(NamedTuple):
    """Where a batch is in the spill file."""

    file: IO[bytes]
    offset: int
    length: int

    def load(self) -> pa.RecordBatch:
        """The batch, mapped into memory: the system reads pages when they are used and drops them when memory is short."""
        mapped = mmap.mmap(self.file.fileno(), self.length, offset=self.offset, access=mmap.ACCESS_READ)
        with pa.ipc.open_stream(pa.py_buffer(mapped)) as stream:
            return stream.read_next_batch()


class SpillFile:
    """A temporary file of Arrow batches. It has no name, so that even a killed process leaves nothing behind.

    Args:
        folder: a folder on the disk to use.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._end = 0

    def write(self, batch: pa.RecordBatch) -> Spilled:
        """Append a batch.

        Raises:
            OSError: the file cannot be written.
        """
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - lives as long as this object
        offset = -(-self._end // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        self._file.seek(offset)
        with pa.ipc.new_stream(self._file, batch.schema) as stream:
            stream.write_batch(batch)
        self._file.flush()
        self._end = self._file.tell()
        return Spilled(self._file, offset, self._end - offset)

    def close(self) -> None:
        """Give the disk space back."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
