"""What many items take, as a sample of them tells.

The interval is a bootstrap: the sample is drawn again from itself, with replacement, a thousand times or fewer, and each time it is
reckoned what the rest would take; 95 % of these sums lie between its ends. Two things widen it: a small sample shows less than it should
of how different items are, and the rest is itself a draw. What no item of the sample has done, no interval knows of.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from batchrun.core.plans import Range

_DRAWS = 1_000
_MOST_WORK = 400_000  # items looked at in all draws together, for samples of thousands
_FEWEST_DRAWS = 100
_TAIL_RATIO = 0.025


class Bound(NamedTuple):
    """Something that keeps items from being faster.

    Attributes:
        name: for people.
        amount: which amount of the items it is about.
        per_second: how much of that is done in a second.
    """

    name: str
    amount: str
    per_second: float


class Extrapolation(NamedTuple):
    """What the rest takes.

    Attributes:
        amounts: by their names.
        seconds: the time of the bound that takes longest.
        bounded_by: its name.
    """

    amounts: Mapping[str, Range]
    seconds: Range
    bounded_by: str


def extrapolate(sample: Sequence[Mapping[str, float]], bounds: Sequence[Bound], rest_items: int, seed: int = 0) -> Extrapolation:
    """What other items take, given what those of a sample took.

    Args:
        sample: the amounts of each item, by name; one that an item lacks is 0. At least one item.
        bounds: the first one wins a tie. At least one.
        rest_items: how many other items there are.
        seed: of the draws.

    Example:
        >>> bounds = [Bound("run.parallelism: 4", "busy seconds", 4)]
        >>> extrapolate([{"busy seconds": 2.0}] * 10, bounds, 100).seconds
        Range(low=50.0, expected=50.0, high=50.0)
    """
    names = sorted({name for item in sample for name in item} | {bound.amount for bound in bounds})
    columns = {name: [item.get(name, 0.0) for item in sample] for name in names}
    scale = rest_items / len(sample)
    expected = {name: math.fsum(values) * scale for name, values in columns.items()}
    longest = max(bounds, key=lambda bound: expected[bound.amount] / bound.per_second)
    drawn: dict[str, list[float]] = {name: [] for name in names}
    seconds: list[float] = []
    positions, draw = range(len(sample)), random.Random(seed)  # noqa: S311 - not for secrets
    for _ in range(_draws_of(len(sample))):
        chosen = draw.choices(positions, k=len(sample))
        sums = {name: math.fsum([values[at] for at in chosen]) * scale for name, values in columns.items()}
        for name, value in sums.items():
            drawn[name].append(value)
        seconds.append(max(sums[bound.amount] / bound.per_second for bound in bounds))
    widening = _widening(len(sample), rest_items)
    return Extrapolation(
        {name: _interval(expected[name], values, widening) for name, values in drawn.items()},
        _interval(expected[longest.amount] / longest.per_second, seconds, widening),
        longest.name,
    )


def most_at_once(intervals: Iterable[tuple[float, float]]) -> int:
    """The most intervals of start and stop that share an instant.

    Example:
        >>> most_at_once([(0, 2), (1, 3), (2, 4)])
        2
    """
    at_once = most = 0
    for _, step in sorted(change for start, stop in intervals for change in ((start, 1), (max(stop, start), -1))):
        at_once += step
        most = max(most, at_once)
    return max(most, 1)


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """How long at least one of the intervals lasts.

    Example:
        >>> covered([(0.0, 2.0), (1.0, 3.0), (5.0, 6.0)])
        4.0
    """
    total, until = 0.0, -math.inf
    for start, stop in sorted(intervals):
        total += max(stop - max(start, until), 0.0)
        until = max(until, stop)
    return total


def _draws_of(items: int) -> int:
    return max(_FEWEST_DRAWS, min(_DRAWS, _MOST_WORK // items))


def _widening(items: int, rest_items: int) -> float:
    """What the distance of the ends from the middle grows by."""
    return math.sqrt(items / max(items - 1, 1) * (1 + items / max(rest_items, 1)))


def _interval(expected: float, drawn: list[float], widening: float) -> Range:
    ordered = sorted(drawn)
    at = int(_TAIL_RATIO * len(ordered))
    low, high = (expected + (end - expected) * widening for end in (ordered[at], ordered[-1 - at]))
    return Range(low=max(min(low, expected), 0.0), expected=expected, high=max(high, expected))
