"""What tokens cost."""

from __future__ import annotations

import pytest

from batchrun.core.checks import InvalidFields
from batchrun.core.prices import Price


def test_cached_tokens_may_have_a_price_of_their_own() -> None:
    """Most services take less for what they know already."""
    assert Price(input_per_million=2, output_per_million=8).cost(1_000_000, 500_000, 400_000) == 6.0
    assert Price(input_per_million=2, output_per_million=8, cached_input_per_million=0.5).cost(1_000_000, 500_000, 400_000) == 5.4


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_a_price_is_a_number(wrong: float) -> None:
    """A budget could never be reached with one that is none."""
    with pytest.raises(InvalidFields, match="output_per_million: must be a number ≥ 0"):
        Price(input_per_million=1, output_per_million=wrong)
