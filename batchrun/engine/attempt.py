"""The deadline of one call that waits on the event loop."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any

import anyio

from batchrun.core.errors import Timeout
from batchrun.engine.deadlines import Deadlines
from batchrun.engine.failures import is_abort
from batchrun.engine.item_run import ItemRun
from batchrun.workflow.plan import Step

_MOST_CANCELLATIONS = 100  # one comes with each turn of the event loop until the call ends; cleaning up takes a few


@types.coroutine
def stoppable(call: Coroutine[Any, Any, Any], is_over: Callable[[], bool]) -> Generator[Any, Any, Any]:
    """Await a call of a user, and give it up when it is over and the call swallows its cancellation again and again.

    Without this, one `while True` around an `except BaseException` would keep its item, and with it the run, for ever.
    """
    swallowed = 0
    try:
        awaited = call.send(None)
        while True:
            try:
                value = yield awaited
            except GeneratorExit:
                raise
            except BaseException as error:  # also what is awaited failed with
                swallowed += isinstance(error, asyncio.CancelledError) and is_over()
                if swallowed > _MOST_CANCELLATIONS:
                    with suppress(BaseException):  # a call that does not even let itself be closed is left where it is
                        call.close()
                    raise
                awaited = call.throw(error)
            else:
                awaited = call.send(value)
    except StopIteration as end:
        return end.value


def is_for_us(error: BaseException) -> bool:
    """Whether an exception ends the task, not the call: it comes from us, not from the code of a node that raised it on its own."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0  # else only something that the call awaits was cancelled
    return is_abort(error) or isinstance(error, GeneratorExit)


class Attempt:
    """One call: when it began, and the timer that cancels it.

    The timer is a plain one: `anyio.fail_after` costs ten times as much, on every call.

    Attributes:
        began: engine clock when the call was made, or when its request was sent.
        cancel_scope: what the call runs in.
    """

    __slots__ = ("_deadlines", "_in_doubt", "_run", "_step", "_timer", "began", "cancel_scope")

    def __init__(self, run: ItemRun, step: Step, deadlines: Deadlines) -> None:
        self._run = run
        self._step = step
        self._deadlines = deadlines
        self._in_doubt = False
        self._timer: asyncio.TimerHandle | None = None
        self.began = deadlines.clock()
        self.cancel_scope = anyio.CancelScope()
        if not step.queues:
            self._arm()

    def sending(self, *, in_doubt: bool) -> None:
        """A request that may have waited for its turn is about to be sent: the clocks of attempt and item start here."""
        now = self._deadlines.clock()
        self._run.excluded += now - self.began
        self.began = now
        self._in_doubt = in_doubt
        self._arm()

    def timeout(self) -> Timeout:
        """The error of this call once its deadline has passed."""
        error = self._deadlines.timeout(self._run, self._step, self.began)
        error.ambiguous = self._in_doubt
        return error

    def end(self) -> None:
        """The call has ended: nothing cancels it any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        self.end()
        left = self._deadlines.attempt_seconds(self._run, self._step)
        if left is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(loop.time() + left, self.cancel_scope.cancel)
