"""What happened to items that have ended, as events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from batchrun.core.events import Event, ItemEnded, NodeEnded
from batchrun.core.items import ItemResult
from batchrun.results.schema import ResultLayout

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def events_of(results: Sequence[ItemResult], execution_id: str, layout: ResultLayout) -> Iterator[Event]:
    """What happened to items that have ended: for each, its node executions and then its end."""
    now = datetime.now(UTC)
    for result in results:
        item, before = result.item, Counter[int]()
        for record in result.nodes:
            position, status, attempts, started, duration_ms, _, _, error, _, usage, cache_hit = record
            node_id, node_type = layout.nodes[position] if position >= 0 else layout.parts[-1 - position]
            started_at, at = _times(started, duration_ms, now)
            yield NodeEnded(
                execution_id=execution_id,
                at=at,
                item_index=item.item_index,
                source_item_id=item.id,
                node_id=node_id,
                node_type=node_type,
                occurrence=before[position],
                status=status,
                attempts=attempts,
                started_at=started_at,
                duration_ms=duration_ms,
                cache_hit=cache_hit,
                usage=usage,
                error=error,
            )
            before[position] += 1
        started_at, ended_at = _times(result.started_at, result.duration_ms, now)
        yield ItemEnded(
            execution_id=execution_id,
            at=ended_at,
            item_index=item.item_index,
            source_item_id=item.id,
            status=result.status,
            attempts=result.attempts,
            started_at=started_at,
            duration_ms=result.duration_ms,
            error=result.error,
        )


def _times(started_us: int | None, duration_ms: float, now: datetime) -> tuple[datetime | None, datetime]:
    """When it began and ended; what never began ended now."""
    if started_us is None:
        return None, now
    started_at = _EPOCH + timedelta(microseconds=started_us)
    return started_at, started_at + timedelta(milliseconds=duration_ms)
