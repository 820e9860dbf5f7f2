"""Calling a function with the inputs of a node."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

from batchrun.workflows.scope import Scope


def caller(
    function: Callable[..., Any],
    parameters: Mapping[str, inspect.Parameter],
    names: tuple[str, ...],
    contexts: tuple[str, ...],
    constants: dict[str, Any],
) -> Callable[[Scope], Any]:
    """The call with the node's inputs, its context and its secrets: by name, except for parameters that only have a position.

    Args:
        function: what is called.
        parameters: its parameters.
        names: of the inputs.
        contexts: names of parameters that get the context of the call.
        constants: what other parameters get, whatever the item.
    """
    positions = [name for name, parameter in parameters.items() if parameter.kind is inspect.Parameter.POSITIONAL_ONLY]
    while positions and positions[-1] not in (*names, *contexts, *constants):
        positions.pop()
    if not positions and not contexts and not constants:
        return _by_position(function, names) or (lambda scope: function(**scope.inputs))
    defaults = {name: parameters[name].default for name in positions}

    def call(scope: Scope) -> Any:
        inputs = {**scope.inputs, **dict.fromkeys(contexts, scope.context), **constants}
        return function(*[inputs.pop(name, default) for name, default in defaults.items()], **inputs)

    return call


def _by_position(function: Callable[..., Any], names: tuple[str, ...]) -> Callable[[Scope], Any] | None:
    """The call of a function of Python whose first parameters have these one or two names: with names it would take twice as long.

    Inputs may have other names after all: a workflow in Python calls functions with the arguments that it likes.
    """
    if type(function) is not FunctionType or function.__code__.co_posonlyargcount:
        return None
    first = function.__code__.co_varnames[: function.__code__.co_argcount][: len(names)]
    if set(first) != set(names):
        return None
    if len(first) == 1:
        (only,) = first

        def call_one(scope: Scope) -> Any:
            inputs = scope.inputs
            return function(inputs[only]) if len(inputs) == 1 and only in inputs else function(**inputs)

        return call_one
    if len(first) == 2:
        one, other = first

        def call_two(scope: Scope) -> Any:
            inputs = scope.inputs
            if len(inputs) == 2 and one in inputs and other in inputs:
                return function(inputs[one], inputs[other])
            return function(**inputs)

        return call_two
    return None
