"""Telling what waits in vain that the execution stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio

from batchrun.workflows.decisions import StoppedAtRest


class Stopping(asyncio.Event):
    """Set once nothing is to be waited for any more. Must be made and used on one event loop.

    Args:
        on_set: called when it is.
    """

    def __init__(self, on_set: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._on_set = on_set
        self._at_rest = set[anyio.CancelScope]()

    def set(self) -> None:
        """Let all that rests end."""
        super().set()
        for scope in self._at_rest:
            scope.cancel("the execution stops")
        self._on_set()

    @contextmanager
    def resting(self) -> Iterator[None]:
        """What is awaited in it does no work: it ends at once when the execution stops.

        Raises:
            StoppedAtRest: it does.
        """
        with anyio.CancelScope() as scope:
            self._at_rest.add(scope)
            try:
                if self.is_set():
                    scope.cancel("the execution stops")
                yield
            finally:
                self._at_rest.discard(scope)
        if scope.cancelled_caught:
            raise StoppedAtRest
