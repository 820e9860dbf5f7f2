"""Inputs that the dataset gives: `dataset.inputs`, addressed by a node's label, its id, or `node_id::input`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from batchrun.core.errors import Problem, known_values
from batchrun.core.job import NodeOptions
from batchrun.workflows.file_inputs import is_file
from batchrun.workflows.fingerprint import references_in

ROOTS = ("item", "input", "vars")
"""What values that the dataset gives may refer to."""

GIVEN = "\0given"
"""Ends the paths of mistakes in what the dataset gives, below the input that it is given to."""

_ROOT = ("dataset", "inputs")
_BETWEEN = "::"
_CHECKS_ITSELF = ("python",)  # a function knows its parameters, whether or not the job gives them


@dataclass(frozen=True, slots=True)
class Given:
    """The value of an input that the dataset gives.

    Attributes:
        value: a value or a template.
        own: what the node itself says, for items for which that is null.
    """

    value: Any
    own: Any = None


class _Address(NamedTuple):
    """An input, as it was addressed.

    Attributes:
        input: its name; null: the only one that the node has without being told.
        written: the key in `dataset.inputs`.
    """

    input: str | None
    written: str


class GivenInputs:
    """What the dataset gives to the nodes of a workflow.

    Args:
        nodes: of the workflow.
        inputs: values and templates by their addresses.
        report: takes mistakes.
    """

    def __init__(self, nodes: Iterable[NodeOptions], inputs: Mapping[str, Any], report: Callable[[Problem], None]) -> None:
        self._given: dict[str, dict[_Address, Any]] = {}
        self._places: dict[tuple[str | int, ...], str] = {}
        self._report = report
        if inputs:  # else the templates of all nodes would be searched for nothing
            self._address(tuple(nodes), inputs)

    def place_of(self, path: tuple[str | int, ...]) -> tuple[str | int, ...] | None:
        """Where in the job a mistake is that was found at this path of the workflow; null: there."""
        for length in range(len(path), 0, -1) if self._places else ():
            if path[:length] in self._places:
                return (*_ROOT, self._places[path[:length]])
        return None

    def to(self, options: NodeOptions, position: int) -> NodeOptions:
        """A node with the inputs that it is given by name."""
        given = {address: value for address, value in self._given.get(options.id, {}).items() if address.input is not None}
        return self._with(options, options.inputs, given, position) if given else options

    def to_default(self, options: NodeOptions, inputs: Mapping[str, Any], position: int) -> NodeOptions:
        """A node with the only input that it has without being told, where it is given that; `inputs`: what it has."""
        written = next((address.written for address in self._given.get(options.id, {}) if address.input is None), None)
        if written is None:
            return options
        if len(inputs) != 1:
            self._say(written, f"node {options.id} has no input that it could be; say which one: {options.id}{_BETWEEN}NAME")
            return options
        (name,) = inputs
        value = self._given[options.id][_Address(None, written)]
        return self._with(options, inputs, {_Address(name, written): value}, position)

    def _with(self, options: NodeOptions, own: Mapping[str, Any], given: Mapping[_Address, Any], position: int) -> NodeOptions:
        inputs = dict(own)
        for (name, written), value in given.items():
            place = ("nodes", position, "inputs", str(name))
            self._places[(*place, GIVEN)] = written
            if name not in own or is_file(value):
                self._places[place] = written
            inputs[str(name)] = value if is_file(value) else Given(value, own.get(str(name)))
        return replace(options, inputs=inputs)

    def _address(self, nodes: tuple[NodeOptions, ...], inputs: Mapping[str, Any]) -> None:
        for written, value in inputs.items():
            try:
                node, name = _found(nodes, written)
            except _NotFound as problem:
                self._say(written, str(problem))
                continue
            given = self._given.setdefault(node.id, {})
            before = next((address.written for address in given if address.input == name), None)
            if before is None:
                given[_Address(name, written)] = value
            else:
                self._say(written, f'is the same input as "{before}": leave one of them out')

    def _say(self, written: str, message: str) -> None:
        self._report(Problem((*_ROOT, written), message))


class _NotFound(Exception):
    """An address that leads to no input, or to several."""


def _found(nodes: tuple[NodeOptions, ...], written: str) -> tuple[NodeOptions, str | None]:
    """The node, and the name of the input; null: the only one that the node has without being told."""
    target, between, name = written.rpartition(_BETWEEN)
    node = _node(nodes, target if between else written, f"{between}{name}" if between else "")
    # What a template of the node refers to may be given by nobody else.
    read = {str(reference[1]) for reference in references_in(node) if reference[0] == "inputs" and len(reference) > 1}
    names = sorted({*node.inputs, *read})
    if between:
        if name not in names and node.type not in _CHECKS_ITSELF:
            raise _NotFound(f'node {node.id} has no input "{name}"; {known_values(name, names, kind="inputs")}')
        return node, name
    if len(names) > 1:
        raise _NotFound(f"node {node.id} has several inputs; give {' or '.join(f'{node.id}{_BETWEEN}{each}' for each in names)}")
    return node, names[0] if names else None


def _node(nodes: tuple[NodeOptions, ...], target: str, rest: str) -> NodeOptions:
    matching = [node for node in nodes if target in (node.id, node.label)]
    if len(matching) > 1:
        raise _NotFound(f'"{target}" names several nodes; give {" or ".join(f"{node.id}{rest}" for node in matching)}')
    if not matching:
        names = {name for node in nodes for name in (node.id, node.label) if name is not None}
        raise _NotFound(f'unknown node "{target}"; {known_values(target, names, kind="nodes")}')
    return matching[0]
