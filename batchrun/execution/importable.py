"""Functions that another process can have: those it finds by the name of their module and their own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial, reduce
from pathlib import Path
from typing import Any

from batchrun.config import locate
from batchrun.core.errors import JobError, Problem
from batchrun.core.job import LoadedJob, NodeOptions

_MAIN = "__main__"
_ADVICE = (
    "a process of its own imports functions by name: move it to a module, such as steps.py beside the job, and import it from there; "
    "or run the job in this process with batchrun.execute"
)


def refuse_local_functions(loaded: LoadedJob, advice: str = _ADVICE) -> None:
    """Refuse a job with functions that only this process has, or only the one that ran it before.

    Args:
        loaded: the job.
        advice: what to do.

    Raises:
        JobError: naming each of them, and what to do.
    """
    problems = [
        Problem(("workflow", "nodes", position, name), f"{reason}; {advice}")
        for position, options in enumerate(loaded.workflow.nodes)
        for name, function in _functions(options)
        if (reason := why_not_importable(function))
    ]
    if problems:
        raise locate(problems, loaded)


def importable_name(function: Callable[..., Any]) -> str:
    """The name by which another process imports a function.

    Raises:
        JobError: it cannot.

    Example:
        >>> importable_name(len)
        'builtins:len'
    """
    reason = why_not_importable(function)
    if reason:
        raise JobError([f"{reason}; {_ADVICE}"])
    module, name = _names(function)
    return f"{module}:{name}"


def _functions(options: NodeOptions) -> Iterator[tuple[str, Callable[..., Any] | str]]:
    """The functions of a node: themselves, and names of them."""
    for field in fields(options):
        value = getattr(options, field.name)
        if callable(value) or (field.name == "call" and isinstance(value, str)):
            yield field.name, value


def why_not_importable(function: Callable[..., Any] | str) -> str | None:
    """Why another process cannot import a function; null: it can."""
    if isinstance(function, str):
        return _reason_of_name(function)
    module, name = _names(function)
    if not module or not name:
        return f"{_shown(function)} was made while the program ran, and has no name"
    reason = _reason_of_name(f"{module}:{name}", _shown(function))
    if reason is None and not _is_found(module):
        reason = f"{_shown(function)} is of the module {module!r}, which is in no file that an import finds"
    if reason is None and not _is_what_the_name_says(function, module, name):
        reason = f"{_shown(function)} is not what {module}:{name} leads to"
    return reason


def _reason_of_name(call: str, shown: str | None = None) -> str | None:
    module, _, name = call.partition(":")
    shown = shown or call
    if "<lambda>" in name:
        return f"{shown} is a lambda"
    if "<locals>" in name:
        return f"{shown} is defined inside a function"
    return f"{shown} is defined in the script or notebook that runs" if module == _MAIN else None


def _names(function: Callable[..., Any]) -> tuple[str | None, str | None]:
    of_type = getattr(function, "__objclass__", None)  # str.upper and its like name no module
    return getattr(function, "__module__", None) or getattr(of_type, "__module__", None), getattr(function, "__qualname__", None)


def _is_found(module: str) -> bool:
    """Whether an import of the module elsewhere would find it; it may have been made while this program ran."""
    parent = module.rpartition(".")[0]
    path = getattr(sys.modules.get(parent), "__path__", None) if parent else None
    if parent and path is None:
        return False
    return any(finder.find_spec(module, path) is not None for finder in sys.meta_path if hasattr(finder, "find_spec"))


def _is_what_the_name_says(function: Callable[..., Any], module: str, name: str) -> bool:
    found: Any = sys.modules.get(module)
    try:
        found = reduce(getattr, name.split("."), found)
    except AttributeError:
        return False
    return found is function or bool(found == function)  # a class method is made anew each time


def _shown(function: Callable[..., Any]) -> str:
    """A function for people: its name, and where it is."""
    if isinstance(function, partial):
        return f"a partial of {_shown(function.func)}"
    code = getattr(function, "__code__", None)
    name = getattr(function, "__qualname__", None) or f"an object of {type(function).__qualname__}"
    return f"{name} ({Path(code.co_filename).name}:{code.co_firstlineno})" if code is not None else name
