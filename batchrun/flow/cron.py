"""Times of cron expressions in time zones, right over changes of the clock.

`cronsim` reads the expression and finds matching wall-clock times; zones are left to this module. Measured (2026-11): croniter 7.0 fires
`30 2 * * *` twice when clocks go back, APScheduler 3 repeats it and takes weekday 1 for Tuesday. cronsim 2.8 fires it once, but by itself
loses firings where clocks move by half an hour (`*/10 2 * * *` at Lord Howe), and gives a time that is over when asked in the
hour that happens twice.

The rule is that of Debian's cron. An expression whose minutes and hours are both given (`30 2 * * *`) fires once a day for each of its
times: a time that is left out fires when the clock has moved on, one that happens twice fires the first time. Where minutes or hours
begin with a star (`*/15 * * * *`), it fires at every real minute that matches.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from batchrun.core.errors import known_values
from batchrun.core.schedules import ScheduleError

_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_SECOND = timedelta(seconds=1)
_STEP = timedelta(hours=6)  # no zone changes its clock twice within that
_FIELDS = "minute hour day month weekday"


class BadCron(ScheduleError):
    """A text is no cron expression, or names no time zone. The message says what is allowed."""


class Cron:
    """The times of a cron expression.

    Args:
        text: five fields, or an alias such as `@daily`; Sunday is 0 and 7. When both day and weekday are given, either one will do.
        timezone: the zone the fields are about.

    Raises:
        BadCron: the text is no such expression or never matches, or there is no such zone.

    Example:
        >>> Cron("30 2 * * *", "Europe/Berlin").after(datetime(2026, 3, 29, tzinfo=UTC))
        datetime.datetime(2026, 3, 29, 1, 0, tzinfo=datetime.timezone.utc)
    """

    def __init__(self, text: str, timezone: str = "UTC") -> None:
        self._zone = _zone(timezone)
        self._text = _ALIASES.get(text.strip().lower(), text)
        fields = self._text.split()
        if len(fields) != 5:
            aliases = ", ".join(_ALIASES)
            raise BadCron(f"{text!r} is no cron expression: it has five fields, {_FIELDS}, as in '30 2 * * *', or is one of {aliases}")
        try:
            next(CronSim(self._text, datetime(2024, 1, 1)))  # noqa: DTZ001 - wall-clock time, as everywhere in this class
        except CronSimError as error:
            raise BadCron(f"{text!r} is no cron expression ({error}); its fields are {_FIELDS}, as in '*/15 8-18 * * mon-fri'") from None
        except StopIteration:
            raise BadCron(f"{text!r} never comes: no day is both; change the day or the month") from None
        self._is_fixed = not fields[0].startswith("*") and not fields[1].startswith("*")

    def after(self, at: datetime) -> datetime:
        """The first time after this one, in UTC.

        Walks from one change of the clock to the next; between two of them, wall-clock time is as even as UTC.
        """
        begin = at.astimezone(UTC).replace(microsecond=0)
        offset = self._offset(begin)
        wall = begin.replace(tzinfo=None) + offset
        while True:
            wall = next(CronSim(self._text, wall))
            time = max(begin, (wall - offset).replace(tzinfo=UTC))  # earlier: a time that was left out
            change = self._change(begin, time, offset)
            if change is None:
                if self._is_fixed and wall.replace(tzinfo=self._zone).astimezone(UTC) < time - _SECOND:
                    continue  # it happens for the second time
                return time
            begin, before, offset = change, offset, self._offset(change)
            moved_on = offset > before and self._is_fixed
            wall = change.replace(tzinfo=None) + (before if moved_on else offset) - _SECOND

    def latest(self, first: datetime, until: datetime) -> datetime:
        """The last time that is not after `until`.

        Args:
            first: a time of this expression.
            until: not before it.
        """
        until = until.astimezone(UTC)
        span = timedelta(minutes=2)
        while until - span > first and self.after(until - span) > until:
            span *= 2
        time = self.after(until - span) if until - span > first else first
        while (later := self.after(time)) <= until:
            time = later
        return time

    def _offset(self, at: datetime) -> timedelta:
        return at.astimezone(self._zone).utcoffset() or timedelta()

    def _change(self, begin: datetime, end: datetime, offset: timedelta) -> datetime | None:
        """The first moment of another offset, after `begin` and not after `end`."""
        low = begin
        while low < end:
            high = min(low + _STEP, end)
            if self._offset(high) != offset:
                while high - low > _SECOND:
                    middle = low + timedelta(seconds=(high - low) // _SECOND // 2)
                    low, high = (low, middle) if self._offset(middle) != offset else (middle, high)
                return high
            low = high
        return None


def jitter(name: str, due_at: datetime, most_seconds: float) -> timedelta:
    """How much later a firing begins: less than `most_seconds`, always the same for the same time of the same schedule."""
    digest = hashlib.sha256(f"{name} {due_at.timestamp():.0f}".encode()).digest()
    return timedelta(seconds=most_seconds * int.from_bytes(digest[:6]) / 2**48)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # no such zone, a path that leads elsewhere, a folder
        raise BadCron(f"unknown time zone {name!r}; {known_values(name, sorted(available_timezones()), kind='zones')}") from None
