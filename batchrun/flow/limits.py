"""How many calls, and how many tokens, a service gets in a minute."""

from __future__ import annotations

import math
from collections import deque
from itertools import islice

_MINUTE_SECONDS = 60.0
_TOKENS_TOGETHER_SECONDS = 10.0  # of what is allowed may go at once
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


class TokenRate:
    """Decides when the next call may be sent, so that calls use no more than `per_minute` tokens in any 60 seconds.

    What a call uses is known when it has been answered. Until then it counts with what it may use, and afterwards with what it
    has used: calls that use less than they might make room at once. It counts from the moment it is sent until a minute after
    it has surely arrived, like the calls of `RequestRate`. At most the tokens of ten seconds go together. A call that needs more
    than are allowed in a minute goes when nothing else counts.

    Times are seconds of a clock that never goes back.

    Args:
        per_minute: tokens a minute, above 0.

    Example:
        >>> rate = TokenRate(600)
        >>> rate.sent(1, 400, now=0.0)
        >>> rate.wait_seconds(100, now=0.0)
        40.0
        >>> rate.ended(1, now=1.0, used=50)
        >>> rate.wait_seconds(100, now=1.0)
        0.0
    """

    def __init__(self, per_minute: float) -> None:
        self.per_minute = per_minute
        self._counted: dict[int, list[float]] = {}  # tokens, and since when they count, by call: in the order they were sent
        self._total = 0.0
        self._next_at = 0.0  # when all that was sent is made up for

    def wait_seconds(self, tokens: float, now: float) -> float:
        """How long a call that may use so many tokens has to wait; 0: it may be sent. A call that ends may shorten the wait."""
        self._forget(now)
        ahead = self._next_at - now + min(tokens * self._seconds - _TOKENS_TOGETHER_SECONDS, 0.0)
        wait, total = max(ahead, 0.0), self._total
        for counted, since in self._counted.values():
            if total + tokens <= self.per_minute:
                break
            total -= counted
            wait = max(wait, since + _DELIVERY_SECONDS + _MINUTE_SECONDS - now)
        return wait

    def sent(self, call: int, tokens: float, now: float) -> None:
        """A call is sent.

        Args:
            call: names it.
            tokens: the most it is expected to use.
            now: the time.
        """
        self._counted[call] = [tokens, now]
        self._total += tokens
        self._next_at = max(self._next_at, now) + tokens * self._seconds

    def ended(self, call: int, now: float, used: float | None = None) -> None:
        """A call has ended.

        Args:
            call: names it.
            now: the time.
            used: the tokens it has used; null: nobody knows, so what was expected stands.
        """
        self._forget(now)
        counted = self._counted.get(call)
        if counted is None:
            return  # longer than a minute ago
        counted[1] = min(counted[1], now - _DELIVERY_SECONDS)  # an answer proves that it has arrived
        if used is not None:
            self._total += used - counted[0]
            self._next_at += (used - counted[0]) * self._seconds
            counted[0] = used

    def not_sent(self, call: int) -> None:
        """A call was given up before it was sent."""
        counted = self._counted.pop(call, None)
        if counted is not None:
            self._total -= counted[0]
            self._next_at -= counted[0] * self._seconds

    @property
    def _seconds(self) -> float:
        """How long it takes until a token is made up for."""
        return _MINUTE_SECONDS / self.per_minute

    def _forget(self, now: float) -> None:
        while self._counted:
            call, (tokens, since) = next(iter(self._counted.items()))
            if since + _DELIVERY_SECONDS + _MINUTE_SECONDS > now:
                break
            del self._counted[call]
            self._total -= tokens
