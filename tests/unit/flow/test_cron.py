"""Times of cron expressions, compared with a walk through every minute."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.flow.cron import BadCron, Cron, jitter

MINUTE = timedelta(minutes=1)
# The days on which clocks change: by an hour, at midnight, by half an hour, by a whole day, backwards in summer, never.
CHANGES = {
    "Europe/Berlin": [date(2026, 3, 29), date(2026, 10, 25)],
    "America/New_York": [date(2026, 3, 8), date(2026, 11, 1)],
    "America/Havana": [date(2026, 3, 8), date(2026, 11, 1)],
    "Africa/Cairo": [date(2026, 4, 24), date(2026, 10, 30)],
    "Atlantic/Azores": [date(2026, 3, 29), date(2026, 10, 25)],
    "Australia/Lord_Howe": [date(2026, 4, 5), date(2026, 10, 4)],
    "Pacific/Apia": [date(2011, 12, 30), date(2012, 4, 1)],
    "Africa/Casablanca": [date(2026, 2, 15), date(2026, 3, 22)],
    "Antarctica/Casey": [date(2020, 10, 4), date(2021, 3, 14)],
    "Asia/Kathmandu": [date(2026, 3, 29)],
    "UTC": [date(2026, 3, 29)],
}


def field(values: range) -> st.SearchStrategy[tuple[str, frozenset[int]]]:
    """The text of a field, and what it allows."""
    lists = st.sets(st.sampled_from(values), min_size=1, max_size=3).map(
        lambda chosen: (",".join(map(str, sorted(chosen))), frozenset(chosen))
    )
    steps = st.sampled_from([2, 3, 7, 10, 15]).map(lambda step: (f"*/{step}", frozenset(values[::step])))
    return st.one_of(lists, steps, st.just(("*", frozenset(values))))


def walk(
    minutes: tuple[str, frozenset[int]], hours: tuple[str, frozenset[int]], zone: ZoneInfo, begin: datetime, end: datetime
) -> list[datetime]:
    """What the rule of the page says, minute by minute: an independent and slow way to the same times."""
    is_fixed = not minutes[0].startswith("*") and not hours[0].startswith("*")
    found, seen, latest_wall = [], set(), None
    time = begin - timedelta(days=2)
    while time <= end:
        wall = time.astimezone(zone).replace(tzinfo=None)
        walls = [wall]
        if is_fixed and latest_wall is not None and wall > latest_wall:  # with those that were left out, if any
            walls = [latest_wall + MINUTE * step for step in range(1, (wall - latest_wall) // MINUTE + 1)]
        new = {each for each in walls if each.hour in hours[1] and each.minute in minutes[1]}
        if new - seen if is_fixed else new:
            found.append(time)
        seen |= new
        latest_wall = wall if latest_wall is None else max(wall, latest_wall)
        time += MINUTE
    return [time for time in found if begin < time <= end]


def times(cron: Cron, begin: datetime, end: datetime) -> list[datetime]:
    found = []
    while (begin := cron.after(begin)) <= end:
        found.append(begin)
    return found


@st.composite
def days(draw: st.DrawFn) -> tuple[str, datetime]:
    name = draw(st.sampled_from(sorted(CHANGES)))
    day = draw(st.sampled_from(CHANGES[name]))
    return name, datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(minutes=draw(st.integers(600, 1_500)))


@settings(max_examples=120)
@given(field(range(60)), field(range(24)), days())
def test_no_time_is_lost_or_doubled_when_clocks_change(
    minutes: tuple[str, frozenset[int]], hours: tuple[str, frozenset[int]], place: tuple[str, datetime]
) -> None:
    """A nightly job runs once each night of the year, and a job of every minute every minute, in every zone."""
    name, begin = place
    cron, end = Cron(f"{minutes[0]} {hours[0]} * * *", name), begin + timedelta(days=2, hours=6)
    assert times(cron, begin, end) == walk(minutes, hours, ZoneInfo(name), begin, end)


@settings(max_examples=60)
@given(field(range(60)), field(range(24)), days(), st.integers(0, 4_000), st.integers(0, 59))
def test_the_next_time_does_not_depend_on_when_it_is_asked_for(
    minutes: tuple[str, frozenset[int]], hours: tuple[str, frozenset[int]], place: tuple[str, datetime], later: int, second: int
) -> None:
    """A scheduler that was just started, also in the hour that happens twice, waits for the same time as one that was always there."""
    name, begin = place
    cron, asked = Cron(f"{minutes[0]} {hours[0]} * * *", name), begin + timedelta(minutes=later, seconds=second)
    following = [time for time in times(cron, begin, asked + timedelta(days=3)) if time > asked]
    assert cron.after(asked) == following[0]
    passed = [time for time in times(cron, begin, asked) if time <= asked]
    if passed:
        assert cron.latest(passed[0], asked) == passed[-1]


@pytest.mark.parametrize(
    ("text", "zone", "after", "expected"),
    [
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T00:30", "2026-03-29T01:00"),  # 02:30 is left out: at 03:00
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", "2026-10-25T00:30"),  # the first 02:30
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30", "2026-10-26T01:30"),  # not the second
        ("*/10 2 * * *", "Australia/Lord_Howe", "2026-04-04T14:50", "2026-04-04T15:30"),  # after 30 minutes that happen twice
        ("0 0 29 2 *", "Europe/Berlin", "2026-01-01T00:00", "2028-02-28T23:00"),
        ("0 9 * * 1", "UTC", "2026-11-21T00:00", "2026-11-23T09:00"),  # a Monday
        ("0 9 13 * 5", "UTC", "2026-11-01T00:00", "2026-11-06T09:00"),  # the 13th or a Friday
        ("@daily", "Asia/Kathmandu", "2026-01-01T00:00", "2026-01-01T18:15"),
    ],
)
def test_known_times(text: str, zone: str, after: str, expected: str) -> None:
    """The examples of the page."""
    assert Cron(text, zone).after(datetime.fromisoformat(after + "Z")) == datetime.fromisoformat(expected + "Z")


@pytest.mark.parametrize(
    ("text", "zone", "said"),
    [
        ("30 2 * *", "UTC", "it has five fields, minute hour day month weekday"),
        ("0 30 2 * * *", "UTC", "five fields"),
        ("60 2 * * *", "UTC", "Bad minute"),
        ("0 0 30 2 *", "UTC", "Bad day-of-month"),
        ("0 0 * * *", "Europe/Berlln", 'did you mean "Europe/Berlin"?'),
        ("0 0 * * *", "../etc/passwd", "unknown time zone"),
        ("0 0 * * *", "Europe", "unknown time zone"),
        ("", "UTC", "five fields"),
    ],
)
def test_what_is_no_expression_is_refused(text: str, zone: str, said: str) -> None:
    """A typing error is found when the schedule is made, not in the night it should have fired."""
    with pytest.raises(BadCron, match=said.replace("?", r"\?").replace("*", r"\*")):
        Cron(text, zone)


def test_jitter_is_the_same_for_everybody() -> None:
    """Two schedulers wait for the same moment, and schedules of one time do not begin together."""
    due_at = datetime(2026, 11, 1, tzinfo=UTC)
    offsets = {name: jitter(name, due_at, 600) for name in ("a", "b", "c")}
    assert offsets == {name: jitter(name, due_at.astimezone(ZoneInfo("Asia/Tokyo")), 600) for name in offsets}
    assert len(set(offsets.values())) == 3 and all(timedelta() <= offset < timedelta(seconds=600) for offset in offsets.values())
    assert jitter("a", due_at, 0) == timedelta()
