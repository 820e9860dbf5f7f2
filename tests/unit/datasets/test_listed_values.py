"""Datasets that are lists."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import batchrun


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
