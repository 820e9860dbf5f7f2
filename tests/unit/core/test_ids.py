"""Identifiers of executions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.ids import is_execution_id, new_execution_id

times = st.datetimes(min_value=datetime(2000, 1, 1), timezones=st.sampled_from([UTC, timezone(timedelta(hours=-11))]))


@given(st.lists(times, min_size=2, max_size=5, unique_by=lambda time: int(time.timestamp() * 1000)))
def test_ids_sort_by_time(moments: list[datetime]) -> None:
    """Folders of executions listed by name are listed by age, whatever zone the clock was in."""
    assert [new_execution_id(moment)[:19] for moment in sorted(moments)] == sorted(new_execution_id(moment)[:19] for moment in moments)


def test_ids_of_one_instant_differ() -> None:
    """Two executions started at once must not share a folder."""
    now = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)
    first, second = new_execution_id(now), new_execution_id(now)
    assert first != second
    assert first[:19] == second[:19] == "20261101T093000-000"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(new_execution_id(), True, id="a new one"),
        ("20261101T093000-0000123abc", True),
        ("20261101T093000-0000123ab", False),
        ("20261101T093000-0000123abc\n", False),
        ("\u0662\u0660261101T093000-0000123abc", False),
        ("../20261101T093000-0000123a", False),
    ],
)
def test_ids_are_told_from_other_text(text: str, *, expected: bool) -> None:
    """Commands take ids or folders, so the form of an id has no doubtful cases."""
    assert is_execution_id(text) is expected
