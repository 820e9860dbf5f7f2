"""What the result table of a prepared job looks like."""

from __future__ import annotations

from batchrun.datasets import Loaded
from batchrun.execution.prepare import Prepared
from batchrun.results import ResultLayout


def layout_of(prepared: Prepared, items: Loaded) -> ResultLayout:
    """The layout of the result of these items."""
    return ResultLayout(
        window_schema=items.window_schema,
        nodes=tuple((step.id, step.type) for step in prepared.plan.steps),
        output_type=prepared.plan.output_type,
        node_executions=prepared.loaded.job.output.node_executions,
        flatten=prepared.loaded.job.output.flatten,
    )
