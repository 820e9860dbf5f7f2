"""A virtual clock: an event loop on which an hour of waiting takes no time.

Time stands still while anything can run, and jumps to the next timer when nothing can. For code that waits through anyio
or asyncio. Work in threads is not waited for by a timer that is due earlier, unless `is_busy` tells of it.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

T = TypeVar("T")
_LOOK_SECONDS = 0.001  # how often a thread at work is looked at, should it end without a word


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting for a timer, moves the clock to it."""

    now_seconds = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.is_busy: Callable[[], bool] = lambda: False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select(None)  # no timer: only another thread or a socket can go on
        events = super().select(0)
        while not events and timeout > 0:
            if not self.is_busy():
                self.now_seconds += timeout
                break
            events = super().select(_LOOK_SECONDS)
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with a virtual clock; it starts at 0 seconds."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jumping.now_seconds

    def wait_for(self, is_busy: Callable[[], bool]) -> None:
        """Let time stand still while `is_busy` says that a thread is at work."""
        self._jumping.is_busy = is_busy


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
