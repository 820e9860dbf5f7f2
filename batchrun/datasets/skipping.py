"""Files that need not be read, because no row of theirs can pass the filter by what is known of their smallest and largest values."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from functools import reduce
from operator import and_, or_

import polars as pl

from batchrun.datasets.expressions import conjuncts

_TURNED = {"Lt": "Gt", "LtEq": "GtEq", "Gt": "Lt", "GtEq": "LtEq", "Eq": "Eq"}
_COMPARED: dict[str, Callable[[pl.Expr, pl.Expr, pl.Expr], pl.Expr]] = {
    "Lt": lambda low, _high, value: low < value,
    "LtEq": lambda low, _high, value: low <= value,
    "Gt": lambda _low, high, value: high > value,
    "GtEq": lambda _low, high, value: high >= value,
    "Eq": lambda low, high, value: (low <= value) & (high >= value),
}


def skipped_files(where: pl.Expr | None, statistics: pl.DataFrame, computed: Collection[str]) -> frozenset[int]:
    """The files in which no row can pass the filter.

    Args:
        where: the filter.
        statistics: `min.NAME` and `max.NAME` of columns, one row per file; null where they are not known.
        computed: columns whose values are not those of the files.
    """
    if where is None or not statistics.height:
        return frozenset()
    known = {name: statistics.schema[f"min.{name}"] for name in _names(statistics) if name not in computed}
    parts = [part for part in (_may_pass(each, known) for each in conjuncts(where)) if part is not None]
    if not parts:
        return frozenset()
    passes = statistics.select(reduce(and_, (part.fill_null(value=True) for part in parts)).alias("passes"))["passes"]
    return frozenset((~passes).arg_true())


def _names(statistics: pl.DataFrame) -> list[str]:
    return [name.removeprefix("min.") for name in statistics.columns if name.startswith("min.")]


def _may_pass(part: pl.Expr, known: dict[str, pl.DataType]) -> pl.Expr | None:
    """Whether a row of a file may pass, as an expression over the statistics; null when nothing can be said."""
    tree = json.loads(part.meta.serialize(format="json"))
    operator = tree.get("BinaryExpr", {}).get("op", "")
    if operator in {"Or", "LogicalOr", "And", "LogicalAnd"}:
        sides = [_may_pass(side, known) for side in part.meta.pop()]
        if operator in {"Or", "LogicalOr"}:
            return None if any(side is None for side in sides) else _joined(or_, sides)
        return _joined(and_, sides) if any(side is not None for side in sides) else None
    if operator not in _COMPARED:
        return None
    right, left = part.meta.pop()
    if right.meta.is_column() and not left.meta.root_names():
        left, right, operator = right, left, _TURNED[operator]
    if not left.meta.is_column() or right.meta.root_names():
        return None
    (name,) = left.meta.root_names()
    # A NaN is larger than any number to a filter, and not counted by the writers of statistics.
    if name not in known or (known[name].is_float() and operator in {"Gt", "GtEq"}):
        return None
    return _COMPARED[operator](pl.col(f"min.{name}"), pl.col(f"max.{name}"), right)


def _joined(how: Callable[[pl.Expr, pl.Expr], pl.Expr], sides: list[pl.Expr | None]) -> pl.Expr:
    return reduce(how, (side.fill_null(value=True) for side in sides if side is not None))
