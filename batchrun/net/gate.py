"""The gate in front of a service: every call goes through it, in the order they came, when the service can take it."""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from batchrun.core.errors import NodeError, ServiceParked
from batchrun.core.executions import ResourceState
from batchrun.core.job import Resource
from batchrun.core.protocols import Slot
from batchrun.flow.adaptive import AdaptiveLimit
from batchrun.flow.limits import RequestRate, TokenRate
from batchrun.flow.retry import is_throttling
from batchrun.net.health import ServiceHealth
from batchrun.net.parked import ParkedCallers
from batchrun.workflows.decisions import StoppedAtRest

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


class _Caller(NamedTuple):
    """Who waits for a turn, and the tokens the call may use. Null in place of a turn: the caller, who has a slot, is to look again."""

    turn: asyncio.Future[Turn | None]
    tokens: int
    has_slot: bool


class Gate:
    """Lets calls through to one service; calls that wait get their turn in the order they came.

    A call needs a seat (`max_concurrency`, or the adaptive limit), its place and its tokens in the minute, and a service that is
    neither out of order nor has asked to be left alone. Must be made and used on one event loop, whose clock it goes by.

    Args:
        resource: what it lets through.
        chance: draws numbers from 0 up to 1, for jitter.
    """

    def __init__(self, resource: Resource, *, chance: Callable[[], float] = random.random) -> None:
        self._loop = asyncio.get_running_loop()
        self._chance = chance
        self._rate = RequestRate(resource.requests_per_minute) if resource.requests_per_minute is not None else None
        self._tokens = TokenRate(resource.tokens_per_minute) if resource.tokens_per_minute is not None else None
        self._most = resource.max_concurrency
        self._adaptive = AdaptiveLimit(resource.max_concurrency) if resource.adaptive else None
        self._health = ServiceHealth(resource.base_url, resource.breaker, chance) if resource.breaker is not None else None
        self._closed_until = -math.inf  # as the service has asked
        self._is_stopping = False
        self._waiting: deque[_Caller] = deque()
        self._parked = ParkedCallers(self._go_on)
        self._timer: asyncio.TimerHandle | None = None
        self._in_flight = self._calls = self._throttled = self._used_tokens = 0

    def limit(self, *, max_concurrency: int | None, requests_per_minute: float | None, tokens_per_minute: float | None = None) -> None:
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
        if tokens_per_minute is None:
            self._tokens = None
        elif self._tokens is None:
            self._tokens = TokenRate(tokens_per_minute)
        else:
            self._tokens.per_minute = tokens_per_minute
        self._go_on()

    async def enter(self, tokens: int = 0, slot: Slot | None = None) -> Turn:
        """Wait for a turn; whoever gets one must hand it to `leave`.

        Args:
            tokens: the most that the call is expected to use.
            slot: of the item that the call is made for. It is given back while the service is out of order, but by the caller that
                is the next to try it. Null: the call is made for no item, or whatever becomes of its item.

        Raises:
            ServiceParked: the service has been out of order for too long.
            StoppedAtRest: the execution stops, and nothing was sent yet for the item.
        """
        if (now := self.turn(tokens)) is not None:
            return now
        while True:
            while slot is not None and self._has_enough() and not self._is_stopping:
                await self._parked.stay(slot)
            if slot is not None and self._is_stopping:
                raise StoppedAtRest
            turn: asyncio.Future[Turn | None] = self._loop.create_future()
            self._waiting.append(_Caller(turn, tokens, slot is not None))
            self._go_on()
            try:
                given = await turn
            except asyncio.CancelledError:
                self._given_up(turn)
                raise
            if given is not None:
                return given

    def turn(self, tokens: int = 0) -> Turn | None:
        """A turn, if there is one to be had now, as `enter` gives it; else null."""
        now = self._loop.time()
        return None if self._waiting or self._wait_seconds(tokens, now) > 0 else self._next_turn(tokens, now)

    def leave(self, turn: Turn, error: NodeError | None = None, *, is_cut_off: bool = False, tokens: int | None = None) -> None:
        """A call has ended.

        Args:
            turn: of the call.
            error: what it failed with, null when it did not; is told whether the service is out of order.
            is_cut_off: it was given up before the service answered; with an error, because its deadline had passed.
            tokens: it has used; null: nobody knows.
        """
        now = self._loop.time()
        self._used_tokens += tokens or 0
        if self._tokens is not None:
            self._tokens.ended(turn.number, now, tokens)
        if self._rate is not None:
            self._rate.ended(turn.number, now)
        if error is not None or self._adaptive is not None:
            self._judge_load(turn, now, error, is_cut_off=is_cut_off)
        if (health := self._health) is None:
            pass
        elif error is None and not is_cut_off:
            health.answered(now, is_probe=turn.is_probe)
        else:
            was_open = health.breaker.is_open
            health.judge(turn.sent_at, now, error, is_probe=turn.is_probe, is_cut_off=is_cut_off)
            if health.breaker.is_open and not was_open:
                self._send_away()
        self._in_flight -= 1
        if self._waiting or self._timer is not None or self._parked:
            self._go_on()

    def close_for(self, seconds: float) -> None:
        """The service takes no calls for that long; some jitter comes on top."""
        until = self._loop.time() + seconds + min(seconds * _JITTER_RATIO, _MOST_JITTER_SECONDS) * self._chance()
        self._closed_until = max(self._closed_until, until)

    def stop(self) -> None:
        """The execution stops: calls for items that wait here, or come here and would have to, end. Nothing of them was sent."""
        self._is_stopping = True
        for caller in self._waiting:
            if caller.has_slot and not caller.turn.done():
                caller.turn.set_exception(StoppedAtRest())
        self._parked.call_all()
        self._go_on()

    def state(self) -> ResourceState:
        """What it does at this moment."""
        now, breaker = self._loop.time(), self._health.breaker if self._health is not None else None
        parked_at = breaker.parked_at if breaker is not None else None
        most = self._limit()
        return ResourceState(
            in_flight=self._in_flight,
            queued=sum(not caller.turn.done() for caller in self._waiting) + len(self._parked),
            limit=None if most == math.inf else int(most),
            requests_per_minute=self._rate.per_minute if self._rate is not None else None,
            tokens_per_minute=self._tokens.per_minute if self._tokens is not None else None,
            calls=self._calls,
            tokens=self._used_tokens,
            throttled=self._throttled,
            parked_at=None if parked_at is None else (datetime.now(UTC) - timedelta(seconds=now - parked_at)).isoformat(),
            parked_why=None if parked_at is None or self._health is None else self._health.last_failure,
            opened=breaker.opened if breaker is not None else 0,
            parked_seconds=round(breaker.parked_seconds(now), 3) if breaker is not None else 0.0,
        )

    def _limit(self) -> float:
        return self._adaptive.now if self._adaptive is not None else math.inf if self._most is None else self._most

    def _wait_seconds(self, tokens: int, now: float) -> float:
        """How long the next call has to wait; infinite: until another one has ended."""
        if self._in_flight >= self._limit():
            return math.inf
        wait = 0.0 if self._closed_until <= now else self._closed_until - now
        if self._health is not None and self._health.breaker.parked_at is not None:
            wait = max(wait, self._health.wait_seconds(now))
        if self._tokens is not None and tokens:
            wait = max(wait, self._tokens.wait_seconds(tokens, now))
        return max(wait, self._rate.wait_seconds(now)) if self._rate is not None else wait

    def _next_turn(self, tokens: int, now: float) -> Turn:
        self._calls += 1
        self._in_flight += 1
        if self._rate is not None:
            self._rate.sent(self._calls, now)
        if self._tokens is not None and tokens:
            self._tokens.sent(self._calls, tokens, now)
        return Turn(self._calls, now, self._health is not None and self._health.breaker.is_open and self._health.breaker.sent())

    def _is_out(self) -> bool:
        return self._health is not None and self._health.is_out(self._loop.time())

    def _has_enough(self) -> bool:
        """Whether the service is out of order, and somebody is there to try it."""
        return self._is_out() and any(not caller.turn.done() for caller in self._waiting)

    def _call_parked(self) -> None:
        """Have those come back who are needed: all once the service is back, else one to try it."""
        if not self._is_out():
            self._parked.call_all()
        elif not self._has_enough():
            self._parked.call_one()

    def _send_away(self) -> None:
        """The service is out of order: those who can do without their slot need not stand here, but for one."""
        for turn, _, has_slot in [caller for caller in self._waiting if not caller.turn.done()][1:]:
            if has_slot:
                turn.set_result(None)

    def _given_up(self, waiting: asyncio.Future[Turn | None]) -> None:
        """A caller waits no longer; it may have got its turn in the same moment."""
        if waiting.cancel() or waiting.cancelled() or waiting.exception() is not None or (turn := waiting.result()) is None:
            return
        self._in_flight -= 1
        if self._rate is not None:
            self._rate.not_sent(turn.number)
        if self._tokens is not None:
            self._tokens.not_sent(turn.number)
        if self._health is not None:
            self._health.breaker.not_tried(is_probe=turn.is_probe)
        self._go_on()

    def _go_on(self) -> None:
        """Let through what can go now, and come back when more can."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiting and not self._parked:
            return
        now = self._loop.time()
        self._give_up()
        self._call_parked()
        while self._waiting:
            turn, tokens, _ = self._waiting[0]
            if turn.done():
                self._waiting.popleft()
                continue
            wait = self._wait_seconds(tokens, now)
            if wait > 0:
                ends = self._health.breaker.gives_up_at() - now if self._health is not None else math.inf
                if min(wait, ends) < math.inf:
                    self._timer = self._loop.call_later(max(min(wait, ends), _SHORTEST_WAIT_SECONDS), self._go_on)
                return
            self._waiting.popleft()
            turn.set_result(self._next_turn(tokens, now))
            self._call_parked()

    def _give_up(self) -> None:
        why = self._health.given_up(self._loop.time()) if self._health is not None else None
        while self._waiting and why is not None:
            turn = self._waiting.popleft().turn
            if not turn.done():
                turn.set_exception(ServiceParked(why))

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
