"""What a function is, told apart from what it was before: its source, and that of what it refers to in its own package.

The functions, classes and constants it refers to are numbered in the order they are met, and each is written down as its
source and the numbers of what it refers to itself. So nothing in the text depends on the process, the machine or the
place of a file, and comments, docstrings and layout do not count. What was made while the program ran (partials,
closures, objects) is written down as what it consists of. What belongs to other packages counts by its name alone.
"""

from __future__ import annotations

import ast
import functools
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from typing import Any

from batchrun.core.errors import InvalidValue
from batchrun.nodes.sources import Chain, Import, Source, names_in, read_module, read_source, unwarned
from batchrun.workflows.encoding import encode

_MOST_PARTS = 1_000
_MOST_VALUES = 200_000
_MOST_DEPTH = 20
_MORE = "…"
_LITERALS = {type(None), bool, float, complex, str, bytes, type(...)}
_WRITABLE = {"datetime", "decimal", "fractions", "numpy", "uuid"}
_NOT_MEANT = {"__dict__", "__doc__", "__firstlineno__", "__module__", "__static_attributes__", "__weakref__"}
_CONTAINERS = (dict, list, tuple, set, frozenset)
_CALLABLES = (types.FunctionType, types.MethodType, functools.partial)
_DESCRIPTORS = (types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType)
_MISSING = object()


def identity_of(function: Callable[..., Any]) -> str:
    """The meaning of a function as text: the same where it does the same by the same source. Never raises.

    Example:
        >>> identity_of(functools.partial(sorted, reverse=True))
        "partial(builtins.sorted, dict('reverse': True))"
    """
    with unwarned():  # what there is to warn of in the source was told when it was imported
        parts = _Parts({_top(home) for home in _homes(function)} - sys.stdlib_module_names)
        start = parts.described(function)
        return "\n".join([start, *parts.texts()])


class _Parts:
    """The functions, classes, constants and objects that make up a function."""

    def __init__(self, packages: set[str]) -> None:
        self._packages = packages
        self._modules: dict[str, Source | None] = {}
        self._files: dict[str, Source | None] = {}
        self._numbers: dict[Any, str] = {}
        self._writers: list[Callable[[], Iterable[str]]] = []
        self._values = 0

    def texts(self) -> Iterator[str]:
        """What each part is, in the order of their numbers."""
        for number, write in enumerate(self._writers):  # grows on the way
            yield "\n".join([f"#{number}", *write()])

    def described(self, value: Any, depth: int = 0) -> str:
        """A value in one line; parts by their numbers."""
        kind, self._values = type(value), self._values + 1
        if kind in _LITERALS:
            return repr(value)
        if kind is int:
            return hex(value)  # which has no limit of digits
        if depth > _MOST_DEPTH or self._values > _MOST_VALUES:
            return _MORE
        if issubclass(kind, _CONTAINERS):
            return self._container(value, kind, depth)
        if issubclass(kind, types.FunctionType):
            return self._function(value)
        if issubclass(kind, type):
            return self._class(value)
        return self._object(value, kind, depth)

    def _container(self, value: Any, kind: type, depth: int) -> str:
        base: Any = next(base for base in _CONTAINERS if issubclass(kind, base))
        name = kind.__name__ if kind.__module__ == "builtins" else self.described(kind)
        size = base.__len__(value)
        if self._values + size > _MOST_VALUES:
            return f"{name}({size} values)"
        if base is dict:
            each = [f"{self.described(key, depth + 1)}: {self.described(inner, depth + 1)}" for key, inner in [*dict.items(value)]]
        else:
            each = [self.described(inner, depth + 1) for inner in [*base.__iter__(value)]]
        return f"{name}({', '.join(each if base in (list, tuple) else sorted(each))})"

    def _object(self, value: Any, kind: type, depth: int) -> str:
        taken_apart = _taken_apart(value, kind)
        if taken_apart is not None:
            name, parts = taken_apart
            return f"{name}({', '.join(self.described(part, depth + 1) for part in parts)})"
        if issubclass(kind, types.BuiltinFunctionType | types.ModuleType):
            return _title(value)
        if _top(kind.__module__) in _WRITABLE:
            with suppress(InvalidValue):
                return f"{_title(kind)} {encode(value).decode()}"
        return self._number(id(value), functools.partial(self._object_text, value, kind))

    def _object_text(self, value: Any, kind: type) -> Iterator[str]:
        yield f"object {self.described(kind)}"
        is_own = self._is_own(kind.__module__)
        for name, inner in sorted(_attributes(value).items(), key=lambda each: str(each[0])):
            if is_own or issubclass(type(inner), _CALLABLES):  # the inside of foreign objects is their own business
                yield f"{name}: {self.described(inner)}"

    def _class(self, kind: type) -> str:
        if not self._is_own(kind.__module__):
            return _title(kind)
        outermost, *rest = kind.__qualname__.split(".")
        source = self._module(kind.__module__)
        if source is not None and "<locals>" not in rest and outermost in source.statements:
            return ".".join([self._statement(source, kind.__module__, outermost), *rest])
        return self._number(id(kind), functools.partial(self._class_text, kind))

    def _class_text(self, kind: type) -> Iterator[str]:
        yield f"class {kind.__name__}({', '.join(map(self.described, kind.__bases__))})"
        for name, member in sorted(vars(kind).items()):
            if name not in _NOT_MEANT:
                yield f"{name}: {self.described(member)}"

    def _function(self, function: types.FunctionType) -> str:
        code, home = function.__code__, str(function.__globals__.get("__name__"))
        if not self._is_own(home):
            has_more = function.__closure__ or _wrapped(function) is not None
            return self._number(id(function), functools.partial(self._foreign_text, function)) if has_more else _title(function)
        outermost, *rest = code.co_qualname.split(".")
        source = self._module(home)
        if source is not None and source.is_of(code) and "<locals>" not in rest and outermost in source.statements:
            return ".".join([self._statement(source, home, outermost), *rest])
        return self._number(id(function), functools.partial(self._function_text, function, home))

    def _foreign_text(self, function: types.FunctionType) -> Iterator[str]:
        yield _title(function)
        for inner in (_wrapped(function), *_cells(function).values()):
            if issubclass(type(inner), _CALLABLES):
                yield self.described(inner)

    def _function_text(self, function: types.FunctionType, home: str) -> Iterator[str]:
        code, cells = function.__code__, _cells(function)
        source = self._source_of(code, home)
        values = cells if source is not None and source is self._module(home) else {**function.__globals__, **cells}
        nodes = source.located(code) if source is not None else []
        if source is not None and nodes:
            yield from self._source_text(source, nodes, home, values)
        else:
            yield from self._bytecode(code, function.__doc__)
            yield from self._references(names_in(code, function.__globals__), {}, home, values)
        yield self.described([*(function.__defaults__ or ()), function.__kwdefaults__, _wrapped(function)])

    def _bytecode(self, code: types.CodeType, docstring: str | None = None) -> Iterator[str]:
        yield f"{code.co_name} {code.co_code.hex()} {code.co_names} {code.co_varnames}"
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                yield from self._bytecode(constant)
            elif constant is None or constant != docstring:
                yield self.described(constant)

    def _statement(self, source: Source, home: str, name: str) -> str:
        """The number of what a module has under a name."""
        return self._number((home, name), functools.partial(self._source_text, source, source.statements[name], home, {}))

    def _source_text(self, source: Source, nodes: Sequence[ast.AST], home: str, values: Mapping[str, Any]) -> Iterator[str]:
        yield from map(source.written, nodes)
        yield from self._references(*source.references(nodes), home, values)

    def _references(self, chains: set[Chain], imports: Mapping[str, Import], home: str, values: Mapping[str, Any]) -> Iterator[str]:
        """What each name stands for in a piece of source of the module `home`; names with `values` are not of that module."""
        for chain in sorted(chains):
            name, rest = chain[0], chain[1:]
            if name in imports:
                found = self._imported(imports[name], rest, 0)
            elif name in values:
                found = self._value(values[name], rest)
            else:
                found = self._in_module(home, chain, 0)
            if found:
                yield f"{'.'.join(chain)}: {', '.join(found)}"

    def _imported(self, imported: Import, rest: Chain, depth: int) -> list[str]:
        return self._in_module(imported.module, rest if imported.name is None else (imported.name, *rest), depth + 1)

    def _in_module(self, home: str, chain: Chain, depth: int) -> list[str]:
        if not chain or depth > _MOST_DEPTH or not self._is_own(home):
            return []
        source = self._module(home)
        name, rest = chain[0], chain[1:]
        found = []
        if source is None:
            value = _attributes(sys.modules.get(home)).get(name, _MISSING)
            found = [] if value is _MISSING else self._value(value, rest)
        else:
            found += [self._statement(source, home, name)] if name in source.statements else []
            for imported in source.imports.get(name, ()):
                found += self._imported(imported, rest, depth)
            for star in source.imports.get("*", ()) if not found else ():
                found += self._in_module(star.module, chain, depth + 1)
        below = f"{home}.{name}"
        return found or (self._in_module(below, rest, depth + 1) if rest and self._module(below) is not None else [])

    def _value(self, value: Any, rest: Chain) -> list[str]:
        if issubclass(type(value), types.ModuleType):
            return self._in_module(value.__name__, rest, 0)
        return [self.described(value)]

    def _number(self, key: Any, write: Callable[[], Iterable[str]]) -> str:
        if key not in self._numbers:
            if len(self._writers) == _MOST_PARTS:
                return _MORE
            self._numbers[key] = f"#{len(self._writers)}"
            self._writers.append(write)
        return self._numbers[key]

    def _module(self, name: str) -> Source | None:
        if name not in self._modules:
            self._modules[name] = read_module(name)
        return self._modules[name]

    def _source_of(self, code: types.CodeType, home: str) -> Source | None:
        source = self._module(home)
        if source is not None and source.is_of(code):
            return source
        if code.co_filename not in self._files:
            self._files[code.co_filename] = read_source(code.co_filename)
        return self._files[code.co_filename]

    def _is_own(self, module: object) -> bool:
        return _top(module) in self._packages


def _homes(value: Any, depth: int = 0) -> set[str]:
    """The modules that a callable comes from, whatever it is wrapped in."""
    kind = type(value)
    if issubclass(kind, functools.partial):
        return _homes(value.func)
    if issubclass(kind, types.MethodType):
        return _homes(value.__func__)
    if _wrapped(value) is not None and depth < _MOST_DEPTH:
        return _homes(_wrapped(value), depth + 1)
    module = str(value.__module__ if issubclass(kind, types.FunctionType | type) else kind.__module__)
    spec = getattr(sys.modules.get(module), "__spec__", None) if module == "__main__" else None
    return {module} | ({str(spec.name)} if spec is not None else set())


def _attributes(value: Any) -> Mapping[str, Any]:
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return dict(found) if isinstance(found, dict) else {}


def _wrapped(value: Any) -> Any:
    return _attributes(value).get("__wrapped__")


def _cells(function: types.FunctionType) -> dict[str, Any]:
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return found


def _taken_apart(value: Any, kind: type) -> tuple[str, list[Any]] | None:
    """What a wrapper of functions, or the like, consists of; null for any other object."""
    if issubclass(kind, functools.partial):
        return "partial", [value.func, *value.args, value.keywords]
    if issubclass(kind, types.MethodType):
        return "method", [value.__self__, value.__func__]
    if issubclass(kind, staticmethod | classmethod):
        return kind.__name__, [value.__func__]
    if issubclass(kind, property):
        return "property", [value.fget, value.fset, value.fdel]
    if issubclass(kind, Enum):
        return "member", [kind, value.name]
    if issubclass(kind, types.BuiltinFunctionType) and not issubclass(type(value.__self__), types.ModuleType | None):
        return "method", [value.__self__, value.__name__]
    if issubclass(kind, _DESCRIPTORS):
        return "method", [value.__objclass__, value.__name__]
    return None


def _title(value: Any) -> str:
    return value.__name__ if issubclass(type(value), types.ModuleType) else f"{value.__module__}.{value.__qualname__}"


def _top(module: object) -> str:
    return str(module).partition(".")[0]
