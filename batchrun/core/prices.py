"""What the tokens of models cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from batchrun.core.checks import problem, refuse


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What tokens of a model cost, in the unit of `run.budget.max_cost`."""

    input_per_million: float
    """Of a million tokens that are sent."""
    output_per_million: float = 0.0
    """Of a million tokens that are answered."""
    cached_input_per_million: float | None = None
    """Of a million tokens that are sent and that the service has in its own cache; null: the same as of others."""

    def __post_init__(self) -> None:
        prices = (self.input_per_million, self.output_per_million, self.cached_input_per_million or 0.0)
        refuse(
            *(
                problem(name, None if math.isfinite(price) and price >= 0 else f"must be a number ≥ 0, got {price:g}")
                for name, price in zip(("input_per_million", "output_per_million", "cached_input_per_million"), prices, strict=True)
            )
        )

    def cost(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> float:
        """What a call costs.

        Args:
            input_tokens: tokens sent.
            output_tokens: tokens answered.
            cached_tokens: those of the tokens sent that the service had in its cache.

        Example:
            >>> Price(input_per_million=2.0, output_per_million=8.0).cost(1_000, 500)
            0.006
        """
        cached_price = self.input_per_million if self.cached_input_per_million is None else self.cached_input_per_million
        fresh = max(input_tokens - cached_tokens, 0)
        total = fresh * self.input_per_million + cached_tokens * cached_price + output_tokens * self.output_per_million
        return total / 1_000_000
