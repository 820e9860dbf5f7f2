"""Calls that are made once for all items that want the same of a node at the same time."""

from __future__ import annotations

import asyncio
import copy
import math
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from enum import Enum, auto
from functools import partial
from typing import Any, NamedTuple

from batchrun.engine.attempt import Attempt
from batchrun.engine.failures import asked
from batchrun.workflows.plan import Step
from batchrun.workflows.scope import Scope


class _Turn(Enum):
    """What becomes of an item that has waited for the call of another one."""

    LEAD = auto()
    """It makes the call, for itself and for those that still wait."""
    ALONE = auto()
    """It makes the call, for itself."""
    TOO_LATE = auto()
    """Its time is up."""


class _Shared(NamedTuple):
    """An output for those that have waited; each takes a copy, for whoever gets one may change it."""

    value: Any
    call_key: str | None


class _Follower:
    """An item that waits for the call of another one.

    Attributes:
        scope: of the item.
        attempt: the part it has in the call.
        since: engine clock when it began to wait for a call to be made.
        turn: done when it goes on.
        timer: set for the end of its time.
    """

    __slots__ = ("attempt", "scope", "since", "timer", "turn")

    def __init__(self, scope: Scope, since: float) -> None:
        self.scope = scope
        self.attempt: Attempt = scope.sharing
        self.since = since
        self.turn: asyncio.Future[_Turn | _Shared] = asyncio.get_running_loop().create_future()
        self.timer: asyncio.TimerHandle | None = None

    def tell(self, turn: _Turn | _Shared) -> bool:
        """Let the item go on; whether it still waited."""
        self.stop_timer()
        if self.turn.done():
            return False
        self.turn.set_result(turn)
        return True

    def stop_timer(self) -> None:
        """Its time need not be watched any more."""
        if self.timer is not None:
            self.timer.cancel()


class _Flight:
    """A call that is being made, or about to be.

    Attributes:
        followers: the items that wait for it; the first one makes the next call if this one fails.
        is_sent: whether it has had its turn, for a node that queues.
    """

    __slots__ = ("followers", "is_sent")

    def __init__(self) -> None:
        self.followers: deque[_Follower] = deque()
        self.is_sent = False


class Dedupe:
    """The calls of one node that are being made, by their keys. All methods are called on the event loop.

    The first item that comes with a key leads: it makes the call. Those that come with the same key meanwhile follow: they
    give their slots back, wait as long as they have time, and take what the call gave. When it fails, or its item is
    stopped, the one that has waited longest leads. The deadline of an attempt is only that of who makes the call.

    Args:
        step: the node.
        clock: that of the engine.
        on_note: told, once, that outputs cannot be shared.
    """

    def __init__(self, step: Step, clock: Callable[[], float], on_note: Callable[[str], None]) -> None:
        self._step = step
        self._clock = clock
        self._on_note = on_note
        self._is_told = False
        self._flights: dict[bytes, _Flight] = {}

    async def call(self, key: bytes, scope: Scope, make: Callable[[Scope], Awaitable[Any]]) -> Any:
        """The output for one item.

        Args:
            key: the same for items that get the same output.
            scope: of the item.
            make: makes a call.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight()
            return await self._lead(key, flight, scope, make)
        turn = await self._follow(key, flight, scope)
        if isinstance(turn, _Shared):
            value = self._copy(turn.value)
            if value is not _Turn.ALONE:
                scope.call_key = turn.call_key  # of the call that was made
                return value
        attempt: Attempt = scope.sharing
        attempt.restart()
        if turn is _Turn.TOO_LATE:
            raise attempt.timeout()
        return await (self._lead(key, flight, scope, make) if turn is _Turn.LEAD else make(scope))

    async def _lead(self, key: bytes, flight: _Flight, scope: Scope, make: Callable[[Scope], Awaitable[Any]]) -> Any:
        if self._step.queues:
            scope.sending = partial(self._sent, flight, scope.sending)
        with ExitStack() as undo:
            undo.callback(self._hand_over, key, flight)
            value = await make(scope)
            undo.pop_all()
        del self._flights[key]
        if flight.followers:
            shared = self._copy(value)  # at once: whoever goes on with the output may change it
            for follower in flight.followers:
                follower.tell(_Turn.ALONE if shared is _Turn.ALONE else _Shared(shared, scope.call_key))
        return value

    async def _follow(self, key: bytes, flight: _Flight, scope: Scope) -> _Turn | _Shared:
        follower = _Follower(scope, self._clock())
        follower.attempt.end()
        flight.followers.append(follower)
        if flight.is_sent or not self._step.queues:
            self._watch(follower)
        with ExitStack() as undo:
            undo.callback(self._leave, key, flight, follower)
            async with scope.slot.parked():
                turn = await follower.turn
            undo.pop_all()
        return turn

    def _sent(self, flight: _Flight, sending: Callable[..., None], *, in_doubt: bool) -> None:
        """A call has had its turn and begins: until now, the time of those that wait for it has stood still as well."""
        sending(in_doubt=in_doubt)
        flight.is_sent = True
        now = self._clock()
        for follower in flight.followers:
            if not follower.turn.done():
                follower.attempt.put_off(now - follower.since)
                self._watch(follower)

    def _watch(self, follower: _Follower) -> None:
        follower.stop_timer()
        ends_at = follower.attempt.item_ends_at
        if ends_at < math.inf:
            left = max(ends_at - self._clock(), 0.0)
            follower.timer = asyncio.get_running_loop().call_later(left, follower.tell, _Turn.TOO_LATE)

    def _hand_over(self, key: bytes, flight: _Flight) -> None:
        """The call has failed, or was given up: the next one leads."""
        if self._step.queues:
            flight.is_sent = False
            for follower in flight.followers:  # its time stands still until the next call has had its turn
                follower.stop_timer()
                follower.since = self._clock()
        while flight.followers:
            if flight.followers.popleft().tell(_Turn.LEAD):
                return
        del self._flights[key]

    def _leave(self, key: bytes, flight: _Flight, follower: _Follower) -> None:
        """An item is stopped while it waits."""
        follower.stop_timer()
        is_told = not (follower.turn.cancel() or follower.turn.cancelled())
        if is_told and follower.turn.result() is _Turn.LEAD:
            self._hand_over(key, flight)

    def _copy(self, value: Any) -> Any:
        copied = asked(partial(copy.deepcopy, value), default=_Turn.ALONE)
        if copied is _Turn.ALONE and not self._is_told:
            self._is_told = True
            self._on_note(
                f"node {self._step.id}: outputs of type {type(value).__qualname__} cannot be copied, so each item makes a call of its own"
            )
        return copied
