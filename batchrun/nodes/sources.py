"""The source of Python code, as far as it has meaning: without comments, docstrings and layout.

Modules are read, never imported: a module that a function imports only when it is called counts the same either way.
"""

from __future__ import annotations

import ast
import linecache
import symtable
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import PathFinder
from importlib.util import resolve_name
from types import CodeType, ModuleType
from typing import Any, NamedTuple, TypeAlias

Chain: TypeAlias = tuple[str, ...]
"""A name and the attributes taken from it: `helpers.normalise` is `("helpers", "normalise")`."""

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_SCOPES = (*_DEFINITIONS, ast.Lambda)
_unwarned_thread = threading.RLock()
_NOT_TEXT = (".so", ".pyd", ".pyc")


class Import(NamedTuple):
    """Where an imported name comes from; `name` is null for a module."""

    module: str
    name: str | None


class Source:
    """What the source of a module, or of a cell of a notebook, says.

    Attributes:
        statements: the statements at its top level that give each name its value, or change it.
        imports: where the names it imports at its top level come from; `*` for modules it imports everything from.
    """

    def __init__(self, file: str, text: str, package: str) -> None:
        self.statements: dict[str, list[ast.stmt]] = {}
        self.imports: dict[str, list[Import]] = {}
        self._file = file
        self._text = text
        self._package = package
        self._tree = ast.parse(text)
        _drop_docstrings(self._tree)
        for statement in self._tree.body:
            for name in _names_given(statement):
                known = self.statements.setdefault(name, [])
                if statement not in known:
                    known.append(statement)
            for name, imported in self._imported(_shallow([statement])):
                self.imports.setdefault(name, []).append(imported)
        for name in self._of_others() & self.statements.keys():
            # A decorator of another package, such as @batchrun.node, does not make one function depend on all that have it.
            others = [each for each in self.statements[name] if not isinstance(each, _DEFINITIONS) or each.name == name]
            del self.statements[name]
            if others:
                self.statements[name] = others

    def is_of(self, code: CodeType) -> bool:
        """Whether the code was compiled from this source."""
        return code.co_filename == self._file

    def located(self, code: CodeType) -> list[ast.AST]:
        """The function that was compiled into `code`; empty when it is not there, as in a file that was changed since."""
        found: list[ast.AST] = [self._tree]
        for part in code.co_qualname.split("."):
            if part == "<lambda>" or not part.startswith("<"):
                found = [
                    node
                    for outer in found
                    for node in _shallow(ast.iter_child_nodes(outer))
                    if isinstance(node, _SCOPES) and _name(node) == part
                ]
        found = [node for node in found if _first_line(node) == code.co_firstlineno]
        places = {(line, column) for line, _, column, _ in code.co_positions()}
        return [node for node in found if isinstance(node, ast.Lambda) and (node.body.lineno, node.body.col_offset) in places] or found

    def written(self, node: ast.AST) -> str:
        """The text of a node in one layout."""
        try:
            return ast.unparse(node)
        except RecursionError:  # a sum of a thousand terms
            return ast.get_source_segment(self._text, node) or ""

    def references(self, nodes: Sequence[ast.AST]) -> tuple[set[Chain], dict[str, Import]]:
        """What nodes refer to outside of themselves, and what they import."""
        parts = [part for node in nodes for part in ast.walk(node)]
        imports = dict(self._imported(parts))
        chains = {chain for part in parts if (chain := _chain(part))}
        known = _global_names("\n".join(self.written(node) for node in nodes))
        return {chain for chain in chains if known is None or chain[0] in known or chain[0] in imports}, imports

    def _of_others(self) -> set[str]:
        """The imported names that come from other packages."""
        own = self._package.partition(".")[0]
        return {name for name, found in self.imports.items() if all(each.module.partition(".")[0] not in ("", own) for each in found)}

    def _imported(self, nodes: Iterable[ast.AST]) -> Iterator[tuple[str, Import]]:
        for node in nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.partition(".")[0]
                    yield (alias.asname, Import(alias.name, None)) if alias.asname else (top, Import(top, None))
            elif isinstance(node, ast.ImportFrom):
                module = self._absolute(node)
                yield from ((alias.asname or alias.name, Import(module, alias.name)) for alias in node.names)

    def _absolute(self, node: ast.ImportFrom) -> str:
        name = "." * node.level + (node.module or "")
        try:
            return resolve_name(name, self._package)
        except ImportError:
            return name


def read_source(file: str, package: str = "", module_globals: dict[str, Any] | None = None) -> Source | None:
    """What is in a file, or in a cell of a notebook; null when it cannot be read as Python source."""
    if file.endswith(_NOT_TEXT):
        return None
    linecache.checkcache(file)
    text = "".join(linecache.getlines(file, module_globals))
    try:
        return Source(file, text, package) if text else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def read_module(name: str) -> Source | None:
    """What is in a module, imported or not; null when there is none, or it has no source."""
    module = sys.modules.get(name)
    if isinstance(module, ModuleType):
        file, package = vars(module).get("__file__"), vars(module).get("__package__")
        return read_source(file, package or "", vars(module)) if isinstance(file, str) else None
    spec = _spec(name)
    return read_source(spec.origin, spec.parent or "") if spec is not None and spec.has_location and spec.origin else None


def names_in(code: CodeType, names: Mapping[str, Any]) -> set[Chain]:
    """The names that bytecode refers to; it does not tell which attribute is taken from which of its modules."""
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    modules = [name for name in code.co_names if issubclass(type(names.get(name)), ModuleType)]
    attributes = {(name, attribute) for name in modules for attribute in code.co_names}
    return {(name,) for name in (*code.co_names, *code.co_freevars)}.union(attributes, *(names_in(each, names) for each in inner))


@contextmanager
def unwarned() -> Iterator[None]:
    """Show no warnings. In one thread at a time: their filters are those of the whole process, and would not be put back as they were."""
    with _unwarned_thread, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _spec(name: str) -> Any:
    parent = name.rpartition(".")[0]
    path = None
    if parent:
        found = sys.modules.get(parent) or _spec(parent)
        path = getattr(found, "__path__", None) or getattr(found, "submodule_search_locations", None)
        if not path:
            return None
    try:
        return PathFinder.find_spec(name, path)
    except (ImportError, ValueError):
        return None


def _drop_docstrings(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, _DEFINITIONS) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]


def _shallow(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Nodes and what is in them, but not what is in functions and classes."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, _SCOPES):
            waiting.extend(ast.iter_child_nodes(node))


def _names_given(statement: ast.stmt) -> set[str]:
    """The names a statement gives a value, or changes: `x = 1`, `def x`, `x[0] = 1`, `x.append(1)`, `@x.register`."""
    nodes = list(_shallow([statement]))
    changed: list[ast.AST] = []
    for node in nodes:
        if isinstance(node, _DEFINITIONS):
            changed += [each.func if isinstance(each, ast.Call) else each for each in node.decorator_list]
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            changed.append(node.value.func)
        elif isinstance(node, ast.Subscript | ast.Attribute) and not isinstance(node.ctx, ast.Load):
            changed.append(node)
    given = {node.name for node in nodes if isinstance(node, _DEFINITIONS)}
    given |= {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    return given | {name for node in changed if isinstance(node, ast.Subscript | ast.Attribute) and (name := _root(node))}


def _root(node: ast.AST) -> str | None:
    while isinstance(node, ast.Subscript | ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _name(node: ast.AST) -> str:
    return node.name if isinstance(node, _DEFINITIONS) else "<lambda>"


def _first_line(node: ast.AST) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([each.lineno for each in [node, *decorators] if isinstance(each, ast.expr | ast.stmt)], default=0)


def _chain(node: ast.AST) -> Chain | None:
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return (node.id, *reversed(names)) if isinstance(node, ast.Name) else None


def _global_names(text: str) -> set[str] | None:
    """The names that a text takes from around it; null when that cannot be told, as with `nonlocal`."""
    try:
        waiting = [symtable.symtable(text, "<source>", "exec")]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    found: set[str] = set()
    while waiting:
        table = waiting.pop()
        found.update(symbol.get_name() for symbol in table.get_symbols() if symbol.is_global() and symbol.is_referenced())
        waiting.extend(table.get_children())
    return found
