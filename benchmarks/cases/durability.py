"""What the journal costs: the dispatch job without and with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.jobs import measured, three_nodes, tickets
from benchmarks.model import Aim, Case, Variant


def job(dataset: str, items: int, folder: str, durable: bool) -> Any:  # noqa: FBT001 - named in the variants
    """The job."""
    return measured(lambda source: three_nodes(source, Path(folder)), dataset, items, folder, {"run.durable": durable})


CASES = (
    Case(
        group="durability",
        name="durability",
        about="the dispatch job without and with a journal",
        baseline="batchrun, durable: false",
        variants=(
            Variant(name="batchrun, durable: false", call="benchmarks.cases.durability:job", arguments={"durable": False}),
            Variant(name="batchrun, durable: true", call="benchmarks.cases.durability:job", arguments={"durable": True}),
        ),
        files=tickets,
        items=500_000,
        quick_items=5_000,
        aims=(Aim(variant="batchrun, durable: true", at_most=1.08, against="batchrun, durable: false"),),
    ),
)
