"""Callers that do without their slot while a service is out of order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from batchrun.core.protocols import Slot


class ParkedCallers:
    """Callers of one service that are not needed while it is out of order; they come back in the order they went.

    Args:
        on_gone: called when one of them was given up: it may have been the one that was to come.
    """

    def __init__(self, on_gone: Callable[[], None]) -> None:
        self._on_gone = on_gone
        self._wanted: deque[asyncio.Future[None]] = deque()

    def __bool__(self) -> bool:
        """Whether there may be any."""
        return bool(self._wanted)

    def __len__(self) -> int:
        return sum(not wanted.done() for wanted in self._wanted)

    async def stay(self, slot: Slot) -> None:
        """Do without the slot until called. Returns when there is one again."""
        wanted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wanted.append(wanted)
        try:
            async with slot.parked():
                await wanted
        except asyncio.CancelledError:
            wanted.cancel()
            self._on_gone()
            raise

    def call_one(self) -> None:
        """Have the first one come back, if there is any."""
        while self._wanted:
            wanted = self._wanted.popleft()
            if not wanted.done():
                wanted.set_result(None)
                return

    def call_all(self) -> None:
        """Have all of them come back."""
        while self._wanted:
            self.call_one()
