"""Which items a worker process is at: written to memory that it shares with its parent, and read when it has died."""

from __future__ import annotations

import mmap
import os
import struct

_SLOTS = 4096  # more than threads and slots that anybody starts
_NONE = struct.pack("=q", -1)


class Marks:
    """Slots that take one ordinal each, in a file without a name that outlives the process.

    Args:
        descriptor: of the file; it is mapped into memory and closed.

    Example:
        >>> import tempfile
        >>> marks = Marks.made(os.dup(tempfile.TemporaryFile().fileno()))
        >>> marks.take()[0] = 17
        >>> marks.ordinals
        {17}
    """

    def __init__(self, descriptor: int) -> None:
        self._slots = memoryview(mmap.mmap(descriptor, _SLOTS * len(_NONE))).cast("q")
        os.close(descriptor)
        self._taken = 0

    @classmethod
    def made(cls, descriptor: int) -> Marks:
        """The same with an empty file, in which nothing is marked yet."""
        os.pwrite(descriptor, _NONE * _SLOTS, 0)  # all of it: a page that no disk has room for would crash the process
        return cls(descriptor)

    def take(self) -> memoryview:
        """A slot that takes one number. From the last one on, they are shared."""
        place = min(self._taken, _SLOTS - 1)
        self._taken += 1
        return self._slots[place : place + 1]

    @property
    def ordinals(self) -> set[int]:
        """What is marked."""
        return {ordinal for ordinal in self._slots.tolist() if ordinal >= 0}
