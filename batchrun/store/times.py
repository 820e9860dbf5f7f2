"""Points in time as people type them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta

from batchrun.core.errors import BatchrunError

_SECONDS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_AGO = re.compile(r"(?:now\(\)\s*-\s*)?((?:[0-9]+[wdhms])+)")
_PART = re.compile(r"([0-9]+)([wdhms])")
_DAYS_AGO = {"today": 0, "yesterday": 1}


class NotAMoment(BatchrunError):
    """A text is no point in time. The message lists the forms that are."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"{text!r} is not a time; allowed are a time ago (90s, 30m, 12h, 7d, 2w, 1d12h, now()-7d), now(), today, yesterday, "
            "a date (2026-11-01) and a time (2026-11-01T09:30, 2026-11-01T09:30:00Z; without a zone: local time)"
        )


def moment(text: str, now: datetime | None = None) -> datetime:
    """The point in time that a text means, in UTC.

    Args:
        text: `7d`, `1d12h`, `now()`, `now()-7d`, `today`, `yesterday`, or an ISO date or time. Units are weeks, days of
            24 hours, hours, minutes and seconds; days that are named begin at midnight, local time.
        now: what "now" is, without a zone local time; null: the time of the clock.

    Raises:
        NotAMoment: the text has none of these forms, or lies outside the years 1 to 9999.

    Example:
        >>> moment("now()-1d12h", datetime(2026, 11, 3, 12, tzinfo=UTC))
        datetime.datetime(2026, 11, 2, 0, 0, tzinfo=datetime.timezone.utc)
    """
    now = now or datetime.now(UTC)
    typed = text.strip().lower()
    try:
        if typed == "now()":
            return now.astimezone(UTC)
        if typed in _DAYS_AGO:
            day = now.astimezone().date() - timedelta(days=_DAYS_AGO[typed])
            return datetime.combine(day, time()).astimezone(UTC)
        if ago := _AGO.fullmatch(typed):
            seconds = sum(int(count) * _SECONDS[unit] for count, unit in _PART.findall(ago[1]))
            return now.astimezone(UTC) - timedelta(seconds=seconds)
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise NotAMoment(text) from error
