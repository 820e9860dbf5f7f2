from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest

from batchrun.core.errors import BatchrunError
from batchrun.store import NotAMoment, moment

NOW = datetime(2026, 11, 3, 12, 30, 15, 250, tzinfo=UTC)


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is one hour ahead in winter, two in summer."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("7d", NOW - timedelta(days=7)),
        ("12h", NOW - timedelta(hours=12)),
        ("30m", NOW - timedelta(minutes=30)),
        ("2w", NOW - timedelta(weeks=2)),
        ("90s", NOW - timedelta(seconds=90)),
        ("0s", NOW),
        ("1d12h", NOW - timedelta(hours=36)),
        ("now()", NOW),
        ("now()-7d", NOW - timedelta(days=7)),
        ("now()-1d12h", NOW - timedelta(hours=36)),
        (" Now() - 1D ", NOW - timedelta(days=1)),
        ("today", datetime(2026, 11, 2, 23, tzinfo=UTC)),
        ("yesterday", datetime(2026, 11, 1, 23, tzinfo=UTC)),
        ("2026-11-01", datetime(2026, 10, 31, 23, tzinfo=UTC)),
        ("2026-07-01", datetime(2026, 6, 30, 22, tzinfo=UTC)),
        ("2026-11-01T09:30", datetime(2026, 11, 1, 8, 30, tzinfo=UTC)),
        ("2026-11-01 09:30:00.5", datetime(2026, 11, 1, 8, 30, 0, 500_000, tzinfo=UTC)),
        ("2026-11-01T09:30:00Z", datetime(2026, 11, 1, 9, 30, tzinfo=UTC)),
        ("2026-11-01T09:30:00-05:00", datetime(2026, 11, 1, 14, 30, tzinfo=UTC)),
    ],
)
def test_what_people_type(text: str, meant: datetime) -> None:
    """Every form the commands promise means one point in time, in UTC."""
    found = moment(text, NOW)
    assert (found, found.tzinfo) == (meant, UTC)


def test_named_days_begin_at_local_midnight() -> None:
    """Shortly after midnight `today` is the new day of the person, not the old one of UTC, also when clocks changed that day."""
    assert moment("today", datetime(2026, 11, 2, 23, 30, tzinfo=UTC)) == datetime(2026, 11, 2, 23, tzinfo=UTC)
    assert moment("yesterday", datetime(2026, 10, 26, 12, tzinfo=UTC)) == datetime(2026, 10, 24, 22, tzinfo=UTC)


def test_now_may_have_any_zone() -> None:
    """The answer does not depend on how the caller writes its clock."""
    assert moment("1h", NOW.astimezone(timezone(timedelta(hours=9)))) == NOW - timedelta(hours=1)
    assert moment("1h", NOW.astimezone().replace(tzinfo=None)) == NOW - timedelta(hours=1)


def test_now_is_the_clock() -> None:
    """Without a given time, `now()` is the time of the machine."""
    before = datetime.now(UTC)
    assert before <= moment("now()") <= datetime.now(UTC)


@pytest.mark.parametrize(
    "text",
    [
        "", "7", "d", "7x", "7 d", "-7d", "1.5h", "\u0667d", "now", "now()-", "now()+1d", "now()-now()", "tomorrow", "last week", "2026",
        "2026-13-01", "2026-11-31", "01.11.2026", "09:30", "99999999999d", "9" * 5000 + "s", "0001-01-01", "now()-3000000d",
        "\x00", "\udcff",
    ],
)  # fmt: skip
def test_what_is_no_time(text: str) -> None:
    """A mistake is answered with the forms there are, and never with another time than meant."""
    with pytest.raises(NotAMoment) as caught:
        moment(text, NOW)
    assert isinstance(caught.value, BatchrunError)
    assert str(caught.value).startswith(f"{text!r} is not a time; allowed are ")
    for form in ("90s", "7d", "now()-7d", "today", "yesterday", "2026-11-01", "local time"):
        assert form in str(caught.value)
