"""Compiling the templates of a job: what they may refer to, what they do refer to, and the lookups they become."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from batchrun.core.errors import known_values
from batchrun.workflow.node import Render
from batchrun.workflow.references import field_of, lookup, parse_reference
from batchrun.workflow.scope import Scope
from batchrun.workflow.templates import NULL, TemplateEngine, TemplateMistake, exact_expression, fresh, is_template

ROOTS = ("item", "input", "inputs", "nodes", "vars")


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What templates may refer to.

    Attributes:
        columns: the columns of the dataset.
        input_field: the column that `input` is; null: the whole item.
        positions: position of each node by id.
        vars: the job's variables.
    """

    columns: tuple[str, ...]
    input_field: str | None
    positions: Mapping[str, int]
    vars: Mapping[str, Any]


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
    """

    engine: TemplateEngine
    names: Names
    uses: Uses
    input_names: tuple[str, ...] | None
    report: Callable[[tuple[str | int, ...], str], None]

    def compile(self, value: Any, path: tuple[str | int, ...]) -> Render:
        """Compile a value in which every text may be a template."""
        if isinstance(value, str):
            return self._text(value, path) if is_template(value) else lambda _scope: value
        if isinstance(value, dict):
            return _mapping([(key, self.compile(inner, (*path, key))) for key, inner in value.items()])
        if isinstance(value, list | tuple):
            elements = [self.compile(inner, (*path, index)) for index, inner in enumerate(value)]
            return lambda scope: [render(scope) for render in elements]
        return lambda _scope: value

    def expression(self, text: str, path: tuple[str | int, ...]) -> Render | None:
        """Compile a text that must be exactly one `{{ expression }}`."""
        if exact_expression(text) is None:
            self.report(path, f"must be one {{{{ expression }}}}, got {text!r}")
            return None
        return self._text(text, path)

    def _text(self, text: str, path: tuple[str | int, ...]) -> Render:
        expression = exact_expression(text)
        reference = parse_reference(expression) if expression else None
        if reference is not None and (reference[0] in ROOTS):
            return self._reference(reference, path)
        try:
            template = self.engine.expression(expression) if expression else self.engine.text(text)
        except TemplateMistake as mistake:
            self.report(path, str(mistake))
            return _nothing
        return self._rendered(template.render, template.names, path)

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
        constant: Any = self.names.vars
        for step in steps:
            constant = field_of(constant, step, "vars")
        return lambda _scope: fresh(constant)

    def _rendered(self, render: Callable[[Mapping[str, Any]], Any], names: frozenset[str], path: tuple[str | int, ...]) -> Render:
        references = [tuple(name.split(".")) for name in sorted(names)]
        parts: dict[str, Render] = {}
        bare_outputs = {reference[1] for reference in references if reference[0] == "nodes" and len(reference) == 3}
        nodes: dict[str, Render] = {}
        for reference in references:
            root = reference[0]
            if root not in ROOTS:
                continue  # a function of the template language, or a name that fails when it is rendered
            if not self._known(reference, path):
                return _nothing
            if root == "nodes":
                id = reference[1]
                nodes[id] = _node_view(self.names.positions[id], null=None if id in bare_outputs else NULL)
            elif root == "vars":
                parts[root] = lambda _scope, constant=self.names.vars: constant  # type: ignore[misc]
            else:
                parts[root] = self._reference((root,), path)
        if nodes:
            parts["nodes"] = lambda scope: {id: view(scope) for id, view in nodes.items()}
        return lambda scope: render({name: fresh(part(scope)) for name, part in parts.items()})

    def _known(self, reference: tuple[str | int, ...], path: tuple[str | int, ...]) -> bool:
        """Report what a reference gets wrong, else note what it uses."""
        problem = self._problem(reference)
        if problem:
            self.report(path, problem)
            return False
        root, first = reference[0], reference[1] if len(reference) > 1 else None
        if root == "item":
            self.uses.columns.update(self.names.columns if first is None else [str(first)])
        elif root == "input":
            self.uses.columns.update(self.names.columns if self.names.input_field is None else [self.names.input_field])
        elif root == "nodes":
            self.uses.nodes.add(str(first))
        return True

    def _problem(self, reference: tuple[str | int, ...]) -> str | None:
        root, steps = reference[0], reference[1:]
        known: dict[str | int, tuple[Any, str]] = {
            "item": (self.names.columns, "columns"),
            "inputs": (self.input_names or (), "inputs"),
            "nodes": (self.names.positions, "nodes"),
            "vars": (self.names.vars, "vars"),
        }
        if root == "input" and self.names.input_field is None and steps and steps[0] not in self.names.columns:
            return f'unknown column "{steps[0]}"; {known_values(str(steps[0]), self.names.columns, kind="columns")}'
        if root == "inputs" and self.input_names is None:
            return "inputs are not known here; refer to item or nodes"
        if root == "nodes" and len(steps) < 2:
            return "refer to a node's output as nodes.ID.output"
        if root in known and steps:
            values, kind = known[root]
            if steps[0] not in values:
                return f'unknown {kind[:-1]} "{steps[0]}"; {known_values(str(steps[0]), values, kind=kind)}'
        if root == "nodes" and steps[1] != "output":
            return f'a node has no "{steps[1]}" to refer to; did you mean nodes.{steps[0]}.output?'
        return None


def _nothing(_scope: Scope) -> Any:
    """Stands in for a template with a mistake; the mistake was reported, so it is never called."""
    return None


def _mapping(fields: list[tuple[str, Render]]) -> Render:
    # Most nodes have one or two inputs; without the loop they cost half.
    if len(fields) == 1:
        ((only, render_only),) = fields
        return lambda scope: {only: render_only(scope)}
    if len(fields) == 2:
        (first, render_first), (second, render_second) = fields
        return lambda scope: {first: render_first(scope), second: render_second(scope)}
    return lambda scope: {key: render(scope) for key, render in fields}


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


def _node_view(position: int, null: Any) -> Render:
    def view(scope: Scope) -> Any:
        output = scope.outputs[position]
        return {"output": null if output is None else output}

    return view
