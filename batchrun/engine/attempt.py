"""The deadline of one call that waits on the event loop."""

from __future__ import annotations

import asyncio

import anyio

from batchrun.core.errors import Timeout
from batchrun.engine.deadlines import Deadlines
from batchrun.engine.item_run import ItemRun
from batchrun.workflow.plan import Step


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
        error = self._deadlines.timeout(self._run, self._step)
        error.ambiguous = self._in_doubt
        return error

    def end(self) -> None:
        """The call has ended."""
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        left = self._deadlines.attempt_seconds(self._run, self._step)
        if left is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(loop.time() + left, self.cancel_scope.cancel)
