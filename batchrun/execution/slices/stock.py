"""The items that are still to be given to a worker: read from the dataset, or taken back from one that died."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import polars as pl

_FRAMES_AHEAD = 2


class Stock:
    """Hands out rows in order, and reads at most two frames of them ahead.

    Args:
        frames: the rows of all items that are wanted.
        count: how many these are.

    Attributes:
        left: items that were not handed out yet.
    """

    def __init__(self, frames: Iterator[pl.DataFrame], count: int) -> None:
        self.left = count
        self._frames = frames
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batchrun-reader")
        self._ahead: deque[Future[pl.DataFrame | None]] = deque()
        self._open: deque[pl.DataFrame] = deque()  # read, or taken back, and not handed out
        self._is_exhausted = False
        self._reading = asyncio.Lock()

    def begin(self) -> None:
        """Read ahead from here on."""
        while len(self._ahead) < _FRAMES_AHEAD:
            self._ahead.append(self._thread.submit(next, self._frames, None))

    async def take(self, count: int) -> pl.DataFrame | None:
        """The next rows, at most so many; null: there are none.

        Raises:
            ExecutionError: the dataset cannot be read any further.
        """
        async with self._reading:
            while not self._open and not self._is_exhausted:
                await self._read()
        if not self._open:
            return None
        frame = self._open.popleft()
        if frame.height > count:
            self._open.appendleft(frame.slice(count))
        taken = frame.slice(0, count)
        self.left -= taken.height
        return taken

    def give_back(self, frame: pl.DataFrame) -> None:
        """Take rows back; they are the next that are handed out."""
        if frame.height:
            self.left += frame.height
            self._open.appendleft(frame)

    def close(self) -> None:
        """Read no further."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _read(self) -> None:
        self.begin()
        frame = await asyncio.wrap_future(self._ahead.popleft())
        self._is_exhausted = frame is None
        if frame is not None and frame.height:
            self._open.append(frame)
