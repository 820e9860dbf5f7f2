"""Expressions that cannot be used: the message is about what was written."""

from __future__ import annotations

import polars as pl
import pytest

from batchrun.core.filters import unknown_column, why_refused

FRAME = pl.LazyFrame({"n": [1], "name": ["a"], "error": [{"type": "x", "message": "y"}]})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("n = ", "it is no expression; write one such as size * 2 > 10 AND name LIKE 'a%'"),
        ("", "it is no expression; write one such as size * 2 > 10 AND name LIKE 'a%'"),
        ("name", "must be true or false for each row, but is String; compare it with something"),
        ("nam = 'a'", 'unknown column "nam"; did you mean "name"?'),
        ('name = "a"', 'unknown column "a"; columns: error, n, name; texts have single quotes'),
        ("error.typ = 'x'", 'unknown field "error.typ"; did you mean "error.type"?'),
        ("n > 'a'", "a text is compared with a number; a column that is text by mistake gets its type from dataset.schema, such as"),
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
