"""Python workflows and sub-workflows over a few rows, as the tests of parts of calls want them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import anyio
import orjson

from batchrun.core.items import ItemResult
from batchrun.core.job import NodeOptions, Run, Workflow
from batchrun.core.policies import Backoff, Match, Retry, RetryRule
from batchrun.nodes.python import PythonNode
from batchrun.nodes.workflow import WorkflowNode
from batchrun.testing.rows import RowRun
from batchrun.workflows.functions import node, workflow

PATIENT = Run(retry=Retry(max_attempts=3, backoff=Backoff(initial_seconds=1, max_seconds=1)))
THROTTLES = Retry(max_attempts=1, rules=(RetryRule(match=Match(error_type="ConnectionError"), action="throttle"),))
ONCE = Retry(max_attempts=1)


def flow(function: Callable[..., Any], id: str = "flow", **options: Any) -> PythonNode:
    """A node whose function takes the number of the row."""
    return PythonNode(id=id, call=function, inputs={"n": "{{ item.n }}"}, **options)


def sub(*nodes: NodeOptions, id: str = "sub", output: Any = None, **options: Any) -> WorkflowNode:
    """A node that runs others."""
    return WorkflowNode(id=id, workflow=Workflow(nodes=nodes, output=output), inputs={"n": "{{ item.n }}"}, **options)


def ran(*nodes: NodeOptions, count: int = 1, run: Run = PATIENT, **options: Any) -> list[ItemResult]:
    """The results of rows that are numbered from 0, on a virtual clock."""
    return RowRun(nodes=nodes, run=run, **options).results_virtually(rows(count))


def rows(count: int) -> list[dict[str, int]]:
    return [{"n": n} for n in range(count)]


def names(results: Sequence[ItemResult]) -> list[str]:
    return [result.status for result in results]


def given(result: ItemResult) -> Any:
    assert result.status == "completed", result.error
    return orjson.loads(result.output) if isinstance(result.output, bytes) else result.output


def statuses(result: ItemResult) -> list[tuple[int, str, int]]:
    """Position, status and attempts of each node execution; positions of parts are below 0."""
    return [each[:3] for each in result.nodes]


class Moody:
    """A function that fails at first, and counts its calls."""

    def __init__(self, fails: int, error: type[BaseException] = ConnectionError) -> None:
        self.fails = fails
        self.error = error
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.fails:
            raise self.error("not now")
        return self.calls


def nodes_of(function: Any, *, is_async: bool, **options: Any) -> Any:
    """A node of a Python workflow that calls a function."""

    async def called_async(n: int) -> Any:
        await anyio.lowlevel.checkpoint()
        return function()

    def called(n: int) -> Any:
        return function()

    return node(name="called", **options)(called_async if is_async else called)


def in_flow(called: Any, *, is_async: bool) -> Any:
    async def run_async(n: int) -> Any:
        return await called(n)

    def run(n: int) -> Any:
        return called(n)

    return flow(workflow(run_async if is_async else run))
