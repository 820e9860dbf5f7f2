"""How many calls a service can take at once, found out by trying."""

from __future__ import annotations

import math

_FIRST_LIMIT = 8.0
_DECREASE = 0.8  # a service that takes 20 is then called 16 to 21 at a time


class AdaptiveLimit:
    """A limit of calls at a time that grows while a service answers well, and shrinks when it does not.

    It doubles from round to round until the service objects for the first time. From then on it grows by one a round, and
    shrinks by a fifth (additive increase, multiplicative decrease). What calls say that were sent before it last shrank
    is not counted: so many objections of the same moment count once.

    Times are seconds of a clock that never goes back.

    Args:
        most: never above this; null: no bound.

    Example:
        >>> limit = AdaptiveLimit(most=None)
        >>> limit.objected(sent_at=1.0, now=1.1); limit.objected(sent_at=1.0, now=1.1); limit.now
        6
    """

    def __init__(self, most: int | None) -> None:
        self._limit = _FIRST_LIMIT
        self._is_starting = True
        self._shrunk_at = -math.inf
        self.most = most

    @property
    def most(self) -> int | None:
        """Never above this; null: no bound. May be changed."""
        return self._most

    @most.setter
    def most(self, most: int | None) -> None:
        self._most = most
        self._limit = min(self._limit, math.inf if most is None else most)

    @property
    def now(self) -> int:
        """The most calls at this moment; at least 1."""
        return int(self._limit)

    def succeeded(self, in_flight: int) -> None:
        """A call has ended well.

        Args:
            in_flight: calls under way, this one included. The limit does not grow while it is not used.
        """
        if in_flight < self.now:
            return
        grown = self._limit + (1.0 if self._is_starting else 1.0 / self._limit)
        self._limit = min(grown, math.inf if self._most is None else self._most)

    def objected(self, sent_at: float, now: float) -> None:
        """The service has asked for fewer calls, or did not answer in time.

        Args:
            sent_at: when that call was sent.
            now: the time.
        """
        self._is_starting = False
        if sent_at > self._shrunk_at:
            self._limit = max(self._limit * _DECREASE, 1.0)
            self._shrunk_at = now
