"""Three async nodes that do not wait: what the event loop costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import loops
from benchmarks.functions import clean_later, label_later, score_later
from benchmarks.jobs import chain, dataset_of, job_of, measured, tickets
from benchmarks.model import Aim, Case, Variant


def loop(dataset: str, items: int, folder: str) -> Any:
    """The hand-written loop."""
    schema = loops.result_schema(*loops.THREE_NODES)
    return loops.measured(dataset_of(dataset, items, folder), Path(folder), schema, loops.three_async_nodes)


def job(dataset: str, items: int, folder: str) -> Any:
    """The job."""
    return measured(lambda source: _job(source, folder), dataset, items, folder)


def _job(dataset: Path, folder: str) -> Any:
    return job_of(chain(clean_later, score_later, label_later), dataset, Path(folder))


CASES = (
    Case(
        group="asynchronous",
        name="async",
        about="three async nodes that do not wait; batchrun and the loop write the full table, Daft a column of outputs",
        baseline="loop",
        variants=(
            Variant(name="loop", call="benchmarks.cases.asynchronous:loop"),
            Variant(name="batchrun", call="benchmarks.cases.asynchronous:job"),
            Variant(name="Daft", call="benchmarks.peers.with_daft:async_rows", peer="daft"),
        ),
        files=tickets,
        items=200_000,
        quick_items=2_000,
        aims=(Aim(variant="batchrun", at_most=1.5, against="loop"),),
    ),
)
