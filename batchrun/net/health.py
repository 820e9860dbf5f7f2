"""Whether a service is in order, as the ends of calls tell."""

from __future__ import annotations

import math
from collections.abc import Callable

from batchrun.core.errors import HttpStatusError, InvalidValue, NodeError, TransportError
from batchrun.core.policies import Breaker
from batchrun.flow.breaker import CircuitBreaker
from batchrun.flow.retry import is_throttling


def health_told_by(error: NodeError | None, *, is_probe: bool) -> str | None:
    """What a failed call says about the health of the service; null: it is well."""
    if isinstance(error, TransportError):
        return "broken" if error.was_sent else "unreachable"
    if isinstance(error, HttpStatusError) and (error.http_status or 0) >= 500:
        # It says itself when it takes calls again; while it is parked, that is one call that failed.
        return "unknown" if is_throttling(error) and not is_probe else "broken"
    return None


class ServiceHealth:
    """Judges calls of one service that have ended, and opens and closes its breaker.

    Times are seconds of a clock that never goes back.

    Args:
        address: of the service, for people.
        policy: of its breaker.
        chance: draws numbers from 0 up to 1, for jitter.

    Attributes:
        breaker: open while the service is out of order.
        last_failure: what was wrong with it last.
    """

    def __init__(self, address: str, policy: Breaker, chance: Callable[[], float]) -> None:
        self.breaker = CircuitBreaker(policy)
        self.last_failure = ""
        self._address = address
        self._chance = chance
        self._has_answered = False
        self._answered_at = -math.inf

    def is_out(self, now: float) -> bool:
        """Whether the service is out of order, and may still come back."""
        return self.breaker.is_open and now < self.breaker.gives_up_at()

    def wait_seconds(self, now: float) -> float:
        """How long the next call has to wait; infinite: until another one has ended, or for ever."""
        return self.breaker.wait_seconds(now) if now < self.breaker.gives_up_at() else math.inf

    def given_up(self, now: float) -> str | None:
        """Why calls are given up that have been parked for as long as they may; null: they have not."""
        breaker = self.breaker
        if now < breaker.gives_up_at():
            return None
        return (
            f"{self._address} has been out of order for {breaker.gives_up_at() - (breaker.parked_at or 0):g} s, which is "
            f"max_parked_seconds; its last failure: {self.last_failure}"
        )

    def answered(self, now: float, *, is_probe: bool) -> None:
        """A call has ended well, or at least was answered; the rest as in `judge`."""
        self._has_answered, self._answered_at = True, now
        if is_probe or self.breaker.parked_at is None:  # a call that was sent before it broke tells nothing of what came then
            self.breaker.succeeded(now)

    def judge(self, sent_at: float, now: float, error: NodeError | None, *, is_probe: bool, is_cut_off: bool) -> None:
        """A call has ended.

        Args:
            sent_at: when it was sent.
            now: the time.
            error: what it failed with; null: it did not. It is told whether the service is out of order.
            is_probe: it was sent to try the service.
            is_cut_off: it was given up before the service answered; with an error, because its deadline had passed.
        """
        breaker = self.breaker
        failure = health_told_by(error, is_probe=is_probe)
        if is_cut_off:
            # One call that hangs while others are answered is its own fault; many that hang together are the fault of the service.
            is_silent = error is not None and self._answered_at < (sent_at + now) / 2
            if is_probe or is_silent:
                self.last_failure = str(error or "a call that was to try it was given up")
                breaker.failed(now, self._chance(), is_probe=is_probe)
            if error is not None and breaker.is_open:
                error.outage = "silent"
        elif isinstance(error, InvalidValue):
            breaker.not_tried(is_probe=is_probe)
        elif error is None or failure is None:
            self.answered(now, is_probe=is_probe)
        elif failure != "unknown":
            self.last_failure = str(error)
            breaker.failed(now, self._chance(), is_probe=is_probe)
            if breaker.is_open or (failure == "unreachable" and self._has_answered):
                error.outage = "unreachable" if failure == "unreachable" else "broken"
