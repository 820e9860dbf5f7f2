"""What a node may ask for while it is bound into a workflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from batchrun.core.errors import NodeError, known_values
from batchrun.core.job import NodeOptions, Resource, Run, Workflow
from batchrun.core.policies import Budget, Retry
from batchrun.core.prices import Price
from batchrun.workflows.expressions import ExpressionCompiler
from batchrun.workflows.node import NodeCall, Render
from batchrun.workflows.plan import Plan
from batchrun.workflows.scope import Scope
from batchrun.workflows.services import ROOTS as SETTING_ROOTS
from batchrun.workflows.services import filled

ValuePath: TypeAlias = tuple[str | int, ...]

_CHEAP = ("template", "switch")


class Binder:
    """What one node sees of the compilation: the `NodeCompiler` protocol.

    Args:
        outside: compiles what may not refer to the node's own inputs.
        path: of the node, in the workflow.
        inputs: what the job gives it.
        resources: of the job.
        folder: what relative paths start from.
        report: takes mistakes.

    Attributes:
        inputs: what it is given in the end.
        inputs_path: where the job says so, in the node.
        branches: the nodes it chooses from.
        compile_part: compiles another workflow in the surroundings of this one.
        prices: see `NodeCompiler`.
        budget: see `NodeCompiler`.
        run_retry: see `NodeCompiler`.
    """

    prices: Mapping[str, Price]
    budget: Budget
    run_retry: Retry
    compile_part: Callable[[Workflow, Sequence[str], str | None], Plan]

    def __init__(
        self,
        outside: ExpressionCompiler,
        path: ValuePath,
        inputs: dict[str, Any],
        resources: Mapping[str, Resource],
        folder: Path,
        report: Callable[[ValuePath, str], None],
    ) -> None:
        self._outside = outside
        self._path = path
        self._positions = outside.names.positions
        self._resources = resources
        self._folder = folder
        self._report = report
        self.inputs = inputs
        self.inputs_path: tuple[str, ...] = ("inputs",)
        self.branches: list[str] = []

    @property
    def input_names(self) -> tuple[str, ...]:
        """See `NodeCompiler`."""
        return tuple(self.inputs)

    @property
    def folder(self) -> Path:
        """See `NodeCompiler`."""
        return self._folder

    def default_inputs(self, inputs: dict[str, Any], at: tuple[str, ...] = ("inputs",)) -> None:
        """See `NodeCompiler`."""
        self.inputs, self.inputs_path = inputs, at

    def template(self, value: Any, *path: str | int) -> Render:
        """See `NodeCompiler`."""
        return replace(self._outside, input_names=self.input_names).compile(value, (*self._path, *path))

    def constant(self, value: str, *path: str | int) -> str:
        """See `NodeCompiler`."""
        constant = self.constants(value, *path)
        return "" if constant is None else str(constant)

    def constants(self, value: Any, *path: str | int) -> Any:
        """See `NodeCompiler`."""
        render = replace(self._outside, roots=("vars",)).compile(value, (*self._path, *path))
        try:
            return render(Scope({}, []))
        except NodeError as mistake:
            self.problem(str(mistake), *path)
            return None

    def credentials(self, value: Any, *path: str | int) -> Any:
        """See `NodeCompiler`."""
        return filled(value, replace(self._outside, roots=SETTING_ROOTS), (*self._path, *path))

    def secrets(self, names: Sequence[str], *path: str | int) -> dict[str, str]:
        """See `NodeCompiler`."""
        known = self._outside.names.secrets
        for name in names:
            if name not in known:
                self.problem(
                    f"unknown secret {name!r}; {known_values(name, known, kind='secrets')}: name it under secrets of the job", *path
                )
        return {name: known[name] for name in names if name in known}

    def branch(self, id: str, *path: str | int) -> None:
        """See `NodeCompiler`."""
        known = self._positions
        if id not in known:
            self.problem(f'unknown node "{id}"; {known_values(id, known, kind="nodes")}', *path)
        self.branches.append(id)

    def part(self, workflow: Workflow, columns: Sequence[str], input_field: str | None = None) -> Plan:
        """See `NodeCompiler`."""
        return self.compile_part(workflow, columns, input_field)

    def problem(self, message: str, *path: str | int) -> None:
        """See `NodeCompiler`."""
        self._report((*self._path, *path), message)

    def resource(self, name: str, *path: str | int) -> Resource | None:
        """See `NodeCompiler`."""
        resources = self._resources
        if name not in resources:
            self.problem(f'unknown resource "{name}"; {known_values(name, resources, kind="resources")}', *path)
        return resources.get(name)


def check_journal(options: NodeOptions, call: NodeCall, run: Run, problem: Callable[..., None]) -> None:
    """Report a node that waits for a person where nothing keeps the decision."""
    if call.asks_person and not run.durable:
        problem(
            f"a node of type {options.type} waits for a person, whose decision is kept in the journal: remove run.durable: false", "type"
        )


def check_sharing(options: NodeOptions, call: NodeCall, problem: Callable[..., None]) -> None:
    """Report what a node cannot share with other items, though the job says so."""
    for name, wanted in (("cache", options.cache), ("dedupe", options.dedupe)):
        if wanted and options.type in _CHEAP:
            problem(f"a {options.type} node takes less time than to look whether its output is known: remove it", name)
        elif wanted and call.key is None:
            problem(f"a {options.type} node cannot say whether two calls are the same; remove it", name)
    if options.batch is not None and call.turn is not None:
        problem("cannot be given with a resource, through which one call goes for each item; remove one of the two", "batch")
    if options.batch is not None and call.call_many is None:
        problem(f"a {options.type} node makes one call for each item; remove it", "batch")
