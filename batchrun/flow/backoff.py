"""How long to wait before the next attempt."""

from __future__ import annotations

from batchrun.core.policies import Backoff


def backoff_seconds(backoff: Backoff, failures: int, chance: float) -> float:
    """The wait after the given number of failures: full jitter.

    The limit grows as `initial · multiplier^(failures - 1)` up to `max`; the wait is drawn evenly from 0 to the limit,
    so that many callers that failed together never come back together, however often they fail.
    (Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.)

    Args:
        backoff: the policy.
        failures: how often the call failed, 1 after the first attempt.
        chance: a random number from 0 up to 1.

    Returns:
        Seconds.

    Example:
        >>> backoff_seconds(Backoff(initial_seconds=1, max_seconds=10, multiplier=2), 3, 0.5)
        2.0
    """
    try:
        limit = backoff.initial_seconds * backoff.multiplier ** (failures - 1)
    except OverflowError:
        limit = backoff.max_seconds if backoff.initial_seconds else 0.0
    return chance * min(limit, backoff.max_seconds)
