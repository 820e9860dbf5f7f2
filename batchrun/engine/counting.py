"""Counting calls against a budget, before they are made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any

from batchrun.core.items import Usage
from batchrun.flow.budget import Spending
from batchrun.workflows.decisions import StoppedAtRest
from batchrun.workflows.plan import Step
from batchrun.workflows.scope import Scope


class BudgetUsedUpError(Exception):
    """Raised in place of a call that the budget does not allow."""


class Limits:
    """What calls are counted against.

    Args:
        spending: counts them.
        resting: see `Scope`.
    """

    def __init__(self, spending: Spending, resting: Callable[[], AbstractContextManager[None]]) -> None:
        self.spending = spending
        self._resting = resting

    def counted(self, call: Callable[[Scope], Any], step: Step) -> Callable[[Scope], Any]:
        """A call of a node that is counted before it is made."""
        spending = self.spending

        def reserve() -> None:
            refusal = spending.reserve()
            if refusal is not None:
                raise BudgetUsedUpError(refusal)

        def made(scope: Scope) -> Any:
            reserve()
            return call(scope)

        async def sent(scope: Scope) -> Any:
            reserve()
            scope.expecting = self.expecting
            try:
                return await call(scope)
            except (BudgetUsedUpError, StoppedAtRest, asyncio.CancelledError):
                if not scope.sharing.was_sent:
                    spending.refund()
                raise

        return sent if step.queues else made

    @asynccontextmanager
    async def expecting(self, use: Usage) -> AsyncIterator[None]:
        """See `Scope`."""
        turn: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        decided = turn.set_result
        self.spending.expect(use, decided)
        try:
            if not turn.done():
                with self._resting():
                    await asyncio.wait([turn])
            refusal = turn.result()
            if refusal is not None:
                raise BudgetUsedUpError(refusal)
            yield
        finally:
            if not turn.done():
                self.spending.expect_no_more(decided)
            elif turn.result() is None:
                self.spending.ended(use)
