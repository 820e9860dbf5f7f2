"""Telling a dead process from a live one by its heartbeats, without trusting any clock for long."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

SILENCE_SECONDS = 30.0
"""A process that has not been heard of for this long is dead."""

_LARGEST_ADVANCE = timedelta(days=1)
_WATCHED_SECONDS = 2 * SILENCE_SECONDS  # who waits for an end may look as rarely as every 30 seconds


class _Seen(NamedTuple):
    """What was seen of an execution, by the clock of the observer.

    Attributes:
        heartbeat_at: its last heartbeat.
        first_seconds: when this heartbeat was seen first.
        last_seconds: when it was seen last.
        moved_after_seconds: an earlier heartbeat was still the last one then; null: none was seen.
    """

    heartbeat_at: datetime
    first_seconds: float
    last_seconds: float
    moved_after_seconds: float | None


class Pulses:
    """Remembers the heartbeats of executions, and judges which of them are alive.

    Heartbeats carry the time of another machine, whose clock may be wrong, as may the one here, and either may be set. At
    first sight there is nothing else to go by. From then on it counts whether heartbeats come while they are being watched.

    Args:
        clock: seconds; never goes back.

    Example:
        >>> pulses = Pulses(clock=lambda: 0.0)
        >>> now = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)
        >>> pulses.is_alive("one", now - timedelta(seconds=29), now), pulses.is_alive("two", now - timedelta(seconds=31), now)
        (True, False)
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    def is_alive(self, execution_id: str, heartbeat_at: datetime, now: datetime | None = None) -> bool:
        """Whether the process that sent this heartbeat is alive.

        At first sight: when the heartbeat is less than 30 seconds old. One from the future, up to a day, counts as new until it
        has been watched for 30 seconds without another one. Where one followed another within a minute of watching, the process
        is alive, whatever their times are.

        Args:
            execution_id: whose heartbeat it is.
            heartbeat_at: its last one, by the clock of its machine.
            now: the time here; null: that of the clock.
        """
        at = self._clock()
        before = self._seen.get(execution_id)
        if before is None:
            seen = _Seen(heartbeat_at, at, at, None)
        elif before.heartbeat_at == heartbeat_at:
            seen = before._replace(last_seconds=at)
        else:
            seen = _Seen(heartbeat_at, at, at, before.last_seconds)
        self._seen[execution_id] = seen
        if seen.moved_after_seconds is not None and at - seen.moved_after_seconds < _WATCHED_SECONDS:
            return True
        is_new = -_LARGEST_ADVANCE < (now or datetime.now(UTC)) - heartbeat_at < timedelta(seconds=SILENCE_SECONDS)
        return is_new and at - seen.first_seconds < SILENCE_SECONDS
