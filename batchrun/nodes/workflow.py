"""The `workflow` node: another workflow, over one value or over each element of a list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from batchrun.core.checks import at_least, refuse
from batchrun.core.errors import InvalidValue, JobError
from batchrun.core.job import NodeOptions, Workflow
from batchrun.workflows.node import NodeCall, NodeCompiler, Render
from batchrun.workflows.parts import Parts
from batchrun.workflows.plan import Plan
from batchrun.workflows.scope import Scope

_ELEMENT = "input"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowNode(NodeOptions):
    """Runs another workflow.

    Its `inputs` are what that workflow finds in its `item`; without them it finds the input of this one, as `input`. With
    `map`, it is run once for each element of a list, which is its `input`, and the outputs are a list in the same order.
    Its nodes are recorded under this node's id, a dot and theirs.
    """

    type: Literal["workflow"] = "workflow"
    """Runs another workflow."""
    workflow: Workflow
    """Nodes that refer to one another, as in the workflow of the job."""
    map: Any = None
    """A template that gives a list; null: the workflow is run once."""
    parallelism: int = 4
    """Elements worked on at once."""

    def __post_init__(self) -> None:
        NodeOptions.__post_init__(self)  # a class with slots is made twice, which breaks super()
        refuse(at_least(1, parallelism=self.parallelism))

    def held(self) -> tuple[Workflow, Any]:
        """What is drawn within this node, and the list for whose elements it is run; see `Holding`."""
        return self.workflow, self.map

    def bind(self, compiler: NodeCompiler) -> NodeCall | None:
        """Compile the workflow."""
        if not compiler.input_names and self.map is None:
            compiler.default_inputs({_ELEMENT: "{{ input }}"})
        if self.map is not None and _ELEMENT in compiler.input_names:
            compiler.problem("is the element of the list: give this input another name", "inputs", _ELEMENT)
        names = list(dict.fromkeys([*compiler.input_names, *([_ELEMENT] if self.map is not None else [])]))
        elements = None if self.map is None else compiler.template(self.map, "map")
        try:
            plan = compiler.part(self.workflow, names, _ELEMENT if _ELEMENT in names else None)
        except JobError as error:
            for problem in error.problems:
                compiler.problem(problem.message, *problem.path)
            return None
        # Nodes that never wait stay in the lane their item is in: handing them over would cost more than they do.
        waits = elements is not None or not plan.is_one_stretch or any(step.timeout_seconds is not None for step in plan.steps)
        once = _once if waits else _once_here
        return NodeCall(
            call=partial(once, plan) if elements is None else partial(_each, plan, elements, self.parallelism),
            waits=waits,
            has_parts=True,
            key=(lambda scope: scope.inputs) if elements is None else lambda scope: [scope.inputs, elements(scope)],
            identity=plan.fingerprint,
        )


async def _once(plan: Plan, scope: Scope) -> Any:
    return await _parts(scope).run(plan, scope.inputs, "once")


def _once_here(plan: Plan, scope: Scope) -> Any:
    return _parts(scope).run_now(plan, scope.inputs, "once")


async def _each(plan: Plan, elements: Render, parallelism: int, scope: Scope) -> list[Any]:
    values, parts = elements(scope), _parts(scope)
    if not isinstance(values, list | tuple):
        raise InvalidValue(f"map must give a list, got {type(values).__qualname__}")

    def run(number: int, element: Any) -> Callable[[], Awaitable[Any]]:
        return lambda: parts.run(plan, {**scope.inputs, _ELEMENT: element}, str(number))

    return await parts.together([run(number, element) for number, element in enumerate(values)], parallelism)


def _parts(scope: Scope) -> Parts:
    if scope.parts is None:
        raise AssertionError("a node with parts is given them")
    return scope.parts
