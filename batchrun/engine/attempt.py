"""The deadline of one call that waits on the event loop, and what becomes of calls that no item waits for by itself."""

from __future__ import annotations

import asyncio
import random
import types
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any, NamedTuple

from batchrun.core.errors import Outage, Timeout
from batchrun.engine.deadlines import Deadlines
from batchrun.engine.failures import is_abort
from batchrun.engine.item_run import ItemRun
from batchrun.flow.reach import Reach
from batchrun.flow.retry import CallHistory
from batchrun.workflows.plan import Step

_MOST_CANCELLATIONS = 100  # one comes with each turn of the event loop until the call ends; cleaning up takes a few

LATE = object()
"""What a call came to that its reach has ended."""


@types.coroutine
def stoppable(call: Coroutine[Any, Any, Any], is_over: Callable[[], bool], reach: Reach | None = None) -> Generator[Any, Any, Any]:
    """Await a call of a user, and give it up when it is over and the call swallows its cancellation again and again.

    Without this, one `while True` around an `except BaseException` would keep its item, and with it the run, for ever.

    Args:
        call: is awaited.
        is_over: whether nothing may go on any more.
        reach: ends the call, which then came to `LATE`; null: nothing ends it.
    """
    try:
        awaited = call.send(None)
    except StopIteration as end:
        return end.value
    return (yield from going_on(call, awaited, is_over, reach))


@types.coroutine
def going_on(
    call: Coroutine[Any, Any, Any], awaited: Any, is_over: Callable[[], bool], reach: Reach | None = None
) -> Generator[Any, Any, Any]:
    """The same for a call that has begun, and `awaited` something."""
    swallowed = 0
    try:
        while True:
            try:
                value = yield awaited
            except GeneratorExit:
                raise
            except BaseException as error:  # also what is awaited failed with
                swallowed += isinstance(error, asyncio.CancelledError) and (is_over() or (reach is not None and reach.is_used))
                if swallowed > _MOST_CANCELLATIONS:
                    with suppress(BaseException):  # a call that does not even let itself be closed is left where it is
                        call.close()
                    raise
                awaited = call.throw(error)
            else:
                awaited = call.send(value)
    except StopIteration as end:
        value = end.value
    except BaseException as error:
        if reach is not None and reach.has_ended(error):
            return LATE
        raise
    if reach is not None:
        reach.has_ended()
    return value


def is_for_us(error: BaseException) -> bool:
    """Whether an exception ends the task, not the call: it comes from us, not from the code of a node that raised it on its own."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0  # else only something that the call awaits was cancelled
    return is_abort(error) or isinstance(error, GeneratorExit)


class Outcome(NamedTuple):
    """What a call came to: a value, or what it raised."""

    value: Any = None
    error: BaseException | None = None


class SharedError(Exception):
    """Raised for each item of a call that failed: what it raised is one for all of them, and need not come from this thread.

    Attributes:
        error: what the call raised.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


def outcome_of(call: Callable[[], Any]) -> Outcome:
    """Make a call, in a thread."""
    try:
        return Outcome(call())
    except BaseException as error:  # whatever code of users raises is the failure of its items
        return Outcome(error=error)


async def outcome_on_loop(call: Coroutine[Any, Any, Any], is_over: Callable[[], bool]) -> Outcome:
    """Await a call; `is_over` as in `stoppable`."""
    try:
        return Outcome(await stoppable(call, is_over))
    except BaseException as error:  # as above
        if is_for_us(error):
            raise
        return Outcome(error=error)


class Attempt:
    """One call: when it began, and what ends it.

    Args:
        run: the item it is made for.
        step: the node that is called.
        deadlines: how long it may take.
        reach: ends it; null: it is not ended by itself.

    Attributes:
        began: engine clock when the call was made, or when its request was sent.
        ended: engine clock when it ended, if that was before the item went on.
        chance: draws what a backoff is drawn with.
        waits_for: a `call` that is being made, a `resource` before its request is sent, or a `batch` before its call is made.
    """

    __slots__ = (
        "_deadlines",
        "_in_doubt",
        "_put_off_seconds",
        "_run",
        "_step",
        "began",
        "chance",
        "ended",
        "reach",
        "waits_for",
    )

    def __init__(self, run: ItemRun, step: Step, deadlines: Deadlines, reach: Reach | None) -> None:
        self._run = run
        self._step = step
        self._deadlines = deadlines
        self._in_doubt: bool | None = None
        self._put_off_seconds = 0.0
        self.began = deadlines.clock()
        self.ended: float | None = None
        self.chance: Callable[[], float] = random.random
        self.reach = reach
        self.waits_for = "resource" if step.queues else "call"
        if not step.queues:
            self._arm()

    def sending(self, *, in_doubt: bool) -> None:
        """A request that may have waited for its turn is about to be sent: the clocks of attempt and item start here."""
        now = self._deadlines.clock()
        self._run.excluded += now - self.began
        self.began = now
        self.waits_for = "call"
        self._in_doubt = in_doubt
        self._arm()

    @property
    def was_sent(self) -> bool:
        """Whether a request was sent that had to wait for its turn."""
        return self._in_doubt is not None

    def is_late(self) -> bool:
        """Whether its time is over."""
        return self.reach is not None and self.reach.is_used

    @property
    def item_ends_at(self) -> float:
        """Engine clock when the item's time is up, if it is not put off before."""
        return self._deadlines.item_ends_at(self._run)

    def put_off(self, seconds: float) -> None:
        """Put the end of the item's time off: so long it has waited for a call that was not made yet."""
        self._run.excluded += seconds

    def put_off_end(self, seconds: float) -> None:
        """The end of the item's time has been put off by a part of the call, and so is that of the call."""
        if self.reach is not None and self.reach.is_armed:
            self._put_off_seconds += seconds
            self._arm(spent_seconds=self._deadlines.clock() - self.began - self._put_off_seconds)

    def queued(self) -> Callable[[], None]:
        """A later request of the call waits for its turn: the clocks stand still until what this returns is called."""
        since = self._deadlines.clock()
        self.waits_for = "resource"
        self.end()

        def sent() -> None:
            now = self._deadlines.clock()
            self.put_off(now - since)
            self._put_off_seconds += now - since
            self.waits_for = "call"
            self._arm(spent_seconds=now - self.began - self._put_off_seconds)

        return sent

    def restart(self) -> None:
        """The item has waited for the call of another one; its own begins now."""
        self.began = self._deadlines.clock()
        if not self._step.queues:
            self._arm()

    def timeout(self, outage: Outage | None = None) -> Timeout:
        """The error of this call once its deadline has passed, in an outage or not."""
        error = self._deadlines.timeout(self._run, self._step, self.began)
        error.ambiguous, error.outage = bool(self._in_doubt), outage
        return error

    def end(self) -> None:
        """The call has ended: nothing cancels it any more."""
        if self.reach is not None:
            self.reach.disarm()

    def _arm(self, spent_seconds: float = 0.0) -> None:
        left = self._deadlines.attempt_seconds(self._run, self._step, spent_seconds)
        if left is not None and self.reach is not None:
            self.reach.arm(left)


class SharedAttempt(Attempt):
    """The part that one item has in a call that is made for several.

    The call has a deadline of its own, and so has the item: it is told, not cancelled. Its time runs while it waits for
    others to join, and while the call runs; it stands still while a batch that is due waits for its turn.
    """

    __slots__ = ("_is_sent", "_patience_seconds")

    def __init__(self, run: ItemRun, step: Step, deadlines: Deadlines) -> None:
        self._run = run
        self._step = step
        self._deadlines = deadlines
        self._is_sent = False
        self.reach = None
        self._patience_seconds = step.batch.max_wait_ms / 1e3 if step.batch is not None else 0.0
        self.began = deadlines.clock()
        self.ended = None
        self.chance = random.random
        self.waits_for = "batch"

    @property
    def ends_in_queue(self) -> bool:
        """Whether the item's time may be up before it has waited for as long as items wait for others."""
        return self.item_ends_at <= self.began + self._patience_seconds

    def restart(self) -> None:
        """The item has waited for the call of another one; its own begins now."""
        self.began = self._deadlines.clock()

    def sent(self, at: float) -> None:
        """A call for this item and others is about to be made."""
        if not self._is_sent:
            self._is_sent = True
            self._run.excluded += max(at - self.began - self._patience_seconds, 0.0)
        self.began = at
        self.waits_for = "call"

    def returned(self, at: float, chance: Callable[[], float]) -> None:
        """The call has ended, for this item for good. Items that fail together are drawn the same backoff: they come back together."""
        self.ended = at
        self.chance = chance

    def is_last(self, error: BaseException, chance: Callable[[], float]) -> bool:
        """Whether the item would not be tried again if this were how its call ended. May raise what the error's attributes raise."""
        history = CallHistory(self._run.failed_calls(self._step.position) + 1)
        decision = self._step.retry.decide(error, history, chance)
        is_retry = decision.action == "retry" and self._deadlines.leaves_time_after(self._run, decision.wait_seconds)
        return not (is_retry or decision.action in ("throttle", "stop"))

    def timeout(self, outage: Outage | None = None) -> Timeout:  # noqa: ARG002 - its call has a deadline of its own
        """The error of an item whose time is up."""
        return self._deadlines.timeout(self._run, self._step, self._deadlines.clock())
