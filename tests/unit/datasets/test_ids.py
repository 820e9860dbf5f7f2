"""The check of ids, given in frames of any size."""

from __future__ import annotations

from itertools import product
from typing import Any

import polars as pl
import pytest

from batchrun.core.errors import JobError
from batchrun.datasets.ids import IdCheck


def is_refused(ids: list[Any], dtype: Any, rows: int) -> bool:
    whole = pl.DataFrame({"id": pl.Series(ids, dtype=dtype), "at": range(len(ids))}, schema_overrides={"at": pl.Int64})
    frames = [whole.slice(at, rows) for at in range(0, max(len(ids), 1), rows)]
    check = IdCheck("id", "at")
    for frame in frames:
        check.add(frame)
    try:
        check.finish(lambda: frames)
    except JobError:
        return True
    return False


@pytest.mark.parametrize("dtype", [pl.Int8, pl.String, pl.Float64, pl.Categorical])
def test_ids_are_refused_exactly_when_two_are_equal(dtype: Any) -> None:
    """Rising ids are not kept, so a later row that repeats one of them must be found by reading them again."""
    to = str if dtype in (pl.String, pl.Categorical) else dtype.to_python()
    for ids, rows in product(product(range(3), repeat=3), (1, 2, 3)):
        assert is_refused([to(number) for number in ids], dtype, rows) == (len(set(ids)) < 3), (ids, rows)


def test_ids_that_neither_rise_nor_fall_are_checked_too() -> None:
    """The two zeros are one id, what is no number compares with nothing, and a dataset may be empty."""
    assert is_refused([0.0, -0.0], pl.Float64, 1)
    assert not is_refused([float("nan"), 1.0, 2.0], pl.Float64, 2)
    assert not is_refused([], pl.String, 1)


def test_a_second_id_that_is_no_number_is_refused() -> None:
    """Rows of two results are matched by their ids: two of the same would be four changes."""
    assert is_refused([1.5, float("nan"), float("nan")], pl.Float64, 2)
