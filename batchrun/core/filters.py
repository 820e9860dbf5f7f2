"""What is wrong with a SQL expression, in the words of who wrote it rather than of the library that refused it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from batchrun.core.errors import known_values

_COMPARISONS = {"Eq", "NotEq", "EqValidity", "NotEqValidity", "Lt", "LtEq", "Gt", "GtEq"}
_MOST_CHARACTERS = 300
_MEANINGS = (
    ("^unable to parse", "it is no expression; write one such as size * 2 > 10 AND name LIKE 'a%'"),
    (
        "^filter predicate must be of type `Boolean`, got `(.*?)`",
        "must be true or false for each row, but is {}; compare it with something",
    ),
    (r"^expression (\w+) \{.*is not currently supported", "{} is not supported"),
    (
        r"'date/datetime/time' to a string|is_in' cannot check for (?:Date|Time)",
        "a date or time is compared with a text; write DATE '2024-02-01', TIMESTAMP '2024-02-01 12:00:00' or TIME '12:00:00'",
    ),
    (
        r"^could not evaluate '.*' comparison between .* Datetime\(.*Datetime\(",
        "times of different zones are compared; write CAST(column AS TIMESTAMPTZ) and TIMESTAMPTZ '2024-02-01 12:00:00', both in UTC",
    ),
    (
        r"expected `?String`?(?: type)?, got:? `?([\w\[\]]+)",
        "what is done with texts is done with {}; write CAST(column AS VARCHAR) for the text of a column",
    ),
    (
        "^cannot compare string with numeric type",
        "a text is compared with a number; a column that is text by mistake gets its type from dataset.schema, such as {{size: int64}}",
    ),
)
"""What is wrong, by the first line of what polars says."""


def why_refused(error: BaseException, text: str, types: Mapping[str, Any]) -> str:
    """What an error of polars means.

    Args:
        error: raised for the expression.
        text: the expression.
        types: of the columns that it may name, as polars has them.
    """
    first = str(error).partition("\n")[0]
    if type(error).__name__ == "StructFieldNotFoundError":
        return _unknown_field(first, text, types)
    if missing := re.match(r'unable to find column "(.*?)"; valid', first):
        return unknown_column(missing[1], types) + ("; texts have single quotes" if f'"{missing[1]}"' in text else "")
    for pattern, meaning in _MEANINGS:
        if found := re.search(pattern, first):
            return meaning.format(*found.groups())
    return first if len(first) <= _MOST_CHARACTERS else first[:_MOST_CHARACTERS] + "…"


def tree_of(expression: Any) -> dict[str, Any]:
    """The parts of an expression of polars, as it writes them as JSON; none where they are nested too deep for that."""
    try:
        tree: dict[str, Any] = json.loads(expression.meta.serialize(format="json"))
    except RecursionError:
        return {}
    return tree


def compared_whole(expression: Any, types: Mapping[str, Any]) -> str | None:
    """What is wrong with a comparison of a column of fields, or of lists, with one text or number, which would be true for no row.

    Args:
        expression: an expression of polars.
        types: of the columns that it may name, as polars has them.
    """
    parts: list[Any] = [tree_of(expression)]
    while parts:
        part = parts.pop()
        if isinstance(part, list):
            parts += part
            continue
        if not isinstance(part, dict):
            continue
        parts += [value for key, value in part.items() if key != "Literal"]  # one may be a list of thousands
        binary = part.get("BinaryExpr")
        sides = binary["left"] | binary["right"] if binary and binary["op"] in _COMPARISONS else {}
        if "Literal" in sides and "Column" in sides:
            name = sides["Column"]
            if fields := [f"{name}.{field.name}" for field in getattr(types.get(name), "fields", ())]:
                return f'column "{name}" has fields and is compared as a whole; {known_values("", fields, kind="fields")}'
            if hasattr(types.get(name), "inner"):
                return f'column "{name}" is a list and is compared with one value; write ARRAY_CONTAINS({name}, …)'
    return None


def unknown_column(name: str, known: Iterable[str]) -> str:
    """What is wrong with a name that is no column.

    Example:
        >>> unknown_column("id", ["id;name"])
        'unknown column "id"; there is one column, "id;name": if ; is between columns, set dataset.csv.delimiter'
    """
    names = list(known)
    for mark in ";|\t":
        if len(names) == 1 and mark in names[0]:
            shown = names[0].replace("\t", "\\t")
            mark_shown = mark.replace("\t", "\\t")
            return f'unknown column "{name}"; there is one column, "{shown}": if {mark_shown} is between columns, set dataset.csv.delimiter'
    return f'unknown column "{name}"; {known_values(name, names, kind="columns")}'


def _unknown_field(name: str, text: str, types: Mapping[str, Any]) -> str:
    for column, dtype in types.items():
        if re.search(rf"\b{re.escape(column)}\.{re.escape(name)}\b", text):
            fields = [f"{column}.{field.name}" for field in getattr(dtype, "fields", ())]
            return f'unknown field "{column}.{name}"; {known_values(f"{column}.{name}", fields, kind="fields")}'
    return f'unknown field "{name}"'
