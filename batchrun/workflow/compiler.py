"""From the workflow of a job to a plan; every mistake is found here, all at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from batchrun.core.errors import JobError, NodeError, Problem, known_values
from batchrun.core.job import DefaultOnFailure, NodeOptions, Resource, Run, Workflow
from batchrun.flow.retry import RetryPolicy
from batchrun.workflow.expressions import ExpressionCompiler, Names, Uses
from batchrun.workflow.fingerprint import Fingerprints, fingerprint_of
from batchrun.workflow.graph import Node, find_cycle, stages
from batchrun.workflow.node import NodeCall, NodeType, Render
from batchrun.workflow.plan import NodeFingerprint, Plan, Stage, Step
from batchrun.workflow.references import parse_reference
from batchrun.workflow.scope import Scope
from batchrun.workflow.templates import TemplateEngine, exact_expression
from batchrun.workflow.types import TypeSpec, spec_of, spec_problems
from batchrun.workflow.values import checker

_ROOT = ("workflow",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a workflow is compiled against.

    Attributes:
        columns: the dataset's columns.
        input_field: the column that `{{ input }}` is.
        vars: the job's variables.
        resources: the job's named services.
        run: the run policies; nodes fall back to its retry.
    """

    columns: tuple[str, ...]
    input_field: str | None = None
    vars: Mapping[str, Any] = field(default_factory=dict)
    resources: Mapping[str, Resource] = field(default_factory=dict)
    run: Run = field(default_factory=Run)


def compile_workflow(workflow: Workflow, surroundings: Surroundings) -> Plan:
    """Compile a workflow into a plan.

    Raises:
        JobError: with every mistake found: unknown names, cycles, functions that cannot be imported or called, ….
    """
    return _Compilation(workflow, surroundings).plan()


@dataclass(slots=True, kw_only=True)
class _Bound:
    """A node on its way into the plan."""

    options: NodeOptions
    position: int
    uses: Uses
    inputs: Render
    when: Render | None
    call: NodeCall | None

    @property
    def upstream(self) -> frozenset[str]:
        return frozenset(self.uses.nodes) | set(self.options.needs)


class _Compilation:
    """The compilation of one workflow."""

    def __init__(self, workflow: Workflow, surroundings: Surroundings) -> None:
        self.workflow = workflow
        self.surroundings = surroundings
        self.engine = TemplateEngine()
        self.problems: list[Problem] = []
        self.names = Names(
            columns=surroundings.columns,
            input_field=surroundings.input_field,
            positions={options.id: position for position, options in enumerate(workflow.nodes)},
            vars=surroundings.vars,
        )

    def report(self, path: tuple[str | int, ...], message: str) -> None:
        self.problems.append(Problem((*_ROOT, *path), message))

    def plan(self) -> Plan:
        self._check_ids()
        bound = {options.id: self._bind(position, options) for position, options in enumerate(self.workflow.nodes)}
        self._check_needs(bound)
        output, output_uses = self._output(bound)
        self.problems += [Problem((*_ROOT, *path), message) for path, message in self._output_schema_problems()]
        if self.problems:
            raise JobError(self.problems)
        return self._assemble(bound, output, output_uses)

    def _check_ids(self) -> None:
        seen: dict[str, int] = {}
        for position, options in enumerate(self.workflow.nodes):
            if options.id in seen:
                self.report(("nodes", position, "id"), f"{options.id!r} is already the id of nodes[{seen[options.id]}]")
            seen[options.id] = position

    def _check_needs(self, bound: Mapping[str, _Bound]) -> None:
        for position, options in enumerate(self.workflow.nodes):
            for index, id in enumerate(options.needs):
                if id not in bound:
                    self.report(("nodes", position, "needs", index), f'unknown node "{id}"; {known_values(id, bound, kind="nodes")}')
        upstream = {id: node.upstream & bound.keys() for id, node in bound.items()}
        cycle = find_cycle({id: frozenset(ids) for id, ids in upstream.items()})
        if cycle:
            way = " → ".join(reversed(cycle))
            self.report(("nodes", bound[cycle[0]].position), f"the nodes form a cycle: {way}; remove one of these references")

    def _bind(self, position: int, options: NodeOptions) -> _Bound:
        path: tuple[str | int, ...] = ("nodes", position)
        uses = Uses()
        outside = ExpressionCompiler(engine=self.engine, names=self.names, uses=uses, input_names=None, report=self.report)
        binder = _Binder(self, outside, path, dict(options.inputs))
        if not isinstance(options, NodeType):
            self.report(path, f"{type(options).__qualname__} cannot be run: it has no bind method")
            return _Bound(options=options, position=position, uses=uses, inputs=lambda _scope: {}, when=None, call=None)
        call = options.bind(binder)
        return _Bound(
            options=options,
            position=position,
            uses=uses,
            inputs=outside.compile(binder.inputs, (*path, "inputs")),
            when=outside.expression(options.when, (*path, "when")) if options.when is not None else None,
            call=call,
        )

    def _output(self, bound: Mapping[str, _Bound]) -> tuple[Render, Uses]:
        uses = Uses()
        compiler = ExpressionCompiler(engine=self.engine, names=self.names, uses=uses, input_names=None, report=self.report)
        if self.workflow.output is not None:
            return compiler.compile(self.workflow.output, ("output",)), uses
        read = {id for node in bound.values() for id in node.upstream}
        sinks = [id for id in bound if id not in read]
        references = {id: f"{{{{ nodes.{id}.output }}}}" for id in sinks}
        return compiler.compile(references[sinks[0]] if len(sinks) == 1 else references, ("output",)), uses

    def _output_schema_problems(self) -> list[tuple[tuple[str | int, ...], str]]:
        schema = self.workflow.output_schema
        return [] if schema is None else list(spec_problems(schema, ("output_schema",)))

    def _output_type(self, bound: Mapping[str, _Bound], uses: Uses) -> TypeSpec | None:
        if self.workflow.output_schema is not None:
            return self.workflow.output_schema
        if self.workflow.output is not None:
            expression = exact_expression(self.workflow.output) if isinstance(self.workflow.output, str) else None
            reference = parse_reference(expression) if expression else None
            if reference is None or len(reference) != 3:
                return None
        if len(uses.nodes) != 1:
            return None
        call = bound[next(iter(uses.nodes))].call
        spec = spec_of(call.returns) if call is not None and call.returns is not None else "json"
        return None if spec == "json" else spec

    def _assemble(self, bound: Mapping[str, _Bound], output: Render, output_uses: Uses) -> Plan:
        order = stages({id: Node(node.upstream, node.call is not None and node.call.waits) for id, node in bound.items()})
        steps: dict[str, Step] = {}
        for _, ids in order:
            for id in ids:
                steps[id] = self._step(bound[id], steps)
        output_type = self._output_type(bound, output_uses)
        node_fingerprints, output_fingerprint = self._fingerprints(bound)
        used = output_uses.columns.union(*(node.uses.columns for node in bound.values()))
        return Plan(
            steps=tuple(sorted(steps.values(), key=lambda step: step.position)),
            stages=tuple(Stage(steps=tuple(steps[id] for id in ids), waits=waits) for waits, ids in order),
            output=output,
            output_nodes=sum(steps[id].bit for id in output_uses.nodes),
            output_type=output_type,
            output_check=checker(output_type) if output_type is not None else None,
            columns=tuple(column for column in self.surroundings.columns if column in used),
            lifespans=tuple(node.call.lifespan for node in bound.values() if node.call and node.call.lifespan),
            node_fingerprints=node_fingerprints,
            output_fingerprint=output_fingerprint,
            fingerprint=fingerprint_of(node_fingerprints, output_fingerprint),
        )

    def _step(self, node: _Bound, steps: Mapping[str, Step]) -> Step:
        options, call = node.options, node.call
        if call is None:
            raise AssertionError(f"node {options.id} has no call but reported no problem")
        upstream = [steps[id] for id in node.upstream]
        on_failure = options.on_failure
        return Step(
            position=node.position,
            bit=1 << node.position,
            id=options.id,
            type=options.type,
            call=call.call,
            waits=call.waits,
            inputs=node.inputs,
            when=node.when,
            upstream=sum(step.bit for step in upstream),
            conditional=node.when is not None or (bool(upstream) and all(step.conditional for step in upstream)),
            timeout_seconds=options.timeout_seconds,
            retry=RetryPolicy(
                node=options.retry,
                run=self.surroundings.run.retry,
                max_throttled_seconds=self.surroundings.run.max_throttled_seconds,
            ),
            on_failure=on_failure if isinstance(on_failure, DefaultOnFailure) else str(on_failure),
            queues=call.queues,
            sends_call_key=call.sends_call_key,
            wants_context=call.wants_context,
            restore=call.restore,
        )

    def _fingerprints(self, bound: Mapping[str, _Bound]) -> tuple[dict[str, NodeFingerprint], str]:
        input_field = self.surroundings.input_field
        # A node without inputs may be handed the input by its type, which only shows in the columns it reads.
        read_for_input = {input_field} if input_field is not None else set(self.surroundings.columns)
        fingerprints = Fingerprints(vars=self.surroundings.vars, input_field=input_field)
        nodes = {
            id: fingerprints.node(
                node.options,
                node.call.identity if node.call else "",
                is_given_input=not node.options.inputs and read_for_input <= node.uses.columns,
            )
            for id, node in bound.items()
        }
        return nodes, fingerprints.output(self.workflow)


class _Binder:
    """What one node sees of the compilation: the `NodeCompiler` protocol."""

    def __init__(self, compilation: _Compilation, outside: ExpressionCompiler, path: tuple[str | int, ...], inputs: dict[str, Any]) -> None:
        self._compilation = compilation
        self._outside = outside
        self._path = path
        self.inputs = inputs

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(self.inputs)

    def default_inputs(self, inputs: dict[str, Any]) -> None:
        self.inputs = inputs

    def template(self, value: Any, *path: str | int) -> Render:
        return replace(self._outside, input_names=self.input_names).compile(value, (*self._path, *path))

    def constant(self, value: str, *path: str | int) -> str:
        render = replace(self._outside, roots=("vars",)).compile(value, (*self._path, *path))
        try:
            constant = render(Scope({}, []))
        except NodeError as mistake:
            self.problem(str(mistake), *path)
            constant = None
        return "" if constant is None else str(constant)

    def problem(self, message: str, *path: str | int) -> None:
        self._compilation.report((*self._path, *path), message)

    def resource(self, name: str, *path: str | int) -> Resource | None:
        resources = self._compilation.surroundings.resources
        if name not in resources:
            self.problem(f'unknown resource "{name}"; {known_values(name, resources, kind="resources")}', *path)
        return resources.get(name)
