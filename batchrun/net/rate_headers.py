"""What services say about their limits in the headers of an answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from batchrun.net.failures import date_of

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_NUMBER = re.compile(r"\d{1,15}(\.\d{1,9})?")
_MOMENT_SECONDS = 1e9  # larger numbers are seconds since 1970
_LONGEST_SECONDS = timedelta(days=1).total_seconds()


@lru_cache(maxsize=32)
def tell_limits(names: frozenset[bytes]) -> bool:
    """Whether headers with these names, in lower case, say anything about limits."""
    return any(b"atelimit" in name for name in names)


def used_up_seconds(headers: Sequence[tuple[bytes, bytes]]) -> float:
    """How long a service takes no more calls, going by its rate-limit headers; 0: it takes some, or does not say.

    Known are `ratelimit-remaining` with `ratelimit-reset`, the same with `x-` or the name of a provider in front and the name of
    what is limited at the end (`x-ratelimit-remaining-requests`) or in the middle (`…-ratelimit-requests-remaining`). A reset is
    a number of seconds, a duration such as `6m0s` or `250ms`, seconds since 1970, or a date.

    Example:
        >>> used_up_seconds([(b"x-ratelimit-remaining-requests", b"0"), (b"x-ratelimit-reset-requests", b"1m2s")])
        62.0
    """
    told = {name.lower(): value.strip() for name, value in headers if b"atelimit" in name.lower()}
    if not told:
        return 0.0
    now = next((date_of(value.decode("latin-1")) for name, value in headers if name.lower() == b"date"), None) or datetime.now(UTC)
    return max((_reset_seconds(told, name, now) for name, value in told.items() if b"remaining" in name and value == b"0"), default=0.0)


def _reset_seconds(told: Mapping[bytes, bytes], name: bytes, now: datetime) -> float:
    text = told.get(name.replace(b"remaining", b"reset"), b"").decode("latin-1")
    if _NUMBER.fullmatch(text):
        number = float(text)
        seconds = number - now.timestamp() if number > _MOMENT_SECONDS else number
    elif text and (match := _DURATION.fullmatch(text)):
        hours, minutes, whole, thousandths = (float(part or 0) for part in match.groups())
        seconds = hours * 3_600 + minutes * 60 + whole + thousandths / 1_000
    else:
        until = _moment(text)
        seconds = 0.0 if until is None else (until - now).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_SECONDS)


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return date_of(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
