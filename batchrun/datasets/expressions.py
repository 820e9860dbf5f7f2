"""SQL expressions of a dataset: the filter and the computed columns, checked before the first row is read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import polars as pl

from batchrun.core.filters import compared_whole, tree_of, why_refused
from batchrun.datasets.schema import dtype_name

_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
# A table function reads its file while the expression is parsed, so this is looked for everywhere, quotes included.
_READS_FILES = re.compile(r"\bread_\w+\s*\(", re.IGNORECASE)
_SUBQUERY = re.compile(r"\bselect\b|\(\s*(from|table|values|with)\b", re.IGNORECASE)
_POLARS_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


class BadExpression(ValueError):
    """An expression that cannot be used; the message says why."""


def parse(text: str, types: Mapping[str, pl.DataType]) -> tuple[pl.Expr, pl.DataType]:
    """The expression a text means over columns of these types, and the type of its values.

    Raises:
        BadExpression: it is not an expression, names unknown columns, mixes types, or looks at more than its own row.
    """
    if _READS_FILES.search(text) or _SUBQUERY.search(_QUOTED.sub(" ", text)):
        raise BadExpression("sub-queries and table functions are not possible here; write an expression over the columns")
    try:
        expression = pl.sql_expr(text)
        one_null_row = pl.DataFrame(schema=dict(types)).clear(1).lazy()
        dtype = one_null_row.select(expression.alias("value")).collect().schema["value"]
        plan = one_null_row.with_columns(expression.alias("value")).slice(1, 1).explain()
    except _POLARS_ERRORS as error:
        raise BadExpression(why_refused(error, text, types)) from error
    if wrong := compared_whole(expression, types):
        raise BadExpression(wrong)
    # Polars moves a slice below a column only if each value of the column depends on nothing but its own row.
    if plan.startswith("SLICE"):
        raise BadExpression("must look at one row at a time; aggregates, window functions and unnest are not possible here")
    return expression, dtype


def parse_filter(text: str, types: Mapping[str, pl.DataType]) -> pl.Expr:
    """The filter a text means.

    Raises:
        BadExpression: as for `parse`, or it is not true or false.
    """
    expression, dtype = parse(text, types)
    if dtype != pl.Boolean:
        raise BadExpression(f"must be true or false for each row, but is {dtype_name(dtype)}; compare it with something")
    return expression


def conjuncts(expression: pl.Expr) -> Iterator[pl.Expr]:
    """The parts of `a AND b AND c`: a row passes only if it passes each of them."""
    if tree_of(expression).get("BinaryExpr", {}).get("op") in {"And", "LogicalAnd"}:
        for part in expression.meta.pop():
            yield from conjuncts(part)
    else:
        yield expression
