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


def asked(spending: Spending, use: Usage) -> list[str | None]:
    """What a call is told that is to use so much; nothing while it waits."""
    told = list[str | None]()
    spending.expect(use, told.append)
    return told


@pytest.mark.parametrize(
    ("budget", "use"), [(Budget(max_tokens=1_000), Usage(100, 300, 0.0)), (Budget(max_cost=1.0), Usage(1, 1, 0.4))], ids=["tokens", "cost"]
)
def test_a_call_waits_where_what_is_left_may_not_suffice(budget: Budget, use: Usage) -> None:
    """Those under way may use all that they have reserved; when they use less, the next ones go, in the order they came."""
    spending = Spending(budget)
    first, second, third, fourth = (asked(spending, use) for _ in range(4))
    assert (first, second, third, fourth) == ([None], [None], [], [])
    spending.add(Usage(10, 10, 0.02))
    spending.ended(use)
    assert (third, fourth) == ([None], [])
    spending.ended(use)
    assert fourth == [None]


def test_a_call_goes_when_no_other_is_under_way_and_anything_is_left() -> None:
    """It may use less than it might: no run is stopped whose real use fits. What is used up is used up, for all that wait."""
    spending, use = Spending(Budget(max_tokens=1_000)), Usage(0, 5_000, 0.0)
    told = [asked(spending, use) for _ in range(4)]
    for number in range(3):
        assert [each for each in told if each] == [[None]] * (number + 1)
        spending.add(Usage(0, 333 + (number == 2), 0.0))
        spending.ended(use)
    refusal = "the budget of 1,000 tokens is used up: to go on, raise run.budget.max_tokens and resume"
    assert told[3] == [refusal] and asked(spending, Usage(0, 0, 0.0)) == [refusal]
    assert spending.spent == Spent(output_tokens=1_000)


def test_a_call_that_is_not_made_after_all_keeps_nobody_waiting() -> None:
    """Items are given up while they wait; those behind them may need less."""
    spending, told = Spending(Budget(max_tokens=1_000)), list[str | None]()
    assert asked(spending, Usage(0, 900, 0.0)) == [None]
    spending.expect(Usage(0, 500, 0.0), given_up := told.append)
    small = asked(spending, Usage(0, 100, 0.0))
    assert small == []
    spending.expect_no_more(given_up)
    assert (small, told) == ([None], [])


def test_a_refunded_call_can_be_made_again() -> None:
    """Being throttled costs nothing."""
    spending = Spending(Budget(max_calls=1))
    assert spending.reserve() is None
    spending.refund()
    assert spending.reserve() is None
    assert spending.reserve() is not None
