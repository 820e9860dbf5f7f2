"""How many calls a service gets in a minute."""

from __future__ import annotations

import math
from collections import deque
from itertools import islice

_MINUTE_SECONDS = 60.0
_DELIVERY_SECONDS = 2.0  # what was sent has reached the service by then, answered or not


class RequestRate:
    """Decides when the next call may be sent, so that the service never counts more than `per_minute` in any 60 seconds.

    Calls are spread evenly, and what was not used for a while is not made up for at once: at most the calls of one second
    go together. A call counts from the moment it is sent until a minute after it has surely arrived: an answer proves that,
    or two seconds do. So the limit holds by the clock of the service, however long calls are on their way.

    Times are seconds of a clock that never goes back.

    Args:
        per_minute: calls a minute, above 0. Of 2.5, the service gets at most 2 in any minute; 0.5 is one call in two minutes.

    Example:
        >>> rate = RequestRate(60)
        >>> rate.sent(1, now=0.0)
        >>> rate.wait_seconds(now=0.25)
        0.75
    """

    def __init__(self, per_minute: float) -> None:
        self._under_way: dict[int, float] = {}
        self._arrived: deque[float] = deque()  # in order
        self._sent_at = self._next_at = 0.0  # the next one is due then if none had ever been late
        self._interval_seconds = math.inf
        self.per_minute = per_minute

    @property
    def per_minute(self) -> float:
        """Calls a minute; may be changed, what was sent before counts all the same."""
        return self._per_minute

    @per_minute.setter
    def per_minute(self, per_minute: float) -> None:
        self._per_minute = per_minute
        before, self._interval_seconds = self._interval_seconds, _MINUTE_SECONDS / per_minute
        self._next_at = self._sent_at + (self._next_at - self._sent_at) * self._interval_seconds / before
        self._burst_seconds = self._interval_seconds * (max(math.floor(per_minute / _MINUTE_SECONDS), 1) - 1)
        self._most = max(math.floor(per_minute), 1)
        self._window_seconds = max(_MINUTE_SECONDS, self._interval_seconds)

    def wait_seconds(self, now: float) -> float:
        """How long the next call has to wait; 0: it may be sent. A call that ends may shorten the wait."""
        self._forget(now)
        wait = max(self._next_at - self._burst_seconds - now, 0.0)
        too_many = len(self._under_way) + len(self._arrived) - self._most
        if too_many >= 0:  # so many and one more must be forgotten before
            if too_many < len(self._arrived):
                leaves_at = self._arrived[too_many]
            else:
                leaves_at = next(islice(self._under_way.values(), too_many - len(self._arrived), None)) + _DELIVERY_SECONDS
            wait = max(wait, leaves_at + self._window_seconds - now)
        return wait

    def sent(self, call: int, now: float) -> None:
        """A call is sent.

        Args:
            call: names it.
            now: the time.
        """
        self._under_way[call] = now
        self._next_at = max(self._next_at, now) + self._interval_seconds
        self._sent_at = now

    def ended(self, call: int, now: float) -> None:
        """A call has ended, well or not."""
        self._forget(now)
        if self._under_way.pop(call, None) is not None:
            self._arrived.append(now)

    def not_sent(self, call: int) -> None:
        """A call was given up before it was sent."""
        if self._under_way.pop(call, None) is not None:
            self._next_at -= self._interval_seconds

    def _forget(self, now: float) -> None:
        while self._under_way:
            call, sent_at = next(iter(self._under_way.items()))
            if sent_at + _DELIVERY_SECONDS > now:
                break
            del self._under_way[call]
            self._arrived.append(max(sent_at + _DELIVERY_SECONDS, self._arrived[-1] if self._arrived else -math.inf))
        while self._arrived and self._arrived[0] + self._window_seconds <= now:
            self._arrived.popleft()
