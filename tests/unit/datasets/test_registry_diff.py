"""The difference of two versions, row by row."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.datasets import ChangedRow, DatasetDiff, DiffRefused, diff_frames

ROWS = st.dictionaries(st.integers(0, 12), st.tuples(st.none() | st.integers(0, 2), st.sampled_from(["", "a", "b", None])))


def diff(before: dict[str, Any], after: dict[str, Any], key: str = "id", **options: Any) -> DatasetDiff:
    return diff_frames(pl.LazyFrame(before), pl.LazyFrame(after), key, **options)


def test_rows_are_told_apart_by_key_whatever_their_order() -> None:
    """Added, removed and changed rows are counted, the changed columns named, and examples given with both values."""
    found = diff(
        {"id": [1, 2, 3, 4], "a": ["x", None, "y", "z"], "b": [[1], [2], [3], [4]]},
        {"id": [5, 4, 3, 2], "a": ["n", "z", None, "y"], "b": [[5], [4], [0], [2]]},
    )
    assert (found.added_rows, found.removed_rows, found.changed_rows, found.unchanged_rows) == (1, 1, 2, 1)
    assert found.changed_columns == {"a": 2, "b": 1} and not found.is_empty
    assert (found.added, found.removed) == (({"id": 5, "a": "n", "b": [5]},), ({"id": 1, "a": "x", "b": [1]},))
    assert found.changed == (ChangedRow(key=2, columns={"a": (None, "y")}), ChangedRow(key=3, columns={"a": ("y", None), "b": ([3], [0])}))


def test_columns_that_come_go_or_change_their_type_are_told_and_not_compared() -> None:
    """A change of the schema does not look like a change of every row."""
    found = diff({"id": ["k"], "gone": [1], "same": [1], "kind": [1]}, {"id": ["k"], "same": [1], "kind": ["1"], "new": [2.5]})
    assert (found.changed_rows, found.unchanged_rows, found.is_empty) == (0, 1, False)
    assert (found.added_columns, found.removed_columns) == ({"new": "float64"}, {"gone": "int64"})
    assert found.retyped_columns == {"kind": ("int64", "string")}


def test_equal_values_are_equal_however_they_are_stored() -> None:
    """NaN is itself, zero has no sign, and categories are the same whatever their numbers are."""
    categories = pl.Series(["a", "b"], dtype=pl.Categorical)
    before = pl.LazyFrame({"id": [1, 2], "f": [float("nan"), 0.0], "c": categories})
    after = pl.LazyFrame({"id": [2, 1], "f": [-0.0, float("nan")], "c": pl.Series(["b", "a"], dtype=pl.Categorical)})
    assert diff_frames(before, after, "id").is_empty


@settings(max_examples=60, deadline=None)
@given(before=ROWS, after=ROWS)
def test_counts_are_those_of_a_plain_comparison(before: dict[int, tuple[Any, Any]], after: dict[int, tuple[Any, Any]]) -> None:
    """Hashing and joining find exactly what comparing row by row finds."""
    schema = {"id": pl.Int64, "a": pl.Int64, "b": pl.String}
    frames = [pl.LazyFrame([(key, *row) for key, row in rows.items()], schema=schema, orient="row") for rows in (before, after)]
    found = diff_frames(*frames, "id", examples=100)
    both = before.keys() & after.keys()
    changed = {key for key in both if before[key] != after[key]}
    assert {row["id"] for row in found.added} == after.keys() - both and found.added_rows == len(after.keys() - both)
    assert {row["id"] for row in found.removed} == before.keys() - both
    assert {row.key for row in found.changed} == changed and found.unchanged_rows == len(both - changed)
    assert found.changed_columns.get("a", 0) == sum(before[key][0] != after[key][0] for key in changed)
    assert found.changed_columns.get("b", 0) == sum(before[key][1] != after[key][1] for key in changed)


@pytest.mark.parametrize(
    ("before", "after", "key", "message"),
    [
        ({"id": [1]}, {"id": [1]}, "ids", 'the version before has no column "ids"; did you mean "id"'),
        ({"id": [1, 1, 2]}, {"id": [1]}, "id", '"id" is not unique in the version before: 1 values are there twice or more: 1'),
        ({"id": [1]}, {"id": [1, None]}, "id", '"id" is null in 1 rows of the version after'),
        ({"id": [1]}, {"id": ["1"]}, "id", 'the key "id" was int64 and is string'),
        ({"id": [[1]]}, {"id": [[1]]}, "id", "a key is a text, a number or a date"),
    ],
)
def test_keys_that_name_no_row_are_refused(before: dict[str, Any], after: dict[str, Any], key: str, message: str) -> None:
    """A difference by a key that is not one would be made up."""
    with pytest.raises(DiffRefused, match=message):
        diff(before, after, key)
