"""A virtual clock: an event loop on which an hour of waiting takes no time.

Time stands still while anything can run, and jumps to the next timer when nothing can. For code that waits through anyio
or asyncio; work in threads is not waited for by a timer that is due earlier.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting for a timer, moves the clock to it."""

    now_seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select(None)  # no timer: only another thread or a socket can go on
        events = super().select(0)
        if not events and timeout > 0:
            self.now_seconds += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with a virtual clock; it starts at 0 seconds."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jumping.now_seconds


def run_virtually(function: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run an async function to its end on a virtual clock.

    Example:
        >>> async def wait_an_hour() -> float:
        ...     await anyio.sleep(3600)
        ...     return anyio.current_time()
        >>> run_virtually(wait_an_hour)
        3600.0
    """
    return anyio.run(function, *args, backend_options={"loop_factory": VirtualLoop})
