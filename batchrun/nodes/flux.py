"""The `flux` node: a Flux workflow, run in this process for each item."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from batchrun.core.checks import KEY, at_least, refuse
from batchrun.core.job import NodeOptions
from batchrun.nodes.flux_runs import FluxRun, Given, Library
from batchrun.nodes.identity import identity_of
from batchrun.nodes.outside import ALL, CannotWait, Pauses, Placement, found, in_processes, library, own
from batchrun.nodes.placement import is_isolating
from batchrun.workflows.node import NodeCall, NodeCompiler
from batchrun.workflows.scope import Scope

PACKAGE = "flux"
LEAST_PYTHON = (3, 12)


@dataclass(frozen=True, slots=True, kw_only=True)
class FluxNode(NodeOptions):
    """Runs a Flux workflow (`pip install 'batchrun[flux]'`, Python 3.12 or newer).

    Its `inputs` are the workflow's `ctx.input`, by name; without them, that is `{{ input }}`. Tasks that have completed are not
    run again when the item is tried again or goes on later. `pause` waits for a person. Nothing is written to Flux's database.
    """

    type: Literal["flux"] = "flux"
    """Runs a Flux workflow."""
    workflow: Any
    """`module:name` of a function with `@workflow`."""
    with_tasks: bool = False
    """Give `{"output": …, "tasks": […]}` with name, status, start and duration of each task, instead of the output alone."""
    placement: Placement = field(default="auto", metadata={KEY: "in"})
    """Where it is run. auto: on the event loop, or in a thread if one of its tasks is a plain function; loop: a promise that it
    never blocks; thread: in threads; process: in worker processes, as one call that is run from its start when it is made again."""
    workers: int | None = None
    """The most worker processes; null: as many as there are cores, and never more than `run.parallelism`."""

    def __post_init__(self) -> None:
        NodeOptions.__post_init__(self)  # a class with slots is made twice, which breaks super()
        refuse(at_least(1, workers=self.workers))

    def bind(self, compiler: NodeCompiler) -> NodeCall | None:
        """Import the workflow."""
        names = tuple(compiler.input_names)
        if not names:
            compiler.default_inputs({ALL: "{{ input }}"})
        package = library(PACKAGE, "flux", "flux-core", compiler, LEAST_PYTHON)
        workflow = found(self.workflow, compiler, "workflow") if package is not None else None
        if workflow is None:
            return None
        flux = loaded(package)
        if not isinstance(workflow, flux.workflow):
            kind = type(workflow).__qualname__
            compiler.problem(f"must be a function with @workflow of flux; {self.workflow} is of type {kind}", "workflow")
            return None
        given = Given(workflow=workflow, pauses=Pauses(compiler), with_tasks=self.with_tasks)
        in_thread = self.placement == "thread" or (self.placement == "auto" and _may_block(workflow, flux))
        identity = identity_of(inspect.unwrap(workflow))
        if self.placement == "process" or (is_isolating() and in_thread):
            return self._in_processes(names, identity, compiler)

        def begun(scope: Scope) -> FluxRun:
            return FluxRun(flux, given, own(scope.inputs) if names else own(scope.inputs)[ALL], scope.parts)

        async def run(scope: Scope) -> Any:
            return await begun(scope).run()

        return NodeCall(
            call=(lambda scope: begun(scope).run_here()) if in_thread else run,
            waits=not in_thread,
            has_parts=True,
            key=lambda scope: scope.inputs,
            identity=identity,
        )

    def _in_processes(self, names: tuple[str, ...], identity: str, compiler: NodeCompiler) -> NodeCall | None:
        if not isinstance(self.workflow, str):
            compiler.problem("in: process needs the workflow as module:name, which worker processes can import", "workflow")
            return None
        whole = in_processes(partial(run_whole, self.workflow, self.with_tasks), self.id, self.workers, names, compiler)
        if whole is None:
            return None
        call, place = whole
        return NodeCall(
            call=call, waits=True, queues=True, lifespan=place.lifespan, key=lambda scope: scope.inputs, identity=f"process {identity}"
        )


async def run_whole(workflow: str, with_tasks: bool, value: Any) -> Any:  # noqa: FBT001 - of a partial that is sent to workers
    """Run a workflow to its end, in a worker process.

    Args:
        workflow: `module:name`.
        with_tasks: whether to tell of its tasks.
        value: its input.

    Raises:
        CannotWait: it pauses.
    """
    module, _, name = workflow.partition(":")
    found: Any = importlib.import_module(module)
    for each in name.split("."):
        found = getattr(found, each)
    run = FluxRun(loaded(importlib.import_module(PACKAGE)), Given(workflow=found, pauses=None, with_tasks=with_tasks), value, None)
    if await run.next() is not None:
        raise CannotWait(f"the workflow pauses, which one in: process cannot: {workflow}")
    return run.outcome()


def loaded(package: Any) -> Library:
    """The names of the library that runs need."""
    events = importlib.import_module(f"{PACKAGE}.domain.events")
    return Library(
        workflow=package.workflow,
        task=package.task,
        context=package.ExecutionContext,
        event=package.ExecutionEvent,
        kinds=events.ExecutionEventType,
        error=importlib.import_module(f"{PACKAGE}.errors").ExecutionError,
    )


def _may_block(workflow: Any, flux: Library) -> bool:
    """Whether the workflow, or a task that its module knows, is a plain function."""
    function = inspect.unwrap(workflow)
    tasks = [value for value in getattr(function, "__globals__", {}).values() if isinstance(value, flux.task)]
    return not all(map(inspect.iscoroutinefunction, [function, *map(inspect.unwrap, tasks)]))
