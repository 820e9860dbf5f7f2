"""Slots: how many items are worked on at once."""

from __future__ import annotations

import asyncio
from collections import deque


class Slots:
    """A number of slots, lent in the order they are asked for.

    Unlike a semaphore it tells whether somebody waits, so that a worker can make room instead of taking the next item.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for a slot."""
        return bool(self._waiters)

    async def acquire(self) -> None:
        """Take a slot, as soon as there is one."""
        if self._free > 0 and not self._waiters:
            self._free -= 1
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release()  # the slot was handed over in the very moment of the cancellation
            else:
                self._waiters.remove(waiter)
            raise

    def release(self) -> None:
        """Give a slot back; whoever waits longest gets it."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1
