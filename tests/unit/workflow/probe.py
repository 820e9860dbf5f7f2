"""A node type for tests of workflows, and the short way from a template to its value."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import pytest

from batchrun.core.errors import JobError
from batchrun.core.job import NodeOptions, Workflow
from batchrun.workflows.compiler import Surroundings, compile_workflow
from batchrun.workflows.node import NodeCall, NodeCompiler
from batchrun.workflows.plan import Plan
from batchrun.workflows.scope import Scope

COLUMNS = ("name", "size", "tags", "place", "weird col")
VARS = {"model": {"name": "small"}, "limits": [1, 2]}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeNode(NodeOptions):
    """Gives back its inputs, and is what a test wants it to be."""

    type: str = "probe"
    waits: bool = False
    returns: Any = None
    identity: str = ""
    resource: str | None = None
    base: str | None = None
    text: Any = None
    default_inputs: dict[str, Any] | None = None
    lifespan: Callable[[], AbstractAsyncContextManager[None]] | None = None

    def bind(self, compiler: NodeCompiler) -> NodeCall | None:
        if self.default_inputs is not None and not compiler.input_names:
            compiler.default_inputs(self.default_inputs)
        if self.resource is not None:
            compiler.resource(self.resource, "resource")
        start = compiler.constant(self.base, "base") if self.base is not None else ""
        render = compiler.template(self.text, "text")
        return NodeCall(
            call=lambda scope: (start, render(scope), scope.inputs),
            waits=self.waits,
            returns=self.returns,
            identity=self.identity,
            lifespan=self.lifespan,
        )


def probe(id: str, *needs: str, **options: Any) -> ProbeNode:
    return ProbeNode(id=id, needs=needs, **options)


def compiled(*nodes: NodeOptions, output: Any = None, output_schema: Any = None, **surroundings: Any) -> Plan:
    workflow = Workflow(nodes=nodes or (probe("a"),), output=output, output_schema=output_schema)
    return compile_workflow(workflow, Surroundings(**{"columns": COLUMNS, "vars": VARS, **surroundings}))


def value_of(output: Any, item: dict[str, Any] | None = None, *, a: Any = None, **surroundings: Any) -> Any:
    """The value of a workflow's `output` for an item, when the output of its only node, `a`, is given."""
    return compiled(output=output, **surroundings).output(Scope(item or {}, [a]))


def problems_of(*nodes: NodeOptions, **options: Any) -> list[str]:
    """The mistakes that are found in a workflow."""
    with pytest.raises(JobError) as caught:
        compiled(*nodes, **options)
    return [str(problem) for problem in caught.value.problems]
