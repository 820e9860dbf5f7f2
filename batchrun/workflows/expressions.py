"""Compiling the templates of a job: what they may refer to, what they do refer to, and the lookups they become."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from batchrun.core.errors import UndefinedReference, known_values
from batchrun.workflows.given import GIVEN, Given
from batchrun.workflows.given import ROOTS as GIVEN_ROOTS
from batchrun.workflows.mappings import Place, mapping, mapping_of_places
from batchrun.workflows.node import Render
from batchrun.workflows.references import field_of, lookup, parse_reference
from batchrun.workflows.scope import Scope
from batchrun.workflows.templates import Template, TemplateEngine, TemplateMistake, exact_expression, fresh, is_template

ROOTS = ("item", "input", "inputs", "nodes", "vars")
"""What templates may refer to."""

WITH_SECRETS = (*ROOTS, "secrets")
"""What those of nodes may refer to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What templates may refer to.

    Attributes:
        columns: the columns of the dataset.
        input_field: the column that `input` is; null: the whole item.
        positions: position of each node by id.
        vars: the job's variables.
        secrets: the job's secrets.
    """

    columns: tuple[str, ...]
    input_field: str | None
    positions: Mapping[str, int]
    vars: Mapping[str, Any]
    secrets: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Uses:
    """What a node's templates refer to, collected while they are compiled."""

    columns: set[str] = field(default_factory=set)
    nodes: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpressionCompiler:
    """Compiles the templates of one node, or of the workflow's output.

    Attributes:
        names: what may be referred to.
        uses: what is referred to; filled in by `compile`.
        input_names: names below `inputs`; null where `inputs` has no meaning.
        report: called with (path, message) for each mistake.
        roots: the names that are known at all.
    """

    engine: TemplateEngine
    names: Names
    uses: Uses
    input_names: tuple[str, ...] | None
    report: Callable[[tuple[str | int, ...], str], None]
    roots: tuple[str, ...] = ROOTS

    def compile(self, value: Any, path: tuple[str | int, ...]) -> Render:
        """Compile a value in which every text may be a template."""
        if isinstance(value, str):
            return self._text(value, path) if is_template(value) else lambda _scope: value
        if isinstance(value, dict):
            render = mapping([(key, self.compile(inner, (*path, key))) for key, inner in value.items()])
            return mapping_of_places([(key, self._place(inner)) for key, inner in value.items()], render)
        if isinstance(value, Given):
            return self._given(value, path)
        if isinstance(value, list | tuple):
            elements = [self.compile(inner, (*path, index)) for index, inner in enumerate(value)]
            return lambda scope: [render(scope) for render in elements]
        return lambda _scope: value

    def _given(self, value: Given, path: tuple[str | int, ...]) -> Render:
        own = self.compile(value.own, path)
        given = replace(self, roots=GIVEN_ROOTS).compile(value.value, (*path, GIVEN))

        def render(scope: Scope) -> Any:
            found = given(scope)
            return own(scope) if found is None else found

        return render

    def expression(self, text: str, path: tuple[str | int, ...]) -> Render | None:
        """Compile a text that must be exactly one `{{ expression }}`."""
        if exact_expression(text) is None:
            self.report(path, f"must be one {{{{ expression }}}}, got {text!r}")
            return None
        return self._text(text, path)

    def _text(self, text: str, path: tuple[str | int, ...]) -> Render:
        expression = exact_expression(text)
        reference = parse_reference(expression) if expression else None
        if reference is not None and reference[0] in WITH_SECRETS:
            return self._reference(reference, path)
        try:
            template = self.engine.expression(expression) if expression else self.engine.text(text)
        except TemplateMistake as mistake:
            self.report(path, str(mistake))
            return _nothing
        return self._rendered(template, path)

    def _reference(self, parts: tuple[str | int, ...], path: tuple[str | int, ...]) -> Render:
        root, steps = parts[0], parts[1:]
        if not self._known(parts, path):
            return _nothing
        if root == "item":
            return _column(str(steps[0])) if len(steps) == 1 else lookup(_item, steps, "item")
        if root == "input":
            start = lookup(_item, (self.names.input_field,), "item") if self.names.input_field else _item
            return lookup(start, steps, "input")
        if root == "inputs":
            return lookup(_inputs, steps, "inputs")
        if root == "nodes":
            position, path_text = self.names.positions[str(steps[0])], f"nodes.{steps[0]}.output"
            if len(steps) == 3:
                return _output_field(position, steps[2], path_text)
            return lookup(_output(position), steps[2:], path_text)
        try:
            constant = lookup(self._root(str(root)), steps, str(root))(Scope({}, []))
        except UndefinedReference as mistake:
            self.report(path, str(mistake))
            return _nothing
        return lambda _scope: fresh(constant)

    def _place(self, value: Any) -> Place | None:
        """Where the value of a text is found without rendering anything, if that is so."""
        expression = exact_expression(value) if isinstance(value, str) else None
        match parse_reference(expression) if expression else None:
            case ("item", str(column)):
                return Place(None, column)
            case ("input",) if self.names.input_field is not None:
                return Place(None, self.names.input_field)
            case ("nodes", str(node), "output", key) if node in self.names.positions:
                return Place(self.names.positions[node], key)
        return None

    def _rendered(self, template: Template, path: tuple[str | int, ...]) -> Render:
        references = [name for name in sorted(template.names) if name[0] not in self.engine.functions]
        if [reference for reference in references if not self._known(reference, path)]:
            return _nothing
        parts = {root: self._root(root) for root, *_ in references if root != "nodes"}
        positions = {steps[0]: self.names.positions[steps[0]] for root, *steps in references if root == "nodes"}
        if positions:
            parts["nodes"] = lambda scope: {id: {"output": scope.outputs[position]} for id, position in positions.items()}
        render, nulls = template.render, template.nulls
        return lambda scope: render(fresh({root: part(scope) for root, part in parts.items()}, nulls))

    def _root(self, root: str) -> Render:
        if root == "vars":
            return lambda _scope: self.names.vars
        if root == "secrets":
            return lambda _scope: self.names.secrets
        if root == "inputs":
            return _inputs
        return _column(self.names.input_field) if root == "input" and self.names.input_field else _item

    def _known(self, reference: tuple[str | int, ...], path: tuple[str | int, ...]) -> bool:
        """Report what a reference gets wrong, else note what it uses."""
        problem = self._problem(reference)
        if problem:
            self.report(path, problem)
            return False
        root, first = reference[0], reference[1] if len(reference) > 1 else None
        if root == "input":
            root, first = "item", self.names.input_field or first
        if root == "item":
            self.uses.columns.update(self.names.columns if first is None else [str(first)])
        elif root == "nodes":
            self.uses.nodes.add(str(first))
        return True

    def _problem(self, reference: tuple[str | int, ...]) -> str | None:
        root, steps = reference[0], reference[1:]
        if root not in self.roots:
            return self._unknown(str(root))
        known: dict[str | int, tuple[Any, str]] = {
            "item": (self.names.columns, "columns"),
            "inputs": (self.input_names or (), "inputs"),
            "nodes": (self.names.positions, "nodes"),
            "vars": (self.names.vars, "vars"),
            "secrets": (self.names.secrets, "secrets"),
        }
        if root == "input" and self.names.input_field is None and steps and steps[0] not in self.names.columns:
            return f'unknown column "{steps[0]}"; {known_values(str(steps[0]), self.names.columns, kind="columns")}'
        if root == "inputs" and self.input_names is None:
            return "inputs are not known here; refer to item or nodes"
        if root == "secrets" and len(steps) != 1:
            return "refer to a secret as secrets.NAME"
        if root == "nodes" and len(steps) < 2:
            return "refer to a node's output as nodes.ID.output"
        if root in known and steps:
            values, kind = known[root]
            if steps[0] not in values:
                return f'unknown {kind[:-1]} "{steps[0]}"; {known_values(str(steps[0]), values, kind=kind)}'
        if root == "nodes" and steps[1] != "output":
            return f'a node has no "{steps[1]}" to refer to; did you mean nodes.{steps[0]}.output?'
        return None

    def _unknown(self, root: str) -> str:
        if root == "secrets":
            return "secrets are not known here: only templates of nodes, and headers and auth of resources, may refer to them"
        if root in ROOTS:
            return f"{root} is not known here; refer to {' or '.join(self.roots)}"
        return f'unknown name "{root}"; {known_values(root, self.roots, kind="names")}'


def _nothing(_scope: Scope) -> Any:
    """Stands in for a template with a mistake; the mistake was reported, so it is never called."""
    return None


def _item(scope: Scope) -> Any:
    return scope.item


def _inputs(scope: Scope) -> Any:
    return scope.inputs


def _output(position: int) -> Render:
    return lambda scope: scope.outputs[position]


def _column(name: str) -> Render:
    return lambda scope: scope.item[name]


def _output_field(position: int, key: str | int, path: str) -> Render:
    def one(scope: Scope) -> Any:
        value = scope.outputs[position]
        # The usual case first; everything else, null included, goes the careful way.
        if type(value) is dict and key in value:
            return value[key]
        return field_of(value, key, path)

    return one
