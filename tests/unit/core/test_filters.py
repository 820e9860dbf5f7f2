"""Expressions that cannot be used: the message is about what was written."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from batchrun.core.filters import compared_whole, tree_of, unknown_column, why_refused

FRAME = pl.LazyFrame({"n": [1], "name": ["a"], "error": [{"type": "x", "message": "y"}]}).with_columns(
    kind=pl.lit("a", pl.Categorical()), started=pl.lit(datetime(2026, 1, 31, tzinfo=UTC))
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("n = ", "it is no expression; write one such as size * 2 > 10 AND name LIKE 'a%'"),
        ("", "it is no expression; write one such as size * 2 > 10 AND name LIKE 'a%'"),
        ("name", "must be true or false for each row, but is String; compare it with something"),
        ("nam = 'a'", 'unknown column "nam"; did you mean "name"?'),
        ('name = "a"', 'unknown column "a"; columns: error, kind, n, name, started; texts have single quotes'),
        ("error.typ = 'x'", 'unknown field "error.typ"; did you mean "error.type"?'),
        ("n > 'a'", "a text is compared with a number; a column that is text by mistake gets its type from dataset.schema, such as"),
        ("n LIKE 'a%'", "what is done with texts is done with i64; write CAST(column AS VARCHAR) for the text of a column"),
        ("LOWER(kind) = 'a'", "what is done with texts is done with cat; write CAST(column AS VARCHAR) for the text of a column"),
        (
            "started > TIMESTAMP '2026-01-31 12:00:00'",
            "times of different zones are compared; write CAST(",
        ),
        ("nosuch(n) > 1", "unsupported function 'nosuch'"),
    ],
)
def test_a_refused_filter_is_explained_by_what_was_written(text: str, said: str) -> None:
    """Who writes a filter knows its columns and not the library that evaluates it."""
    with pytest.raises(pl.exceptions.PolarsError) as refused:
        FRAME.filter(pl.sql_expr(text)).collect()
    assert why_refused(refused.value, text, FRAME.collect_schema()).startswith(said)


@pytest.mark.parametrize(("header", "mark"), [("id;name", ";"), ("id\tname", "\\t"), ("id|name", "|")])
def test_a_header_with_another_delimiter_is_seen(header: str, mark: str) -> None:
    """A file with semicolons is one column wide, and its owner wonders where the others are."""
    assert unknown_column("id", [header]).endswith(f"if {mark} is between columns, set dataset.csv.delimiter")
    assert unknown_column("id", [header, "other"]).startswith('unknown column "id"; columns: ')


def test_a_column_of_fields_is_not_compared_with_a_text() -> None:
    """`error = 'Timeout'` is true for no row: who forgot the field would be told that there is nothing to do."""
    types: dict[str, pl.DataType] = {
        "n": pl.Int64(),
        "error": pl.Struct({"type": pl.String(), "message": pl.String()}),
        "tags": pl.List(pl.String),
    }
    for text in ("error = 'Timeout'", "n > 1 AND NOT 'Timeout' <> error"):
        said = compared_whole(pl.sql_expr(text), types)
        assert said == 'column "error" has fields and is compared as a whole; fields: error.message, error.type'
    for text in ("tags = 'red'", "n = 1 OR tags = 'red'"):
        assert (
            compared_whole(pl.sql_expr(text), types)
            == 'column "tags" is a list and is compared with one value; write ARRAY_CONTAINS(tags, …)'
        )
    for text in ("error.type = 'Timeout'", "error IS NULL", "ARRAY_CONTAINS(tags, 'red')", "n = 1", "error = error"):
        assert compared_whole(pl.sql_expr(text), types) is None


def test_numbers_are_added_to_lists_and_taken_from_them() -> None:
    """Only a comparison of a list with one number is a mistake: `scores + 1` adds to each of them."""
    for text in ("scores + 1", "2 - scores", "scores + 1 = others"):
        assert compared_whole(pl.sql_expr(text), {"scores": pl.List(pl.Int64), "others": pl.List(pl.Int64)}) is None


def test_a_filter_that_a_program_wrote_may_be_long() -> None:
    """A thousand alternatives nest deeper than JSON may; they are a filter all the same."""
    long = pl.sql_expr(" OR ".join(f"n = {number}" for number in range(2_000)))
    assert tree_of(long) == {}
    assert compared_whole(long, {"n": pl.Int64()}) is None
