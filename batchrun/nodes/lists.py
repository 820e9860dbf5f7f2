"""Functions that are called for many items at once: each parameter gets a list, and they return a list."""

from __future__ import annotations

import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from batchrun.workflows.node import NodeCompiler
from batchrun.workflows.scope import Scope

_LISTS = (list, Sequence, Iterable)
_NO_LISTS = (bool, int, float, str, bytes, dict, set, frozenset, type(None))


def item_type(annotation: Any) -> Any:
    """The type of one output of a function that is annotated to return a list; None when it does not say.

    Example:
        >>> item_type(list[int])
        <class 'int'>
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    is_list = origin in _LISTS or (origin is tuple and arguments[1:] == (...,))
    return arguments[0] if is_list and arguments else None


def check_lists(hints: Mapping[str, Any], contexts: Collection[str], compiler: NodeCompiler) -> None:
    """Report annotations that say that a function is not made to be called for many items at once."""
    for name in contexts:
        compiler.problem(f"with batch, a call is made for many items and has no context: remove the parameter {name!r}, or batch", "call")
    for name in (*compiler.input_names, "return"):
        hint = hints.get(name)
        if hint in _NO_LISTS or typing.get_origin(hint) in _NO_LISTS:
            shown = hint.__name__ if isinstance(hint, type) and not typing.get_origin(hint) else str(hint)
            said = "the function returns a list: one output" if name == "return" else f"the parameter {name!r} gets a list: one value"
            compiler.problem(f"with batch, {said} for each item; it is annotated {shown}", "call")


def list_caller(call: Callable[[Scope], Any]) -> Callable[[Sequence[Scope]], Any]:
    """The call for many items, from a call for one: every input becomes the list of the inputs of all."""

    def call_many(scopes: Sequence[Scope]) -> Any:
        everything = Scope({}, [])
        everything.inputs = {name: [scope.inputs[name] for scope in scopes] for name in scopes[0].inputs}
        return call(everything)

    return call_many
