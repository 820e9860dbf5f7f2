"""Datasets that are lists."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import batchrun
from batchrun.datasets import frame_of_values


def increased(item: dict[str, Any]) -> int:
    return int(item["n"]) + 1


@pytest.mark.parametrize(
    ("function", "values", "outputs"),
    [
        (str.upper, ["a", "b"], ["A", "B"]),
        (increased, [{"n": 1}, {"n": 2.0, "more": "x"}], ["2", "3"]),
        (repr, [], []),
    ],
)
def test_values_are_given_as_they_are_and_dicts_as_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any], values: list[Any], outputs: list[str]
) -> None:
    """A few texts in a notebook need neither a file nor a data frame."""
    monkeypatch.chdir(tmp_path)
    found = batchrun.map(function, values, quiet=True).results["output"].to_pylist()
    assert [str(each).strip('"') for each in found] == outputs


def test_values_of_several_types_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column has one type; to guess one would change the values."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(batchrun.JobError, match="dataset: the list is not a dataset: its values do not have one type"):
        batchrun.map(str.upper, ["a", 1], quiet=True)
    assert not (tmp_path / "runs").exists()


BERLIN, TOKYO = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Tokyo")
CHANGED: dict[str, list[Any]] = {
    "null for one that is no object": [{"a": {"b": 1}}, {"a": 2}],
    "null within objects": [{"a": {"b": {"c": 1}}}, {"a": {"b": 2}}],
    "a fraction cut off": [[1], [2.5]],
    "digits of a whole number": [{"a": 1.5}, {"a": 2**53 + 1}],
    "digits of a decimal": [{"a": Decimal("1.00000000000000000001")}, {"a": 1.5}],
    "days for a date": [{"a": date(2026, 11, 1)}, {"a": 5}],
    "microseconds for a duration": [{"a": timedelta(days=1)}, {"a": 5}],
    "text for a number": [{"a": 1}, {"a": "x"}],
    "bytes for a text": [{"a": b"x"}, {"a": "x"}],
    "a zone for a time without one": [datetime(2026, 11, 1, 5, tzinfo=BERLIN), datetime(2026, 11, 1, 5)],
    "no zone for a time with one": [time(1, 2, tzinfo=UTC)],
}


@pytest.mark.parametrize("values", CHANGED.values(), ids=CHANGED)
def test_values_that_one_type_would_change_are_refused(values: list[Any]) -> None:
    """An item must not get another value than the program gave, and least of all null in place of one."""
    with pytest.raises(
        TypeError, match=r"^the list is not a dataset: its values do not have one type: .* in row [01] of '.*' would become "
    ):
        frame_of_values(values)


KEPT: dict[str, list[Any]] = {
    "numbers that are equal": [{"a": 1, "b": True}, {"a": 2.5, "b": 7}, {"a": Decimal("0.5")}],
    "what is not a number": [{"a": float("nan")}, {"a": None}, {"a": -0.0}],
    "objects with other keys, tuples": [{"a": {"b": 1}, "t": (1, 2)}, {"a": {"c": [float("nan")]}}],
    "the hour that comes twice": [datetime(2026, 11, 1, tzinfo=TOKYO), datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN)],
    "digits of decimals": [{"a": Decimal("1.1")}, {"a": Decimal("1.555")}],
}


@pytest.mark.parametrize("values", KEPT.values(), ids=KEPT)
def test_values_that_mean_the_same_in_one_type_are_taken(values: list[Any]) -> None:
    """Only what would be lost is a reason to refuse a list."""
    assert len(frame_of_values(values)[0]) == len(values)


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("1e60")], ids=["NaN", "61 digits"])
@pytest.mark.parametrize("is_row", [True, False])
def test_decimals_that_no_column_holds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Decimal, is_row: bool) -> None:
    """A program that catches what is wrong with a job must not be ended by an error of a library, which is no `Exception`."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(batchrun.JobError, match=r"the list is not a dataset: .* a Decimal must be finite and have at most 38 digits"):
        batchrun.map(repr, [{"a": value}] if is_row else [value], quiet=True)
