"""YAML with the position of every key and value, without the traps of YAML 1.1."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ClassVar

import yaml

from batchrun.config.source import Source, ValuePath
from batchrun.core.errors import JobError, Problem

_MAX_VALUES = 100_000
_MAX_DEPTH = 100
_TAG = "tag:yaml.org,2002:"
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):  # type: ignore[misc]  # which loader exists depends on how PyYAML was built
    """Knows the scalars of JSON: `yes`, `on`, `010`, `12:30:00`, `.inf` and dates are text."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


for _name, _pattern, _first in (
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", "true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", "[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?(\.\d+|\d+\.\d*)([eE][-+]?\d+)?|[-+]?\d+[eE][-+]?\d+", list("-+.0123456789")),
    ("merge", "<<", ["<"]),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"({_pattern})\Z", re.ASCII), _first)

_SCALARS: dict[str, Callable[[str], Any]] = {
    _TAG + "str": str,
    _TAG + "null": lambda _: None,
    _TAG + "bool": lambda text: {"true": True, "false": False}[text.lower()],
    _TAG + "int": int,
    _TAG + "float": float,
}


def read_yaml(text: str, name: str) -> Source:
    """The one YAML document in `text`. `name` is the file in positions, as the user gave it.

    Duplicate keys, keys that are not text and unknown tags are noted in `problems`.

    Raises:
        JobError: the text is not YAML, refers to itself, is nested too deep, or has too many values.
    """
    try:
        _refuse_deep(text, name)
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        reason = ": ".join(part for part in (error.context, error.problem) if part)
        raise JobError([Problem((), f"not valid YAML: {reason}", _location(name, error.problem_mark))]) from error
    except yaml.YAMLError as error:
        raise JobError([Problem((), f"not valid YAML: {getattr(error, 'reason', error)}", name)]) from error
    source = Source(value=None)
    if root is None:
        return source
    value = _Reader(name, source).value(root, ())
    return Source(value=value, positions=source.positions, keys=source.keys, problems=source.problems)


def _location(name: str, mark: Any) -> str:
    return f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name


def _refuse_deep(text: str, name: str) -> None:
    # libyaml composes by recursion in C: without this, enough brackets end the process.
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise JobError([Problem((), f"nested deeper than {_MAX_DEPTH} levels", _location(name, event.start_mark))])


class _Reader:
    """Turns YAML nodes into values and notes where each one is."""

    def __init__(self, name: str, source: Source) -> None:
        self._name = name
        self._source = source
        self._open: list[yaml.Node] = []
        self._count = 0

    def value(self, node: yaml.Node, path: ValuePath) -> Any:
        self._count_one(node)
        if node in self._open:
            raise JobError([Problem(path, "an alias refers to a value that contains it", self._at(node))])
        self._source.positions[path] = self._at(node)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if node.tag not in (f"{_TAG}map", f"{_TAG}seq"):
            self._problem(path, f"the tag {node.tag.replace(_TAG, '!!')} is not allowed", node)
        self._open.append(node)
        value = self._mapping(node, path) if isinstance(node, yaml.MappingNode) else self._sequence(node, path)
        self._open.pop()
        return value

    def _scalar(self, node: yaml.ScalarNode, path: ValuePath) -> Any:
        make = _SCALARS.get(node.tag)
        try:
            if make is not None:
                return make(node.value)
            self._problem(path, f"the tag {node.tag.replace(_TAG, '!!')} is not allowed", node)
        except (ValueError, KeyError):
            self._problem(path, f"{node.value[:40]!r} cannot be read as {node.tag.replace(_TAG, '')}", node)
        return node.value

    def _sequence(self, node: yaml.Node, path: ValuePath) -> list[Any]:
        return [self.value(child, (*path, index)) for index, child in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, path: ValuePath) -> dict[str, Any]:
        value = {}
        for key, (key_node, child) in self._entries(node, path).items():
            self._source.keys[*path, key] = self._at(key_node)
            value[key] = self.value(child, (*path, key))
        return value

    def _entries(self, node: yaml.MappingNode, path: ValuePath) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key_node, child in node.value:
            key = key_node.value
            if key_node.tag == f"{_TAG}merge":
                for each in child.value if isinstance(child, yaml.SequenceNode) else [child]:
                    merged = self._merged(each, path) | merged
            elif key_node.tag != f"{_TAG}str":
                hint = f'quote it: "{key}"' if isinstance(key, str) else 'a template needs quotes: "{{ … }}"'
                self._problem(path, f"a key must be text; {hint}", key_node)
            elif key in own:
                self._problem((*path, key), f"duplicate key {key}; it is already at {self._at(own[key][0])}", key_node)
            else:
                own[key] = (key_node, child)
        return own | {key: entry for key, entry in merged.items() if key not in own}

    def _merged(self, node: yaml.Node, path: ValuePath) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        self._count_one(node)
        if isinstance(node, yaml.MappingNode) and node not in self._open:
            self._open.append(node)
            entries = self._entries(node, path)
            self._open.pop()
            return entries
        self._problem(path, "<< takes a mapping, or a list of mappings, other than the one it is in", node)
        return {}

    def _count_one(self, node: yaml.Node) -> None:
        self._count += 1
        if self._count > _MAX_VALUES:
            raise JobError([Problem((), f"more than {_MAX_VALUES:,} values once aliases are written out", self._at(node))])

    def _at(self, node: yaml.Node) -> str:
        return _location(self._name, node.start_mark)

    def _problem(self, path: ValuePath, message: str, node: yaml.Node) -> None:
        self._source.problems.append(Problem(path, message, self._at(node)))
