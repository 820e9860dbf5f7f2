"""What an execution may spend, and what it has spent."""

from __future__ import annotations

from threading import Lock
from typing import NamedTuple

from batchrun.core.items import Usage
from batchrun.core.policies import Budget


class Spent(NamedTuple):
    """What an execution has spent, over all its resumes.

    Attributes:
        calls: calls of nodes that were not throttled; counted while the budget limits anything.
        cost: in the unit of the budget.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0


class Spending:
    """Counts what an execution spends against its budget. Any thread may call any method.

    Calls are counted before they are made, so that never more of them are made than the budget allows. What they use is
    known when they have ended: tokens and cost may go over their limits by what the calls in flight use.

    Args:
        budget: the limits.
        spent: what was spent before.

    Example:
        >>> spending = Spending(Budget(max_calls=1))
        >>> spending.reserve()
        >>> spending.reserve()
        'the budget of 1 call is used up: to go on, raise run.budget.max_calls and resume'
    """

    def __init__(self, budget: Budget, spent: Spent = Spent()) -> None:  # noqa: B008 - a tuple
        self._budget = budget
        self._calls, self._input_tokens, self._output_tokens, self._cost = spent
        self._lock = Lock()

    @property
    def spent(self) -> Spent:
        """What was spent so far, calls in flight included."""
        with self._lock:
            return Spent(self._calls, self._input_tokens, self._output_tokens, self._cost)

    @property
    def is_limited(self) -> bool:
        """Whether the budget has any limit; without one, nobody needs to reserve."""
        return self._budget != Budget()

    def reserve(self) -> str | None:
        """Count a call that is about to be made. Returns why it must not be made, naming the limit; null: it may."""
        with self._lock:
            refusal = self._refusal()
            if refusal is None:
                self._calls += 1
            return refusal

    def refund(self) -> None:
        """Take back a reserved call: it was throttled, which is free."""
        with self._lock:
            self._calls -= 1

    def add(self, usage: Usage) -> None:
        """Count what a call says it has used."""
        with self._lock:
            self._input_tokens += usage.input_tokens
            self._output_tokens += usage.output_tokens
            self._cost += usage.cost

    def _refusal(self) -> str | None:
        budget = self._budget
        if budget.max_calls is not None and self._calls >= budget.max_calls:
            return _used_up(f"{budget.max_calls:,} call{'s' * (budget.max_calls != 1)}", "max_calls")
        if budget.max_tokens is not None and self._input_tokens + self._output_tokens >= budget.max_tokens:
            return _used_up(f"{budget.max_tokens:,} tokens", "max_tokens")
        if budget.max_cost is not None and self._cost >= budget.max_cost:
            return _used_up(f"cost {budget.max_cost:g}", "max_cost")
        return None


def _used_up(limit: str, field: str) -> str:
    return f"the budget of {limit} is used up: to go on, raise run.budget.{field} and resume"
