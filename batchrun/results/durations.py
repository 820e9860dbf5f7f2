"""How long node executions take: counted in buckets, so that ten million of them need no more memory than a thousand.

A bucket is a 24th of a decade wide. A percentile is the geometric middle of its bucket, which is at most 4.9 % away from the true one.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

import pyarrow as pa
import pyarrow.compute as pc

BUCKETS_PER_DECADE = 24

# Arrow scalars, because a plain number makes pyarrow look for numpy on the disk, every time.
_SHORTEST_MS = pa.scalar(1e-6)
_PER_DECADE = pa.scalar(float(BUCKETS_PER_DECADE))

_BOUNDS = {
    bucket: float(f"{10 ** (bucket / BUCKETS_PER_DECADE - 3):.4g}")
    for bucket in range(-2 * BUCKETS_PER_DECADE, 6 * BUCKETS_PER_DECADE + 1, BUCKETS_PER_DECADE // 3)
}
"""Buckets and where they begin, in seconds."""


def buckets_of(durations_ms: pa.Array) -> pa.Array:
    """The bucket of each duration, a whole number.

    Example:
        >>> buckets_of(pa.array([1.0, 10.0, 0.0])).to_pylist()
        [0, 24, -144]
    """
    return pc.floor(pc.multiply(pc.log10(pc.max_element_wise(durations_ms, _SHORTEST_MS)), _PER_DECADE)).cast(pa.int16())


def percentile(buckets: Mapping[int, int], share: float, longest_ms: float) -> float:
    """The duration that so many of the executions did not exceed, in milliseconds; 0 when there were none.

    Args:
        buckets: how many executions there are in each bucket.
        share: 0.95 for the 95th percentile.
        longest_ms: the longest duration of all; no percentile is above it.

    Example:
        >>> round(percentile({0: 98, 24: 2}, 0.95, 10.3), 2), percentile({0: 98, 24: 2}, 0.99, 10.3)
        (1.05, 10.3)
    """
    rank = ceil(share * sum(buckets.values()))
    for bucket in sorted(buckets):
        rank -= buckets[bucket]
        if rank <= 0:
            return float(min(10 ** ((bucket + 0.5) / BUCKETS_PER_DECADE), longest_ms))
    return 0.0


def cumulated(buckets: Mapping[int, int]) -> list[tuple[float, int]]:
    """How many executions took less than 10 µs, 20 µs, 50 µs and so on to 1,000 s, roughly: three exact bounds in each decade.

    Returns:
        pairs of a bound in seconds and a count.

    Example:
        >>> cumulated({0: 98, 24: 2})[6:10]
        [(0.001, 0), (0.002154, 98), (0.004642, 98), (0.01, 98)]
    """
    return [(seconds, sum(count for bucket, count in buckets.items() if bucket < bound)) for bound, seconds in _BOUNDS.items()]
