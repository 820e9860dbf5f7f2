"""What a task is cancelled by, call after call."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from types import TracebackType
from typing import Self

import anyio

_DEADLINE = "deadline exceeded"  # as anyio itself names it: calls of services tell it from other reasons to be given up


class Reach:
    """A cancel scope and a timer for calls that one task makes one after another, on one event loop.

    To enter and leave a scope, and to set a timer and cancel it, costs as much as all the rest of a call, and hardly any call
    is ever cancelled: so the scope is entered once, and again only after it was used, and the timer of a call that has ended
    stays for the next one. A context manager; whatever is entered in a call must be left in it.

    Args:
        clock: seconds, as fast as those of the event loop; null: its own.

    Attributes:
        is_used: whether the call was cancelled that is being made.

    Example:
        >>> async def worked():
        ...     with Reach() as reach:
        ...         reach.arm(seconds=0.01)
        ...         try:
        ...             await asyncio.sleep(60)
        ...         except asyncio.CancelledError as error:
        ...             return reach.has_ended(error)
        >>> asyncio.run(worked())
        True
    """

    __slots__ = ("_clock", "_ends_at", "_looks_at", "_loop", "_scope", "_timer", "is_used")

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = clock or self._loop.time
        self._ends_at = self._looks_at = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self.is_used = False

    def __enter__(self) -> Self:
        self.is_used = False
        self._scope = anyio.CancelScope()
        self._scope.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._scope.__exit__(kind, error, trace)

    def arm(self, seconds: float) -> None:
        """Cancel the call that is being made in so many seconds, and then again and again until it ends."""
        self.arm_until(self._clock() + seconds)

    def arm_until(self, ends_at: float) -> None:
        """The same at a time by the clock; infinite: never."""
        self._ends_at = ends_at
        if self._looks_at > ends_at:
            self._set(ends_at)

    @property
    def is_armed(self) -> bool:
        """Whether the call that is being made has an end."""
        return self._ends_at < math.inf

    def disarm(self) -> None:
        """The call that is being made has no end for now."""
        self._ends_at = math.inf

    def has_ended(self, error: BaseException | None = None) -> bool:
        """The call that was being made has ended. Returns whether that is because it was cancelled.

        Args:
            error: what it has raised; null: it has returned, cancelled or not.
        """
        self._ends_at = math.inf
        if not self.is_used:
            return False
        used = self._scope
        try:
            used.__exit__(None if error is None else type(error), error, None)
        finally:
            self.__enter__()
        return used.cancelled_caught

    def _set(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._looks_at = at
        self._timer = self._loop.call_later(max(at - self._clock(), 0.0), self._look, at)

    def _look(self, at: float) -> None:
        self._timer, self._looks_at = None, math.inf
        if self._ends_at <= at:
            self.is_used = True
            self._scope.cancel(_DEADLINE)
        elif self._ends_at < math.inf:  # of a later call
            self._set(self._ends_at)
