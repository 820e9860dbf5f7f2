"""Whether a service is called at all: it is not while it is out of order."""

from __future__ import annotations

import math

from batchrun.core.policies import Breaker

_GROWTH = 2.0
_JITTER_RATIO = 0.25


class CircuitBreaker:
    """Opens when calls fail in a row, and closes when one succeeds.

    While it is open, one call at a time is let through, after a wait that grows with each one that fails.

    Times are seconds of a clock that never goes back.

    Args:
        policy: when it opens, and how long it waits.

    Attributes:
        parked_at: since when it is open; null: it is closed.
        opened: how often it has opened.

    Example:
        >>> breaker = CircuitBreaker(Breaker(failures=2, probe_initial_seconds=1))
        >>> breaker.failed(now=0.0, chance=0.0); breaker.failed(now=0.0, chance=0.0)
        >>> breaker.wait_seconds(now=0.25)
        0.75
    """

    def __init__(self, policy: Breaker) -> None:
        self.parked_at: float | None = None
        self.opened = 0
        self._policy = policy
        self._failures = 0
        self._wait_seconds = 0.0
        self._probe_at = 0.0
        self._is_probing = False
        self._parked_before = 0.0

    @property
    def is_open(self) -> bool:
        """Whether calls are parked."""
        return self.parked_at is not None

    def parked_seconds(self, now: float) -> float:
        """How long it was open in all."""
        return self._parked_before + (now - self.parked_at if self.parked_at is not None else 0.0)

    def gives_up_at(self) -> float:
        """When calls have been parked for as long as they may; infinite: not in sight."""
        most = self._policy.max_parked_seconds
        return math.inf if self.parked_at is None or most is None else self.parked_at + most

    def wait_seconds(self, now: float) -> float:
        """How long the next call has to wait; 0: it may be sent; infinite: until the one that is tried has ended."""
        if self.parked_at is None:
            return 0.0
        return math.inf if self._is_probing else max(self._probe_at - now, 0.0)

    def sent(self) -> bool:
        """A call is sent. Returns whether it is one that tries the service while all others are parked."""
        if self.parked_at is None:
            return False
        self._is_probing = True
        return True

    def succeeded(self, now: float) -> None:
        """The service has answered a call."""
        self._failures = 0
        if self.parked_at is not None:
            self._parked_before += now - self.parked_at
            self.parked_at, self._is_probing = None, False

    def failed(self, now: float, chance: float, *, is_probe: bool = False) -> None:
        """The service could not be reached, broke off, or answered with a fault of its own.

        Args:
            now: the time.
            chance: a random number from 0 up to 1; spreads the calls that try it.
            is_probe: what `sent` said of this call.
        """
        self._failures += 1
        if is_probe and self.parked_at is not None:
            self._wait(now, min(self._wait_seconds * _GROWTH, self._policy.probe_max_seconds), chance)
        elif self.parked_at is None and self._failures >= self._policy.failures:
            self.parked_at = now
            self.opened += 1
            self._wait(now, min(self._policy.probe_initial_seconds, self._policy.probe_max_seconds), chance)

    def not_tried(self, *, is_probe: bool) -> None:
        """A call has ended that says nothing about the service: the next one may try it at once."""
        if is_probe:
            self._is_probing = False

    def _wait(self, now: float, seconds: float, chance: float) -> None:
        self._is_probing = False
        self._wait_seconds = seconds
        self._probe_at = now + seconds * (1 + _JITTER_RATIO * chance)
