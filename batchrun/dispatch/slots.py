"""Slots: how many items are worked on at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

import anyio

from batchrun.core.job import Run


def at_most(run: Run, parallelism: int, total: int | None) -> Run:
    """A run with so many items at once, but no more than there are: each has a worker, and a million take long to start."""
    return replace(run, parallelism=parallelism if total is None else min(parallelism, max(total, 1)))


class Slots:
    """A number of slots, lent in the order they are asked for.

    Unlike a semaphore it tells whether somebody waits, so that a worker can make room instead of taking the next item.

    Attributes:
        free: slots nobody has; below zero while more are lent than there are.
        waiters: who waits for one; those who gave up among them.
    """

    def __init__(self, count: int) -> None:
        self._count = self.free = count
        self.waiters: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Take a slot if there is one and nobody waits."""
        if self.free > 0 and not self.waiters:
            self.free -= 1
            return True
        return False

    async def acquire(self) -> None:
        """Take a slot, as soon as there is one."""
        if self.take():
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release()  # the slot was handed over in the very moment of the cancellation
            elif waiter in self.waiters:
                self.waiters.remove(waiter)
            raise

    def release(self) -> None:
        """Give a slot back; whoever waits longest gets it."""
        self.free += 1
        self._lend()

    def resize(self, count: int) -> None:
        """Change the number of slots. Those lent stay lent; of fewer, none is lent again before the surplus is back."""
        self.free += count - self._count
        self._count = count
        self._lend()

    def _lend(self) -> None:
        while self.free > 0 and self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                self.free -= 1
                waiter.set_result(None)


class WorkerSlot:
    """The slot of a worker. It goes to somebody else while the worker's item waits.

    Args:
        slots: where it is from; the worker has acquired it.
        on_parked: called when it has been given back.
        on_wanted: called when the item waits no longer, before the slot is taken again.
    """

    def __init__(self, slots: Slots, on_parked: Callable[[], None], on_wanted: Callable[[], None]) -> None:
        self._slots = slots
        self._on_parked = on_parked
        self._on_wanted = on_wanted

    def parked(self) -> AbstractAsyncContextManager[None]:
        """Give the slot back, and take one again at the end."""
        return self  # an item waits for one thing at a time, and many do: nothing is made for it

    async def __aenter__(self) -> None:
        self._slots.release()
        self._on_parked()

    async def __aexit__(self, *_error: object) -> None:
        self._on_wanted()
        if not self._slots.take():
            with anyio.CancelScope(shield=True):
                await self._slots.acquire()


class NoSlot:
    """For items of chunks: their slot is the lane they run in, and nobody holds a lane while he waits.

    Args:
        on_parked: called when an item waits.
    """

    def __init__(self, on_parked: Callable[[], None]) -> None:
        self._on_parked = on_parked

    @asynccontextmanager
    async def parked(self) -> AsyncIterator[None]:
        """There is nothing to give back."""
        self._on_parked()
        yield
