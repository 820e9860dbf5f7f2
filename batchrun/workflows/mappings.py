"""Mappings from names to values of an item, such as the inputs of a node: they are made for each call of each item."""

from __future__ import annotations

from typing import Any, NamedTuple

from batchrun.workflows.node import Render
from batchrun.workflows.scope import Scope


class Place(NamedTuple):
    """Where a value is.

    Attributes:
        position: of the node whose output it is in; null: it is in the item.
        key: the field, or the column.
    """

    position: int | None
    key: str | int


def mapping(fields: list[tuple[str, Render]]) -> Render:
    """What gives the mapping, from what gives each of its values."""
    # Most nodes have one or two inputs; without the loop they cost half.
    if len(fields) == 1:
        ((only, render_only),) = fields
        return lambda scope: {only: render_only(scope)}
    if len(fields) == 2:
        (first, render_first), (second, render_second) = fields
        return lambda scope: {first: render_first(scope), second: render_second(scope)}
    return lambda scope: {key: render(scope) for key, render in fields}


def mapping_of_places(places: list[tuple[str, Place | None]], careful: Render) -> Render:
    """The same as `careful` gives, without a call for each value.

    Args:
        places: where each value is found as it is; null: not so.
        careful: gives the mapping whatever the values are; it is left all that is not as usual.
    """
    match places:
        case [(name, Place(None, str(column)))]:
            return _of_column(name, column, careful)
        case [(name, Place(int(position), key))]:
            return _of_field(name, position, key, careful)
        case [(name, Place(int(position), key)), (other_name, Place(int(other_position), other_key))]:
            return _of_fields((name, position, key), (other_name, other_position, other_key), careful)
    return careful


def _of_column(name: str, column: str, careful: Render) -> Render:
    def render(scope: Scope) -> Any:
        try:
            return {name: scope.item[column]}
        except KeyError:
            return careful(scope)

    return render


def _of_field(name: str, position: int, key: str | int, careful: Render) -> Render:
    def render(scope: Scope) -> Any:
        value = scope.outputs[position]
        if type(value) is dict:  # not what users derive from it: that may find keys which it does not have
            try:
                return {name: value[key]}
            except KeyError:
                pass
        return careful(scope)

    return render


def _of_fields(one: tuple[str, int, str | int], other: tuple[str, int, str | int], careful: Render) -> Render:
    (name, position, key), (other_name, other_position, other_key) = one, other

    def render(scope: Scope) -> Any:
        value, other_value = scope.outputs[position], scope.outputs[other_position]
        if type(value) is dict and type(other_value) is dict:
            try:
                return {name: value[key], other_name: other_value[other_key]}
            except KeyError:
                pass
        return careful(scope)

    return render
