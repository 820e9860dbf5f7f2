"""Python workflows as nodes: what their functions call becomes plans that run as parts of the node's call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from inspect import getclosurevars
from types import FunctionType, ModuleType
from typing import Any, TypeAlias

from batchrun.core.errors import InvalidValue, JobError
from batchrun.core.job import FallbackOnFailure, NodeOptions, Workflow
from batchrun.nodes.annotations import hints_of, is_context
from batchrun.nodes.approval import ApprovalNode
from batchrun.nodes.placement import is_isolating, isolating
from batchrun.nodes.sources import names_in
from batchrun.workflows.flow import Flow, PlainFlow, running, running_here
from batchrun.workflows.functions import NodeFunction, PythonWorkflow
from batchrun.workflows.node import NodeCall, NodeCompiler
from batchrun.workflows.parts import Parts
from batchrun.workflows.plan import Plan, Step
from batchrun.workflows.scope import Scope

Called: TypeAlias = NodeFunction[..., Any] | PythonWorkflow[..., Any]
MakeNode: TypeAlias = Callable[..., NodeOptions]
"""Makes the options of a `python` node from keyword arguments."""


def as_flow(call: NodeCall, compiler: NodeCompiler, make_node: MakeNode) -> NodeCall:
    """The call of a function that is a workflow: what it calls is recorded.

    Args:
        call: of the plain function.
        compiler: compiles what it calls, when it is first called.
        make_node: makes the nodes for that.
    """
    plans = _Plans(compiler, make_node)

    async def run(scope: Scope) -> Any:
        return await running(Flow(_parts(scope), plans.of, plans.of_pause), partial(call.call, scope))

    def run_here(scope: Scope) -> Any:
        return running_here(PlainFlow(_parts(scope), plans.of_plain, plans.of_pause), partial(call.call, scope))

    return replace(call, call=run if call.waits else run_here, has_parts=True)


def check_named(flow: PythonWorkflow[..., Any], compiler: NodeCompiler) -> None:
    """Report resources and secrets that the job does not have, of functions whose names a workflow refers to: before it is called.

    Functions that are made while it runs are only known when they are called.
    """
    met: set[int] = set()
    left: list[Called] = [flow]
    while left:
        called = left.pop()
        if id(called) in met:
            continue
        met.add(id(called))
        if called is not flow and called.options.resource is not None:
            compiler.resource(called.options.resource, "call", called.name, "resource")
        if called is not flow and called.options.secrets:
            compiler.secrets(called.options.secrets, "call", called.name, "secrets")
        if isinstance(called.options.fallback, NodeFunction | PythonWorkflow):
            left.append(called.options.fallback)
        if isinstance(called, PythonWorkflow):
            left += sorted(_named_in(called.function), key=lambda each: each.name)


def _named_in(function: Callable[..., Any]) -> Iterator[Called]:
    """The nodes and workflows that the source of a function names."""
    if not isinstance(function, FunctionType):
        return
    values = {**function.__globals__, **getclosurevars(function).nonlocals}
    for name, *attributes in names_in(function.__code__, function.__globals__):
        value = values.get(name)
        for attribute in attributes:
            value = vars(value).get(attribute) if isinstance(value, ModuleType) else None
        if isinstance(value, NodeFunction | PythonWorkflow):
            yield value


class _Plans:
    """The plans of what a Python workflow calls, each made once, when it is first called; from any thread."""

    def __init__(self, compiler: NodeCompiler, make_node: MakeNode) -> None:
        self._compiler = compiler
        self._make_node = make_node
        self._is_isolating = is_isolating()
        self._plans: dict[object, Plan] = {}
        self._plain: dict[object, Plan] = {}
        self._making = threading.Lock()

    def of(self, called: Called) -> Plan:
        """The plan of a function.

        Raises:
            InvalidValue: it cannot be a node, or not with these options.
        """
        plan = self._plans.get(called)
        return plan if plan is not None else self._made(called, lambda: self._plan(called))

    def of_plain(self, called: Called) -> Plan:
        """The same for a workflow that is no async function.

        Raises:
            InvalidValue: such a workflow cannot call it.
        """
        plan = self._plain.get(called)
        if plan is not None:
            return plan
        plan = self.of(called)
        if not plan.is_one_stretch or any(step.timeout_seconds is not None for step in plan.steps):
            raise InvalidValue(
                f"{called.name} cannot be called in a workflow that is no async function: only plain functions can, without "
                "timeout_seconds, dedupe, placement and resource; write async def, and await its nodes"
            )
        self._plain[called] = plan
        return plan

    def of_pause(self, name: str) -> Plan:
        """The plan of a pause."""
        plan = self._plans.get(name)
        return plan if plan is not None else self._made(name, lambda: self._pause(name))

    def _made(self, key: object, make: Callable[[], Plan]) -> Plan:
        with self._making:  # all lanes may come to the first call of a function at once
            if key not in self._plans:
                self._plans[key] = make()
            return self._plans[key]

    def _plan(self, called: Called) -> Plan:
        try:
            with isolating(self._is_isolating):
                return _plan(called, self._compiler, self._make_node)
        except JobError as error:  # another call would not be made, either
            raise InvalidValue(f"{called.name} cannot be called: {'; '.join(each.message for each in error.problems)}") from None

    def _pause(self, name: str) -> Plan:
        nodes = (ApprovalNode(id=name, output="{{ input }}"),)
        return _direct(self._compiler.part(Workflow(nodes=nodes), ["output"], "output"))


def _parts(scope: Scope) -> Parts:
    if scope.parts is None:
        raise AssertionError("a node with parts is given them")
    return scope.parts


def _plan(called: Called, compiler: NodeCompiler, make_node: MakeNode) -> Plan:
    """A function, and those that run in its place when it has failed."""
    chain: list[Called] = [called]
    while (fallback := chain[-1].options.fallback) is not None:
        chain.append(
            fallback
            if isinstance(fallback, NodeFunction | PythonWorkflow)
            else NodeFunction(fallback, replace(called.options, name=None, fallback=None))
        )
    names = [each.name if number == 0 or each.name != called.name else f"{each.name}_{number + 1}" for number, each in enumerate(chain)]
    nodes = [_node(each, name, after, make_node) for each, name, after in zip(chain, names, [*names[1:], None], strict=True)]
    columns = dict.fromkeys(parameter for each in chain for parameter in each.parameters)
    return _direct(compiler.part(Workflow(nodes=tuple(nodes), output=f"{{{{ nodes.{names[0]}.output }}}}"), list(columns)))


def _node(called: Called, name: str, fallback: str | None, make_node: MakeNode) -> NodeOptions:
    options = called.options
    limits = {} if options.max_output_bytes is None else {"max_output_bytes": options.max_output_bytes}
    hints, given = hints_of(called.function), ("secrets",) if options.secrets else ()
    return make_node(
        id=name,
        call=called,
        inputs={
            parameter: f"{{{{ item.{parameter} }}}}"
            for parameter in called.parameters
            if not (is_context(hints.get(parameter)) or parameter in given)
        },
        retry=options.retry,
        timeout_seconds=options.timeout_seconds,
        on_failure="stop" if fallback is None else FallbackOnFailure(fallback=fallback),
        cache=options.cache,
        dedupe=options.dedupe,
        placement=options.placement,
        resource=options.resource,
        secrets=options.secrets,
        **limits,
    )


def _direct(plan: Plan) -> Plan:
    """The plan with inputs and output that are handed over as they are: arguments may be anything, and some may be left out."""
    steps = {step.position: _changed(step) for step in plan.steps}
    return replace(
        plan,
        steps=tuple(steps[step.position] for step in plan.steps),
        stages=tuple(replace(stage, steps=tuple(steps[step.position] for step in stage.steps)) for stage in plan.stages),
        output=lambda scope: scope.outputs[0],
        output_type=None,
        output_check=None,
    )


def _changed(step: Step) -> Step:
    """A function that is called is no workflow, even if it calls functions that are nodes elsewhere."""
    if step.has_parts:
        return replace(step, inputs=_data)
    call = step.call

    async def awaited(scope: Scope) -> Any:
        return await running(None, partial(call, scope))

    return replace(step, inputs=_data, call=awaited if step.call_waits else lambda scope: running_here(None, partial(call, scope)))


def _data(scope: Scope) -> dict[str, Any]:
    return scope.item
