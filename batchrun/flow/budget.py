"""What an execution may spend, and what it has spent."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
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

    Calls are counted before they are made, so that never more of them are made than the budget allows. Tokens and cost are known
    when a call has ended. A call that can say before about how much it will use reserves that, and gives it back when what it has
    really used was added. Where what is left is too little for it, it waits for the calls under way, which mostly use less than
    they might; where there are none, it goes. So a budget stops nobody before it is used up, and only the last call can go over it.
    Those that cannot say what they will use may all go over it that are in flight.

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
        self._under_way = self._expected_tokens = 0
        self._expected_cost = 0.0
        self._waiting: deque[tuple[Usage, Callable[[str | None], None]]] = deque()

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
        """Take back a reserved call: it was throttled, which is free, or not made."""
        with self._lock:
            self._calls -= 1

    def add(self, usage: Usage) -> None:
        """Count what a call says it has used."""
        with self._lock:
            self._input_tokens += usage.input_tokens
            self._output_tokens += usage.output_tokens
            self._cost += usage.cost

    def expect(self, use: Usage, decided: Callable[[str | None], None]) -> None:
        """A call that was counted is to be made, and will use about so much. They are made in the order they ask.

        Args:
            use: what it will use; must be given to `ended` if the call is made.
            decided: called once, at once or in a later call of `ended`: with null when the call may be made, else with the reason why
                not. Must not raise.
        """
        with self._lock:
            self._waiting.append((use, decided))
        self._decide()

    def ended(self, use: Usage) -> None:
        """A call has ended that was to use so much; what it has really used was added before."""
        with self._lock:
            self._under_way -= 1
            self._expected_tokens -= use.input_tokens + use.output_tokens
            self._expected_cost = self._expected_cost - use.cost if self._under_way else 0.0  # sums of fractions are not exact
        self._decide()

    def expect_no_more(self, decided: Callable[[str | None], None]) -> None:
        """A call that waits is not made after all."""
        with self._lock:
            self._waiting = deque(waiting for waiting in self._waiting if waiting[1] is not decided)
        self._decide()

    def _decide(self) -> None:
        told = list[tuple[Callable[[str | None], None], str | None]]()
        with self._lock:
            while self._waiting:
                use, decided = self._waiting[0]
                refusal = self._use_refusal()
                if refusal is None and not self._fits(use):
                    break
                self._waiting.popleft()
                told.append((decided, refusal))
                if refusal is None:
                    self._under_way += 1
                    self._expected_tokens += use.input_tokens + use.output_tokens
                    self._expected_cost += use.cost
        for decided, refusal in told:
            decided(refusal)

    def _fits(self, use: Usage) -> bool:
        """Whether a call may be made now: what is left suffices for it and those under way, or there are none."""
        most_tokens, most_cost = self._budget.max_tokens, self._budget.max_cost
        tokens = self._input_tokens + self._output_tokens + self._expected_tokens + use.input_tokens + use.output_tokens
        cost = self._cost + self._expected_cost + use.cost
        return not self._under_way or ((most_tokens is None or tokens <= most_tokens) and (most_cost is None or cost <= most_cost))

    def _refusal(self) -> str | None:
        budget = self._budget
        if budget.max_calls is not None and self._calls >= budget.max_calls:
            return _used_up(f"{budget.max_calls:,} call{'s' * (budget.max_calls != 1)}", "max_calls")
        return self._use_refusal()

    def _use_refusal(self) -> str | None:
        budget = self._budget
        if budget.max_tokens is not None and self._input_tokens + self._output_tokens >= budget.max_tokens:
            return _used_up(f"{budget.max_tokens:,} tokens", "max_tokens")
        if budget.max_cost is not None and self._cost >= budget.max_cost:
            return _used_up(f"cost {budget.max_cost:g}", "max_cost")
        return None


def _used_up(limit: str, field: str) -> str:
    return f"the budget of {limit} is used up: to go on, raise run.budget.{field} and resume"
