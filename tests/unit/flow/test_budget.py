from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from batchrun.core.items import Usage
from batchrun.core.policies import Budget
from batchrun.flow.budget import Spending, Spent


def test_calls_are_exact_whatever_threads_reserve_them() -> None:
    """A budget of calls is a promise: not one more, also when all lanes ask at once."""
    spending = Spending(Budget(max_calls=1_000))
    with ThreadPoolExecutor(8) as pool:
        refusals = list(pool.map(lambda _: spending.reserve(), range(1_500)))
    assert refusals.count(None) == 1_000
    assert spending.spent == Spent(calls=1_000)
    assert set(refusals) == {None, "the budget of 1,000 calls is used up: to go on, raise run.budget.max_calls and resume"}


@pytest.mark.parametrize(
    ("budget", "refusal"),
    [
        (Budget(max_calls=1), "the budget of 1 call is used up: to go on, raise run.budget.max_calls and resume"),
        (Budget(max_calls=0), "the budget of 0 calls is used up: to go on, raise run.budget.max_calls and resume"),
        (Budget(max_tokens=1_000), "the budget of 1,000 tokens is used up: to go on, raise run.budget.max_tokens and resume"),
        (Budget(max_cost=0.5), "the budget of cost 0.5 is used up: to go on, raise run.budget.max_cost and resume"),
        (Budget(max_calls=2, max_tokens=1_001, max_cost=0.51), None),
        (Budget(), None),
    ],
)
def test_a_refusal_names_the_limit_that_is_reached(budget: Budget, refusal: str | None) -> None:
    """Whoever finds the execution paused knows which number to raise; what earlier runs spent counts, too."""
    spending = Spending(budget, Spent(calls=1, input_tokens=300, output_tokens=600))
    spending.add(Usage(input_tokens=100, cost=0.5))
    assert spending.spent == Spent(calls=1, input_tokens=400, output_tokens=600, cost=0.5)
    assert spending.reserve() == refusal
    assert spending.is_limited is (budget != Budget())


def test_a_refunded_call_can_be_made_again() -> None:
    """Being throttled costs nothing."""
    spending = Spending(Budget(max_calls=1))
    assert spending.reserve() is None
    spending.refund()
    assert spending.reserve() is None
    assert spending.reserve() is not None
