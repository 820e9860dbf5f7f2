"""The workers of a dispatcher, and whether any of them has something to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Crew:
    """Counts workers, and notices when every one of them has an item that waits, so that nothing goes on by itself.

    Args:
        on_idle: called then.

    Attributes:
        workers: that there are.
    """

    def __init__(self, on_idle: Callable[[], None]) -> None:
        self.workers = 0
        self._waiting = 0
        self._on_idle = on_idle
        self._is_looking = False

    def join(self) -> None:
        """There is one more."""
        self.workers += 1

    def leave(self) -> None:
        """There is one less; it has no item."""
        self.workers -= 1
        self.look()

    def wait(self) -> None:
        """The item of a worker waits; `look` is called once others had their chance to begin."""
        self._waiting += 1

    def go_on(self) -> None:
        """It waits no longer."""
        self._waiting -= 1

    def look(self) -> None:
        """Look whether all wait, after those have gone on whose wait is just over."""
        if self._waiting == self.workers and not self._is_looking:
            self._is_looking = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._is_looking = False
        if self._waiting == self.workers:
            self._on_idle()
