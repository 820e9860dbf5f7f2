"""SQL expressions of a dataset: the filter and the computed columns, checked before the first row is read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping

import polars as pl

from batchrun.core.errors import known_values
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
        raise BadExpression(_explained(str(error), text, types)) from error
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
    tree = json.loads(expression.meta.serialize(format="json"))
    if tree.get("BinaryExpr", {}).get("op") in {"And", "LogicalAnd"}:
        for part in expression.meta.pop():
            yield from conjuncts(part)
    else:
        yield expression


def unknown_column(name: str, known: Iterable[str]) -> str:
    """What is wrong with a name that is no column."""
    return f'unknown column "{name}"; {known_values(name, known, kind="columns")}'


def _explained(message: str, text: str, types: Mapping[str, pl.DataType]) -> str:
    missing = re.search(r'unable to find column "(.*?)"; valid', message)
    if missing:
        return unknown_column(missing[1], types) + ("; texts have single quotes" if f'"{missing[1]}"' in text else "")
    first = message.split("\n", 1)[0]
    unsupported = re.match(r"expression (\w+) \{.*is not currently supported", first)
    if unsupported:
        return f"{unsupported[1]} is not supported"
    if "'date/datetime/time' to a string" in first or re.search(r"is_in' cannot check for (Date|Time)", first):
        return "a date or time is compared with a text; write DATE '2024-02-01', TIMESTAMP '2024-02-01 12:00:00' or TIME '12:00:00'"
    if first.startswith("cannot compare string with numeric type"):
        return "a text is compared with a number; a column that is text by mistake gets its type from dataset.schema, such as {size: int64}"
    return first if len(first) <= 300 else first[:300] + "…"
