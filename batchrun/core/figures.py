"""What a report draws of a result: a few numbers, whatever the size of the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple


class Bin(NamedTuple):
    """A bar of a histogram.

    Attributes:
        from_ms: the shortest duration in it.
        to_ms: the shortest duration that is in the next one.
        calls: node executions.
    """

    from_ms: float
    to_ms: float
    calls: int


class SlowItem(NamedTuple):
    """One of the items that took longest."""

    source_item_id: str
    status: str
    attempts: int
    duration_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Items by the time they ended at.

    Attributes:
        began_at: when the first interval begins.
        interval_seconds: how long each is.
        ended_items: items that ended in each interval, completed, failed or skipped.
        failed_items: those of them that failed.
    """

    began_at: datetime
    interval_seconds: float
    ended_items: Sequence[int]
    failed_items: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarFailures:
    """Failed items of one error type at one node, with messages that differ only in numbers, ids and quoted texts.

    Attributes:
        pattern: the message, with `…` in the place of what differs.
        examples: ids of a few of the items, each with its message.
    """

    error_type: str
    node_id: str | None
    pattern: str
    count: int
    examples: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What is drawn of one result.

    Attributes:
        throughput: null when no item has ended.
        histograms: how long the executions of each node took.
        total_rows: rows of the result.
        histogram_rows: rows that the histograms are of: fewer than all in a large result.
        slowest: the longest first.
        similar_failures: the largest group first.
        grouped_failures: failed items that were looked at for these groups.
    """

    throughput: Throughput | None
    histograms: Mapping[str, Sequence[Bin]]
    total_rows: int
    histogram_rows: int
    slowest: Sequence[SlowItem]
    similar_failures: Sequence[SimilarFailures]
    grouped_failures: int
