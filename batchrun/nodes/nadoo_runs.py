"""Runs of Nadoo Flows as calls of a node: each node of a flow is a part of the call."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from batchrun.core.job import NodeOptions, Workflow
from batchrun.nodes.nadoo_flows import Blueprint, Inner, is_plain_function
from batchrun.nodes.outside import Pauses, plain
from batchrun.workflows.node import NodeCall, NodeCompiler
from batchrun.workflows.parts import Parts
from batchrun.workflows.plan import Plan
from batchrun.workflows.scope import Scope


class Runner:
    """Runs a flow for items, each node as a part of the call.

    Args:
        blueprint: the flow.
        nadoo: the library.
        compiler: compiles its nodes, when they are first run.
    """

    def __init__(self, blueprint: Blueprint, nadoo: Any, compiler: NodeCompiler) -> None:
        self._blueprint = blueprint
        self._nadoo = nadoo
        self._compiler = compiler
        self._plans: dict[tuple[str, bool], Plan] = {}
        self._pauses = Pauses(compiler)

    async def run(self, data: dict[str, Any], scope: Scope) -> Any:
        """Run the flow for an item."""
        parts, counts = scope.parts, Counter[str]()
        if parts is None:
            raise AssertionError("a node with parts is given them")

        async def perform(inner: Inner) -> dict[str, Any]:
            key = f"{inner.name}:{counts[inner.name]}"
            counts[inner.name] += 1
            said = await parts.run(self._plan(inner), _Live(inner), key)
            return said if "waits" not in said else await self._decided(inner, said, parts, key)

        return plain(await self._blueprint.run(self._nadoo, data, perform))

    async def _decided(self, inner: Inner, said: dict[str, Any], parts: Parts, key: str) -> dict[str, Any]:
        """What the node gave, or what a person has put in its place. The library has no way to go on; we do not let it stop."""
        shown = said["output"] if said["waits"] is True else {"output": said["output"], "waiting_for": said["waits"]}
        given = await parts.run(self._pauses.of(f"{inner.name}_approval"), {"output": shown}, f"{key}-approval")
        if given == shown:
            return said
        return {**said, "output": given if isinstance(given, dict) else {"approval": given}}

    def _plan(self, inner: Inner) -> Plan:
        placement = self._blueprint.placement
        in_thread = placement == "thread" or (placement == "auto" and is_plain_function(inner.node))
        key = (inner.name, in_thread)
        if key not in self._plans:
            node = _InnerNode(id=inner.name, inputs={"input": "{{ item.input }}"}, retry=self._blueprint.retry, in_thread=in_thread)
            self._plans[key] = self._compiler.part(Workflow(nodes=(node,)), ["input"])
        return self._plans[key]


class _Live(dict[str, Any]):
    """The data of a part, which also leads to the node that is run: the plan is the same for all items."""

    def __init__(self, inner: Inner) -> None:
        super().__init__(input=dict(inner.context.input_data))
        self.inner = inner


@dataclass(frozen=True, slots=True, kw_only=True)
class _InnerNode(NodeOptions):
    """A node of a flow."""

    type: Literal["nadoo"] = "nadoo"
    in_thread: bool = False

    def bind(self, _compiler: NodeCompiler) -> NodeCall:
        """It is found in the item."""
        if self.in_thread:
            return NodeCall(call=lambda scope: asyncio.run(_inner(scope).perform()))
        return NodeCall(call=lambda scope: _inner(scope).perform(), waits=True)


def _inner(scope: Scope) -> Inner:
    assert isinstance(scope.item, _Live)  # noqa: S101 - for mypy
    return scope.item.inner
