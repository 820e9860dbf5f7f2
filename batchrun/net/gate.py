"""The gate in front of a service: every call goes through it, in the order they came, when the service can take it."""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from batchrun.core.errors import HttpStatusError, InvalidValue, NodeError, ServiceParked, TransportError
from batchrun.core.executions import ResourceState
from batchrun.core.job import Resource
from batchrun.flow.adaptive import AdaptiveLimit
from batchrun.flow.breaker import CircuitBreaker
from batchrun.flow.limits import RequestRate
from batchrun.flow.retry import is_throttling

_JITTER_RATIO = 0.1  # on top of what a service asks for
_MOST_JITTER_SECONDS = 5.0
_SHORTEST_WAIT_SECONDS = 0.001  # shorter ones could be lost in the rounding of the clock


class Turn(NamedTuple):
    """A call that may be made.

    Attributes:
        number: tells it from all others.
        sent_at: when it got its turn.
        is_probe: it tries whether the service is back, while all others are parked.
    """

    number: int
    sent_at: float
    is_probe: bool


class Gate:
    """Lets calls through to one service; calls that wait get their turn in the order they came.

    A call needs a seat (`max_concurrency`, or the adaptive limit), its place in the minute, and a service that is neither out of
    order nor has asked to be left alone. Must be made and used on one event loop, whose clock it goes by.

    Args:
        resource: what it lets through.
        chance: draws numbers from 0 up to 1, for jitter.
    """

    def __init__(self, resource: Resource, *, chance: Callable[[], float] = random.random) -> None:
        self._address = resource.base_url
        self._loop = asyncio.get_running_loop()
        self._chance = chance
        self._rate = RequestRate(resource.requests_per_minute) if resource.requests_per_minute is not None else None
        self._most = resource.max_concurrency
        self._adaptive = AdaptiveLimit(resource.max_concurrency) if resource.adaptive else None
        self._breaker = CircuitBreaker(resource.breaker) if resource.breaker is not None else None
        self._last_failure = ""
        self._has_answered = False
        self._closed_until = -math.inf  # as the service has asked
        self._waiting: deque[asyncio.Future[Turn]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._in_flight = self._calls = self._throttled = 0

    def limit(self, *, max_concurrency: int | None, requests_per_minute: float | None) -> None:
        """Change the limits from now on, null for none; calls under way are not cut off."""
        self._most = max_concurrency
        if self._adaptive is not None:
            self._adaptive.most = max_concurrency
        if requests_per_minute is None:
            self._rate = None
        elif self._rate is None:
            self._rate = RequestRate(requests_per_minute)
        else:
            self._rate.per_minute = requests_per_minute
        self._go_on()

    async def enter(self) -> Turn:
        """Wait for a turn; whoever gets one must hand it to `leave`.

        Raises:
            ServiceParked: the service has been out of order for too long.
        """
        if not self._waiting and self._wait_seconds() == 0:
            return self._next_turn()
        turn: asyncio.Future[Turn] = self._loop.create_future()
        self._waiting.append(turn)
        self._go_on()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._give_back(turn.result())
            else:
                turn.cancel()  # and is passed over when its turn comes
            raise

    def leave(self, turn: Turn, error: NodeError | None = None, *, is_cut_off: bool = False) -> None:
        """A call has ended.

        Args:
            turn: of the call.
            error: what it failed with, null when it did not; is told whether the service is out of order.
            is_cut_off: it was given up before the service answered.
        """
        now = self._loop.time()
        if self._rate is not None:
            self._rate.ended(turn.number, now)
        self._judge_load(turn, now, error, is_cut_off=is_cut_off)
        if self._breaker is not None:
            self._judge_health(self._breaker, turn, now, error, is_cut_off=is_cut_off)
        self._in_flight -= 1
        self._go_on()

    def close_for(self, seconds: float) -> None:
        """The service takes no calls for that long; some jitter comes on top."""
        until = self._loop.time() + seconds + min(seconds * _JITTER_RATIO, _MOST_JITTER_SECONDS) * self._chance()
        self._closed_until = max(self._closed_until, until)

    def state(self) -> ResourceState:
        """What it does at this moment."""
        now, breaker = self._loop.time(), self._breaker
        parked_at = breaker.parked_at if breaker is not None else None
        most = self._limit()
        return ResourceState(
            in_flight=self._in_flight,
            queued=sum(not turn.done() for turn in self._waiting),
            limit=None if most == math.inf else int(most),
            requests_per_minute=self._rate.per_minute if self._rate is not None else None,
            calls=self._calls,
            throttled=self._throttled,
            parked_at=None if parked_at is None else (datetime.now(UTC) - timedelta(seconds=now - parked_at)).isoformat(),
            parked_why=None if parked_at is None else self._last_failure,
            opened=breaker.opened if breaker is not None else 0,
            parked_seconds=round(breaker.parked_seconds(now), 3) if breaker is not None else 0.0,
        )

    def _limit(self) -> float:
        return self._adaptive.now if self._adaptive is not None else math.inf if self._most is None else self._most

    def _wait_seconds(self) -> float:
        """How long the next call has to wait; infinite: until another one has ended."""
        if self._in_flight >= self._limit():
            return math.inf
        now = self._loop.time()
        wait = max(self._closed_until - now, 0.0)
        if self._breaker is not None and self._breaker.is_open:
            wait = max(wait, self._breaker.wait_seconds(now)) if now < self._breaker.gives_up_at() else math.inf
        return max(wait, self._rate.wait_seconds(now)) if self._rate is not None else wait

    def _next_turn(self) -> Turn:
        self._calls += 1
        self._in_flight += 1
        now = self._loop.time()
        if self._rate is not None:
            self._rate.sent(self._calls, now)
        return Turn(self._calls, now, self._breaker is not None and self._breaker.sent())

    def _give_back(self, turn: Turn) -> None:
        """A call was given up between getting its turn and being sent."""
        self._in_flight -= 1
        if self._rate is not None:
            self._rate.not_sent(turn.number)
        if self._breaker is not None:
            self._breaker.not_tried(is_probe=turn.is_probe)
        self._go_on()

    def _go_on(self) -> None:
        """Let through what can go now, and come back when more can."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._give_up()
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
                continue
            wait = self._wait_seconds()
            if wait > 0:
                ends = self._breaker.gives_up_at() - self._loop.time() if self._breaker is not None else math.inf
                if min(wait, ends) < math.inf:
                    self._timer = self._loop.call_later(max(min(wait, ends), _SHORTEST_WAIT_SECONDS), self._go_on)
                return
            self._waiting.popleft().set_result(self._next_turn())

    def _give_up(self) -> None:
        breaker = self._breaker
        if breaker is None or self._loop.time() < breaker.gives_up_at():
            return
        message = (
            f"{self._address} has been out of order for {breaker.gives_up_at() - (breaker.parked_at or 0):g} s, which is "
            f"max_parked_seconds; its last failure: {self._last_failure}"
        )
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(ServiceParked(message))

    def _judge_load(self, turn: Turn, now: float, error: NodeError | None, *, is_cut_off: bool) -> None:
        is_objection = error is not None and (is_throttling(error) or error.http_status == 503)
        self._throttled += is_objection
        if self._adaptive is None:
            return
        if is_objection or is_cut_off:
            self._adaptive.objected(turn.sent_at, now)
            if error is not None and error.retry_after_seconds:
                self.close_for(error.retry_after_seconds)
        elif error is None:
            self._adaptive.succeeded(self._in_flight)

    def _judge_health(self, breaker: CircuitBreaker, turn: Turn, now: float, error: NodeError | None, *, is_cut_off: bool) -> None:
        failure = _failure(error, is_probe=turn.is_probe)
        if is_cut_off:
            if turn.is_probe:  # the service did not answer in time
                breaker.failed(now, self._chance(), is_probe=True)
        elif isinstance(error, InvalidValue):
            breaker.not_tried(is_probe=turn.is_probe)
        elif error is None or failure is None:
            self._has_answered = True
            breaker.succeeded(now)
        elif failure != "unknown":
            self._last_failure = str(error)
            breaker.failed(now, self._chance(), is_probe=turn.is_probe)
            if breaker.is_open or (failure == "unreachable" and self._has_answered):
                error.outage = "unreachable" if failure == "unreachable" else "broken"


def _failure(error: NodeError | None, *, is_probe: bool) -> str | None:
    """What a failed call says about the health of the service; null: it is well."""
    if isinstance(error, TransportError):
        return "broken" if error.was_sent else "unreachable"
    if isinstance(error, HttpStatusError) and (error.http_status or 0) >= 500:
        # It says itself when it takes calls again; while it is parked, that is one call that failed.
        return "unknown" if is_throttling(error) and not is_probe else "broken"
    return None
