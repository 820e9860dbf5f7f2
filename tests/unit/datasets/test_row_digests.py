"""Numbers for the values of rows: the same everywhere and for ever, and different as soon as a value is."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from batchrun.datasets.row_digests import row_digests

VALUES: dict[str, list[Any]] = {
    "whole": [1, -2, None, 0],
    "float": [1.5, float("nan"), None, -0.0],
    "text": ["a", "", None, "~"],
    "bytes": [b"a", b"", None, b"~"],
    "day": [date(2026, 11, 1), date(1, 1, 1), None, date(2026, 11, 2)],
    "at": [datetime(2026, 11, 1, 9), datetime(1990, 1, 1), None, datetime(2026, 11, 2)],
    "time": [time(9), time(0), None, time(9, 0, 1)],
    "lasted": [timedelta(1), timedelta(0), None, timedelta(2)],
    "price": [Decimal("1.50"), Decimal("0.00"), None, Decimal("-1.50")],
    "flag": [True, False, None, None],
    "list": [[1, 2], [], None, [None]],
    "struct": [{"a": 1, "b": "x"}, {"a": None, "b": "y"}, None, {"a": 2, "b": None}],
}
FRAME = pl.DataFrame(VALUES)
GOLDEN = [16631731612426056120, 8524853347411867087, 3068912247837107879, 5154712902249474105]


def test_they_stay_the_same_for_ever() -> None:
    """Executions of years ago must be comparable: who changes these numbers makes every row of everybody a changed one."""
    assert row_digests(FRAME, FRAME.columns).to_list() == GOLDEN


@pytest.mark.parametrize("column", VALUES)
def test_every_value_counts(column: str) -> None:
    """Different values of every type, nulls included, give different numbers."""
    digests = row_digests(FRAME, [column]).to_list()
    assert [digests.index(digest) for digest in digests] == [VALUES[column].index(value) for value in VALUES[column]]


def test_how_values_are_stored_does_not_count() -> None:
    """Writers choose widths, categories, chunks and the order of columns as they like."""
    other = FRAME.with_columns(pl.col("whole").cast(pl.Int8), pl.col("text").cast(pl.Categorical), pl.col("float").cast(pl.Float32))
    chunked = pl.concat([other[:1], other[1:]], rechunk=False)
    assert row_digests(chunked, FRAME.columns[::-1]).to_list() == GOLDEN
    assert row_digests(FRAME[1:], FRAME.columns).to_list() == GOLDEN[1:]


def test_values_cannot_move_from_one_column_to_the_next() -> None:
    """What separates values in the form that is hashed may be in the values."""
    frame = pl.DataFrame({"a": ["x|1:y", "x", None, "~"], "b": ["z", "1:y|z", "~", None]})
    assert row_digests(frame, ["a", "b"]).n_unique() == 4


def test_types_and_names_count() -> None:
    """The text 1 is not the number 1, and a column of another name not the same."""
    one = pl.DataFrame({"a": [1]})
    others = [one.with_columns(a=pl.lit("1")), one.with_columns(a=pl.lit(1.0)), one.rename({"a": "b"})]
    assert len({row_digests(frame, frame.columns)[0] for frame in [one, *others]}) == 4


def test_no_columns_and_no_rows() -> None:
    """A workflow that reads nothing is never outdated by its rows."""
    assert row_digests(FRAME, []).to_list() == [0] * 4
    assert row_digests(FRAME[:0], FRAME.columns).to_list() == []
