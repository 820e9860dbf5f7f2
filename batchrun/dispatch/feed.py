"""Reading ahead: windows of items, loaded in a thread of their own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from batchrun.core.items import Item

_WINDOWS_AHEAD = 2


class Feed:
    """Hands out windows of items in order, and reads at most two windows ahead. One task at a time may ask for the next."""

    def __init__(self, windows: Iterator[list[Item]]) -> None:
        self._windows = windows
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batchrun-reader")
        self._ahead: deque[Future[list[Item] | None]] = deque()
        self.loaded = 0
        """Items handed out so far."""

    async def next(self) -> list[Item] | None:
        """The next window that is not empty; None after the last one.

        Raises:
            ExecutionError: the dataset cannot be read any further.
        """
        window: list[Item] | None = []
        while window is not None and not window:
            while len(self._ahead) < _WINDOWS_AHEAD:
                self._ahead.append(self._thread.submit(next, self._windows, None))
            coming = self._ahead.popleft()
            # What is there already is not waited for: all workers that need an item would wait with this one.
            window = coming.result() if coming.done() else await asyncio.wrap_future(coming)
        self.loaded += len(window or ())
        return window

    def close(self) -> None:
        """Read no further."""
        self._thread.shutdown(wait=False, cancel_futures=True)
