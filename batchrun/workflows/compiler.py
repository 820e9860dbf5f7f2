"""From the workflow of a job to a plan; every mistake is found here, all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from batchrun.core.errors import JobError, Problem, known_values
from batchrun.core.job import FallbackOnFailure, NodeOptions, Resource, Run, Workflow
from batchrun.core.prices import Price
from batchrun.flow.retry import RetryPolicy
from batchrun.workflows.binding import Binder, check_journal, check_sharing
from batchrun.workflows.expressions import ROOTS, WITH_SECRETS, ExpressionCompiler, Names, Uses
from batchrun.workflows.file_inputs import bind_files, is_file, with_files, with_sources
from batchrun.workflows.fingerprint import Fingerprints, fingerprint_of
from batchrun.workflows.given import GivenInputs
from batchrun.workflows.graph import Node, find_cycle, stages
from batchrun.workflows.node import NodeCall, NodeType, Render
from batchrun.workflows.plan import NodeFingerprint, Plan, Stage, Step
from batchrun.workflows.references import parse_reference
from batchrun.workflows.routes import Routes, routes_of
from batchrun.workflows.templates import TemplateEngine, exact_expression
from batchrun.workflows.types import TypeSpec, spec_of, spec_problems
from batchrun.workflows.values import checker

_ROOT = ("workflow",)
_SHOWN = ("approval",)  # a person sees what these nodes are given


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a workflow is compiled against.

    Attributes:
        columns: the dataset's columns.
        input_field: the column that `{{ input }}` is.
        vars: the job's variables.
        secrets: the job's secrets, by name.
        resources: the job's named services.
        run: the run policies; nodes fall back to its retry.
        inputs: inputs of nodes that the dataset gives, as they are addressed.
        folder: what relative paths start from.
        prices: what tokens of models cost.
    """

    columns: tuple[str, ...]
    input_field: str | None = None
    vars: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, Resource] = field(default_factory=dict)
    run: Run = field(default_factory=Run)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    folder: Path = field(default_factory=Path)
    prices: Mapping[str, Price] = field(default_factory=dict)


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
    branches: frozenset[str] = frozenset()

    @property
    def asks_person(self) -> bool:
        return self.call is not None and self.call.asks_person

    @property
    def waits(self) -> bool:
        call, options = self.call, self.options
        return call is not None and (call.waits or call.turn is not None or options.dedupe or options.batch is not None)

    @property
    def sources(self) -> frozenset[str]:
        return frozenset(self.uses.nodes) | set(self.options.needs)


class _Compilation:
    """The compilation of one workflow."""

    def __init__(self, workflow: Workflow, surroundings: Surroundings) -> None:
        self.workflow = workflow
        self.surroundings = surroundings
        self.engine = TemplateEngine()
        self.problems: list[Problem] = []
        self.routes: Routes
        self.names = Names(
            columns=surroundings.columns,
            input_field=surroundings.input_field,
            positions={options.id: position for position, options in enumerate(workflow.nodes)},
            vars=surroundings.vars,
            secrets=surroundings.secrets,
        )
        self.given = GivenInputs(workflow.nodes, surroundings.inputs, self.problems.append)

    def report(self, path: tuple[str | int, ...], message: str) -> None:
        self.problems.append(Problem(self.given.place_of(path) or (*_ROOT, *path), message))

    def plan(self) -> Plan:
        self._check_ids()
        bound = {options.id: self._bind(position, options) for position, options in enumerate(self.workflow.nodes)}
        self._check_needs(bound)
        self.routes = routes_of(bound, self.report)
        self._check_cycles(bound)
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

    def _check_cycles(self, bound: Mapping[str, _Bound]) -> None:
        cycle = find_cycle({id: frozenset(self.routes.upstream(id) & bound.keys()) for id in bound})
        if cycle:
            way = " → ".join(reversed(cycle))
            reasons = "".join(f"; {reason}" for reason in self.routes.reasons(cycle))
            self.report(("nodes", bound[cycle[0]].position), f"the nodes form a cycle: {way}; remove one of these references{reasons}")

    def _bind(self, position: int, options: NodeOptions) -> _Bound:
        path: tuple[str | int, ...] = ("nodes", position)
        uses, around = Uses(), self.surroundings
        options = self.given.to(options, position)
        roots = ROOTS if options.type in _SHOWN else WITH_SECRETS
        outside = ExpressionCompiler(engine=self.engine, names=self.names, uses=uses, input_names=None, report=self.report, roots=roots)
        binder = Binder(outside, path, dict(options.inputs), around.resources, around.folder, self.report)
        binder.compile_part = self._part
        binder.prices, binder.budget, binder.run_retry = around.prices, around.run.budget, around.run.retry
        if not isinstance(options, NodeType):
            self.report(path, f"{type(options).__qualname__} cannot be run: it has no bind method")
            return _Bound(options=options, position=position, uses=uses, inputs=lambda _scope: {}, when=None, call=None)
        call = options.bind(binder)
        options = self.given.to_default(options, binder.inputs, position)
        files = bind_files(options.inputs, Binder(outside, path, {}, around.resources, around.folder, self.report))
        if call is not None:
            call = with_files(call, files)
            check_sharing(options, call, binder.problem)
            check_journal(options, call, around.run, binder.problem)
        plain = {name: value for name, value in (options.inputs or binder.inputs).items() if not is_file(value)}
        return _Bound(
            branches=frozenset(binder.branches),
            options=options,
            position=position,
            uses=uses,
            inputs=with_sources(outside.compile(plain, (*path, *binder.inputs_path)), files),
            when=outside.expression(options.when, (*path, "when")) if options.when is not None else None,
            call=call,
        )

    def _part(self, workflow: Workflow, columns: Sequence[str], input_field: str | None) -> Plan:
        return compile_workflow(workflow, replace(self.surroundings, columns=tuple(columns), input_field=input_field, inputs={}))

    def _output(self, bound: Mapping[str, _Bound]) -> tuple[Render, Uses]:
        uses = Uses()
        compiler = ExpressionCompiler(engine=self.engine, names=self.names, uses=uses, input_names=None, report=self.report)
        if self.workflow.output is not None:
            return compiler.compile(self.workflow.output, ("output",)), uses
        # A fallback that looks at the node it runs for does not make that one less of a last node.
        read = {source for id, node in bound.items() for source in node.sources if source not in self.routes.stands_in_for(id)}
        sinks = [id for id, node in bound.items() if not (id in read or node.branches or self.routes.is_fallback(id))]
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
        node = bound[next(iter(uses.nodes))]
        if isinstance(node.options.on_failure, FallbackOnFailure):
            return None  # the output of another node may stand in its place
        call = node.call
        spec = spec_of(call.returns) if call is not None and call.returns is not None else "json"
        return None if spec == "json" else spec

    def _assemble(self, bound: Mapping[str, _Bound], output: Render, output_uses: Uses) -> Plan:
        order = stages({id: Node(self.routes.upstream(id), node.waits, node.asks_person) for id, node in bound.items()})
        node_fingerprints, output_fingerprint = self._fingerprints(bound)
        steps: dict[str, Step] = {}
        for _, ids in order:
            for id in ids:
                steps[id] = self._step(bound[id], steps, node_fingerprints[id])
        output_type = self._output_type(bound, output_uses)
        used = output_uses.columns.union(*(node.uses.columns for node in bound.values()))
        return Plan(
            steps=tuple(sorted(steps.values(), key=lambda step: step.position)),
            stages=tuple(Stage(steps=tuple(steps[id] for id in ids), waits=waits) for waits, ids in order),
            output=output,
            output_nodes=sum(steps[id].bit for id in output_uses.nodes),
            max_output_bytes=sum(bound[id].options.max_output_bytes for id in output_uses.nodes) or None,
            output_type=output_type,
            output_check=checker(output_type) if output_type is not None else None,
            columns=tuple(column for column in self.surroundings.columns if column in used),
            lifespans=tuple(node.call.lifespan for node in bound.values() if node.call and node.call.lifespan),
            node_fingerprints=node_fingerprints,
            output_fingerprint=output_fingerprint,
            fingerprint=fingerprint_of(node_fingerprints, output_fingerprint),
        )

    def _step(self, node: _Bound, steps: Mapping[str, Step], fingerprint: NodeFingerprint) -> Step:
        options, call = node.options, node.call
        if call is None:
            raise AssertionError(f"node {options.id} has no call but reported no problem")
        sources = [steps[id] for id in node.sources]
        routes, on_failure = self.routes, options.on_failure
        chosen_by = tuple(steps[id].position for id in sorted(routes.choosers(options.id)))
        stands_in_for = tuple(steps[id].position for id in routes.stands_in_for(options.id))
        return Step(
            position=node.position,
            bit=1 << node.position,
            id=options.id,
            type=options.type,
            call=call.call,
            waits=node.waits,
            call_waits=call.waits,
            inputs=node.inputs,
            when=node.when,
            upstream=sum(steps[id].bit for id in routes.upstream(options.id)),
            sources=sum(step.bit for step in sources),
            chosen_by=chosen_by,
            fallback_for=1 << stands_in_for[0] if stands_in_for else 0,
            stands_in_for=stands_in_for,
            conditional=bool(
                node.when is not None or chosen_by or stands_in_for or (sources and all(step.conditional for step in sources))
            ),
            timeout_seconds=None if call.keeps_timeout else options.timeout_seconds,
            retry=RetryPolicy(
                node=options.retry,
                run=self.surroundings.run.retry,
                max_throttled_seconds=self.surroundings.run.max_throttled_seconds,
            ),
            on_failure="continue" if isinstance(on_failure, FallbackOnFailure) else on_failure,
            queues=call.queues or call.turn is not None,
            turn=call.turn,
            sends_call_key=call.sends_call_key,
            wants_context=call.wants_context,
            asks_person=call.asks_person,
            has_parts=call.has_parts,
            restore=call.restore,
            is_cached=options.cache,
            is_deduped=options.dedupe,
            batch=options.batch,
            max_output_bytes=options.max_output_bytes,
            key=call.key,
            call_many=call.call_many,
            fingerprint=":".join(fingerprint),
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
