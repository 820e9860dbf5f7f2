"""Micro-batching: one call for 64 items beside a call for each, and a loop that makes the same calls.

The function does next to nothing, so this is what batching itself costs; a function that is faster for many items at once wins it back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from batchrun import Batch, Job, Workflow
from batchrun.nodes.python import PythonNode
from benchmarks import loops
from benchmarks.functions import weigh, weigh_many
from benchmarks.jobs import dataset_of, job_of, measured, tickets
from benchmarks.model import Case, Variant

_MAX_ITEMS = 64


def loop(dataset: str, items: int, folder: str) -> Any:
    """The hand-written loop."""
    schema = loops.result_schema("weigh", output_type="float64")
    return loops.measured(dataset_of(dataset, items, folder), Path(folder), schema, lambda some: loops.in_batches(some, _MAX_ITEMS))


def job(dataset: str, items: int, folder: str, is_batched: bool) -> Any:  # noqa: FBT001 - named in the variants
    """The job."""
    return measured(lambda source: _job(source, folder, is_batched=is_batched), dataset, items, folder)


def _job(dataset: Path, folder: str, *, is_batched: bool) -> Job:
    inputs = {"text": "{{ item.body }}"}
    node = PythonNode(id="weigh", call=weigh, inputs=inputs)
    if is_batched:
        node = PythonNode(id="weigh", call=weigh_many, inputs=inputs, batch=Batch(max_items=_MAX_ITEMS))
    return job_of(Workflow(nodes=(node,), output_schema="float64"), dataset, Path(folder))


CASES = (
    Case(
        group="batching",
        name="batching",
        about="one node that does next to nothing, called with 64 items at a time; all write the full table",
        baseline="loop, in batches",
        variants=(
            Variant(name="loop, in batches", call="benchmarks.cases.batching:loop"),
            Variant(name="batchrun, in batches", call="benchmarks.cases.batching:job", arguments={"is_batched": True}),
            Variant(name="batchrun, one by one", call="benchmarks.cases.batching:job", arguments={"is_batched": False}),
        ),
        files=tickets,
        items=200_000,
        quick_items=2_000,
    ),
)
