"""Outputs have a bound on their size."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from batchrun.core.job import Batch, DefaultOnFailure, Workflow
from batchrun.nodes.template import TemplateNode
from batchrun.testing.rows import RowRun
from tests.unit.engine.small_nodes import ONCE, node, outputs

ROWS = [{"n": 3}, {"n": 8}, {"n": 9}, {"n": 4}]
N = {"n": "{{ item.n }}"}


def text(n: int) -> str:
    return "x" * n


async def text_async(n: int) -> str:
    return "x" * n


def texts(n: list[int]) -> list[str]:
    return [text(each) for each in n]


@pytest.mark.parametrize(("call", "options"), [(text, {}), (text_async, {}), (texts, {"batch": Batch(max_items=4)})])
async def test_an_output_above_the_bound_fails_its_item_alone(call: Any, options: dict[str, Any]) -> None:
    """Its size as JSON counts, quotes included, wherever the call was made; of a batch, only the one item fails."""
    large = node("large", call, inputs=N, max_output_bytes=10, **options)
    results = await RowRun(nodes=[large], run=ONCE).results(ROWS)
    assert [result.status for result in results] == ["completed", "completed", "failed", "completed"]
    error = results[2].error
    assert error is not None
    assert (error.type, error.node_id, error.retryable) == ("OutputTooLarge", "large", False)
    assert error.message.startswith("the output has 11 bytes as JSON, max_output_bytes is 10;")


async def test_a_node_that_may_fail_gives_its_default_in_place_of_a_large_output() -> None:
    """It is a failure like any other."""
    large = node("large", text, inputs=N, max_output_bytes=10, on_failure=DefaultOnFailure(default="short"))
    assert outputs(await RowRun(nodes=[large], run=ONCE).results(ROWS))[2] == "short"


@pytest.mark.parametrize("recording", ["summary", "none"])
async def test_without_recorded_outputs_that_of_the_item_is_measured(recording: Literal["summary", "none"]) -> None:
    """Nothing else is written down then, and measuring would cost as much as writing."""
    large = node("large", text, inputs=N, max_output_bytes=10)
    inner = Workflow(nodes=(large, TemplateNode(id="length", template="{{ nodes.large.output | length }}")))
    assert outputs(await RowRun(workflow=inner, run=ONCE, recording=recording).results(ROWS)) == [3, 8, 9, 4]
    results = await RowRun(nodes=[large], run=ONCE, recording=recording).results(ROWS)
    assert [result.status for result in results] == ["completed", "completed", "failed", "completed"]
    assert results[2].error is not None
    assert (results[2].error.type, results[2].error.node_id) == ("OutputTooLarge", None)
