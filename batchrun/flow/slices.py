"""How many items a worker process is given: enough to keep it busy, and so few that all of them end together."""

from __future__ import annotations

from math import ceil

LARGEST_SLICE = 2_048
"""Items; more would not make anything faster."""

_SECONDS = 0.1
_MOST_GROWTH = 4.0


def next_slice(items: int, seconds: float) -> int:
    """How many items to give to a worker that was through with so many in that time.

    Example:
        >>> next_slice(16, 0.01), next_slice(16, 0.1), next_slice(16, 100.0)
        (64, 16, 4)
    """
    growth = _SECONDS / max(seconds, _SECONDS / 1000)
    return max(1, min(LARGEST_SLICE, round(items * min(max(growth, 1 / _MOST_GROWTH), _MOST_GROWTH))))


def shares(parallelism: int, workers: int) -> list[int]:
    """How many items each of so many workers works on at once, of which there are at least as many; else each on one.

    Example:
        >>> shares(8, 2), shares(5, 3), shares(1, 2)
        ([4, 4], [1, 2, 2], [1, 1])
    """
    return [max(1, (parallelism + worker) // workers) for worker in range(workers)]


def fair_slice(items: int, left: int, workers: int) -> int:
    """The same when so many items are left for so many workers: none gets what would keep it busy after the others.

    Example:
        >>> fair_slice(64, 1_000, 2), fair_slice(64, 100, 2), fair_slice(64, 0, 2)
        (64, 25, 1)
    """
    return max(1, min(items, ceil(left / (2 * workers))))
