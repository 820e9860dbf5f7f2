"""What the annotations of a function say."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from batchrun.workflows.context import Context

UNIONS = (typing.Union, types.UnionType)
"""The origins of annotations that allow more than one type."""

_UNRESOLVED = (NameError, TypeError, AttributeError, SyntaxError)  # annotations that only exist for type checkers


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of parameters and return value; those are left out that cannot be resolved."""
    with suppress(*_UNRESOLVED):
        return typing.get_type_hints(function)
    hints: dict[str, Any] = {}
    with suppress(*_UNRESOLVED):
        names = getattr(inspect.unwrap(function), "__globals__", {})
        for name, annotation in function.__annotations__.items():
            with suppress(*_UNRESOLVED):
                hints |= typing.get_type_hints(types.SimpleNamespace(__annotations__={name: annotation}), globalns=names)
    return hints


def is_context(hint: Any) -> bool:
    """Whether a parameter annotated so gets the context of the call."""
    return hint is Context or (typing.get_origin(hint) in UNIONS and Context in typing.get_args(hint))
