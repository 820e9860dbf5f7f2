"""Pydantic's errors as problems of a job file, in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from pydantic_core import ValidationError

from batchrun.config.adapter import BRANCH, PROBLEM, UNKNOWN_KEY
from batchrun.config.source import ValuePath, shown
from batchrun.core.checks import InvalidFields
from batchrun.core.errors import Problem

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "dataclass_type": "a mapping",
    "dict_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
    "callable_type": "a function",
    "none_required": "null",
}


def problems_of(error: ValidationError, keys: Mapping[ValuePath, str]) -> list[Problem]:
    """One problem per mistake; paths are those of the file, without the branches of unions.

    Unknown keys get their position from `keys`; other problems are those of values, whose positions are not known here.
    """
    found = [(each["loc"], each) for each in error.errors(include_url=False)]
    return [problem for loc, each in _meant(found) for problem in _worded(loc, each, keys)]


def _meant(found: list[tuple[ValuePath, Any]]) -> Iterator[tuple[ValuePath, Any]]:
    """The errors without those of union branches that were not meant."""
    for prefix, group in groupby(found, key=lambda each: _union(each[0])):
        errors = list(group)
        if prefix is None:
            yield from errors
            continue
        depth = len(prefix)
        branches = [list(branch) for _, branch in groupby(errors, key=lambda each: each[0][depth])]
        entered = [branch for branch in branches if not all(_is_wrong_kind(loc[depth + 1 :], each) for loc, each in branch)]
        if entered:
            yield from _meant([(prefix + loc[depth + 1 :], each) for loc, each in min(entered, key=len)])
        else:
            *others, last = dict.fromkeys(_expected(each) for _, each in errors)
            expected = " or ".join([", ".join(others).replace(" or ", ", "), last]) if others else last
            yield prefix, {"type": PROBLEM, "msg": f"must be {expected}, got {shown(errors[0][1]['input'])}"}


def _union(loc: ValuePath) -> ValuePath | None:
    """The path of the outermost union in `loc`."""
    for depth, part in enumerate(loc):
        if str(part).startswith(BRANCH):
            return loc[:depth]
    return None


def _is_wrong_kind(rest: ValuePath, error: Any) -> bool:
    """Whether a branch refused the value without looking into it."""
    return all(str(part).startswith(BRANCH) for part in rest) and (error["type"] in _EXPECTED or error["type"] == "literal_error")


def _expected(error: Any) -> str:
    if error["type"] == "literal_error":
        return str(error["ctx"]["expected"])
    return _EXPECTED[error["type"]]


def _worded(loc: ValuePath, error: Any, keys: Mapping[ValuePath, str]) -> Iterator[Problem]:
    if loc and loc[-1] == "[key]":
        loc = loc[:-1]
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, InvalidFields):
        yield from (Problem(loc + path, message) for path, message in cause.problems)
    elif cause is not None:
        yield Problem(loc, str(cause))
    else:
        yield Problem(loc, _message(error), keys.get(loc) if error["type"] == UNKNOWN_KEY else None)


def _message(error: Any) -> str:
    if error["type"] in (PROBLEM, UNKNOWN_KEY):
        return str(error["msg"])
    if error["type"] == "missing":
        return "is missing"
    value = error["input"]
    if error["type"] not in _EXPECTED and error["type"] != "literal_error":
        return f"{error['msg'].replace('Input should', 'must').replace('Keys should', 'keys must')}, got {shown(value)}"
    message = f"must be {_expected(error)}, got {shown(value)}"
    if error["type"] == "tuple_type" and isinstance(value, str | int | float):
        return f"{message}; write [{value}]"
    return message
