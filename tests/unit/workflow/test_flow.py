"""What a Python workflow draws while it runs."""

from __future__ import annotations

import asyncio
import sys
from types import CodeType, FrameType
from typing import Any

import anyio

import batchrun
from batchrun.testing.rows import RowRun
from batchrun.workflows.flow import Flow
from batchrun.workflows.functions import workflow
from tests.unit.engine.flow_runs import flow, given

NAMING: CodeType = Flow.key.__code__


def test_threads_of_a_workflow_never_draw_the_same_value() -> None:
    """Values are kept under the names of their calls: under one name two UUIDs would be one, wherever a thread breaks off for another."""
    others: list[str] = []

    def drawn() -> list[str]:
        """A value, and one that is drawn by others before each line of naming the first."""

        def between(frame: FrameType, _event: str, _argument: Any) -> Any:
            if frame.f_code is NAMING:
                others.append(str(batchrun.uuid()))
                return between
            return None

        before = sys.gettrace()
        sys.settrace(between)
        try:
            own = str(batchrun.uuid())
        finally:
            sys.settrace(before)
        return [own, *others]

    @workflow
    async def run(n: int) -> Any:
        return await asyncio.to_thread(drawn)

    (result,) = anyio.run(RowRun(nodes=(flow(run),)).results, [{"n": 0}])
    values = given(result)
    assert len(values) >= 3
    assert len(set(values)) == len(values)
