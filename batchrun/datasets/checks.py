"""Checks of what a job asks of a dataset, all of them before the first row is read."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from batchrun.core.errors import Problem, known_values
from batchrun.core.filters import unknown_column
from batchrun.core.job import Dataset
from batchrun.datasets.expressions import BadExpression, parse, parse_filter
from batchrun.datasets.schema import TYPE_NAMES, can_convert, converted, dtype_name, parse_type


def declared_types(dataset: Dataset) -> tuple[dict[str, pl.DataType], list[Problem]]:
    """The types of `dataset.schema`, and the names that are no types."""
    types: dict[str, pl.DataType] = {}
    problems = []
    for name, text in dataset.schema.items():
        dtype = parse_type(text)
        if dtype is None:
            problems.append(Problem(("dataset", "schema", name), f'unknown type "{text}"; {known_values(text, TYPE_NAMES, kind="types")}'))
        else:
            types[name] = dtype
    return types, problems


def cast_columns(found: Mapping[str, pl.DataType], declared: Mapping[str, pl.DataType]) -> tuple[dict[str, pl.Expr], list[Problem]]:
    """The casts to declared types, and the ones that are impossible. Extension types are read as what they are stored as."""
    casts = {name: pl.col(name).ext.storage() for name, dtype in found.items() if isinstance(dtype, pl.Extension)}
    problems = []
    for name, dtype in declared.items():
        if name not in found or found[name] == dtype:
            continue
        if can_convert(found[name], dtype):
            casts[name] = converted(name, found[name], dtype)
        else:
            problems.append(Problem(("dataset", "schema", name), f"{dtype_name(found[name])} cannot become {dtype_name(dtype)}"))
    return casts, problems


def added_columns(dataset: Dataset, types: Mapping[str, pl.DataType]) -> tuple[dict[str, pl.Expr], dict[str, pl.DataType], list[Problem]]:
    """The computed columns, the types of all columns with them, and the expressions that cannot be used."""
    added: dict[str, pl.Expr] = {}
    after = dict(types)
    problems = []
    for name, text in dataset.with_columns.items():
        try:
            added[name], after[name] = parse(text, types)
        except BadExpression as error:
            problems.append(Problem(("dataset", "with_columns", name), str(error)))
    return added, after, problems


def filter_of(dataset: Dataset, types: Mapping[str, pl.DataType]) -> tuple[pl.Expr | None, list[Problem]]:
    """The filter, or what is wrong with it. A column whose own expression is broken is not complained about again."""
    if dataset.filter is None:
        return None, []
    try:
        return parse_filter(dataset.filter, types), []
    except BadExpression as error:
        is_follow_up = any(name in dataset.filter for name in dataset.with_columns.keys() - types.keys())
        return None, [] if is_follow_up else [Problem(("dataset", "filter"), str(error))]


def visible_columns(dataset: Dataset, types: Mapping[str, pl.DataType]) -> dict[str, pl.DataType]:
    """The columns the workflow may read: those of `columns`, or all, and the computed ones."""
    if dataset.columns is None:
        return dict(types)
    chosen = {*dataset.columns, *dataset.with_columns}
    return {name: dtype for name, dtype in types.items() if name in chosen}


def name_problems(dataset: Dataset, types: Mapping[str, pl.DataType]) -> list[Problem]:
    """Names of columns that do not exist, or cannot be used as they are."""
    known = {*types, *dataset.with_columns}
    named: list[tuple[tuple[str | int, ...], str]] = [(("dataset", "columns", at), name) for at, name in enumerate(dataset.columns or ())]
    named += [(("dataset", key), name) for key, name in (("id", dataset.id), ("input_field", dataset.input_field)) if name is not None]
    problems = [Problem(path, unknown_column(name, known)) for path, name in named if name not in known]
    visible = {*dataset.columns, *dataset.with_columns} if dataset.columns is not None else known
    if dataset.input_field in known and dataset.input_field not in visible:
        problems.append(Problem(("dataset", "input_field"), f'"{dataset.input_field}" is left out by dataset.columns; add it there'))
    if dataset.id is not None and dataset.id in types and types[dataset.id].is_nested():
        problems.append(
            Problem(("dataset", "id"), f'"{dataset.id}" is {dtype_name(types[dataset.id])}; an id is a text, a number or a date')
        )
    return problems
