"""Packages whose names are loaded when they are first asked for, so that nobody waits for the modules behind the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def loader(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of such a package.

    None of the names may be that of a module of the package, whose import would put the module in its place.

    Args:
        package: its name.
        places: the names it offers, separated by spaces, by the module in it that defines them.

    Example:
        >>> load = loader("batchrun.core", {"ids": "is_execution_id new_execution_id"})
        >>> load("new_execution_id").__module__
        'batchrun.core.ids'
    """
    place_of = {name: f"{package}.{module}" for module, names in places.items() for name in names.split()}

    def load(name: str) -> Any:
        if name not in place_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(place_of[name]), name)

    return load
