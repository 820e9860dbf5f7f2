"""Calls of plain functions for items that wait for one another: on the event loop they would stop everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from batchrun.engine.attempt import Outcome, SharedError
from batchrun.engine.batch_calls import ThreadCalls
from batchrun.workflows.plan import Step
from batchrun.workflows.scope import Scope


class Threads:
    """The threads of one execution in which such calls are made; all methods are called on the event loop.

    There are as many as there are calls at once: one for each item that has a slot, more where nodes of an item run together.

    Args:
        on_abandoned: called when the item of a call is stopped, and its thread left to itself.
    """

    def __init__(self, on_abandoned: Callable[[Step], None]) -> None:
        self._on_abandoned = on_abandoned
        self._calls = ThreadCalls("call")
        self._at_work = 0

    @property
    def is_busy(self) -> bool:
        """Whether a call that somebody waits for is being made."""
        return self._at_work > 0

    @property
    def abandoned_count(self) -> int:
        """Threads that were left to themselves and have still not come back."""
        return self._calls.abandoned_count

    async def call(self, step: Step, scope: Scope) -> Any:
        """The output of a node, whose call is a plain function, for one item."""
        seen = Scope(scope.item, scope.outputs)  # that of the item may change once it has gone on without the call
        seen.inputs, seen.call_key, seen.context = scope.inputs, scope.call_key, scope.context
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._at_work += 1
        running = self._calls.begin(partial(step.call, seen), lambda value: value, lambda outcome: _tell(answer, outcome))
        try:
            outcome = await answer
        finally:
            self._at_work -= 1
            if not answer.done() or answer.cancelled():
                answer.cancel()
                running.give_up(asyncio.CancelledError())
                self._on_abandoned(step)
        if outcome.error is not None:
            raise SharedError(outcome.error) from outcome.error
        return outcome.value

    async def close(self) -> None:
        """End the threads that have nothing to do."""
        await self._calls.close()


def _tell(answer: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not answer.done():
        answer.set_result(outcome)
