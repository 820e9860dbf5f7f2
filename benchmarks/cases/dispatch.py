"""Three sync nodes: what an item costs in batchrun, in a loop that writes the same table, and in tools that record no node executions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import loops
from benchmarks.jobs import dataset_of, measured, three_nodes, tickets
from benchmarks.model import Aim, Case, Variant


def loop(dataset: str, items: int, folder: str) -> Any:
    """The hand-written loop."""
    schema = loops.result_schema(*loops.THREE_NODES)
    return loops.measured(dataset_of(dataset, items, folder), Path(folder), schema, loops.three_nodes)


def job(dataset: str, items: int, folder: str, node_executions: str = "full", backend: str = "local") -> Any:
    """The job."""
    overrides = {"output.node_executions": node_executions, "run.backend": backend}
    return measured(lambda source: three_nodes(source, Path(folder)), dataset, items, folder, overrides)


_ABOUT = 1.2
_TOOLS = ("Daft", "Daft, async", "HF datasets", "HF datasets, all cores", "Ray Data", "DataChain")
CASES = (
    Case(
        group="dispatch",
        name="dispatch",
        about="three sync nodes that do next to nothing; batchrun and the loop write the full table, the others a column of outputs",
        baseline="loop",
        variants=(
            Variant(name="loop", call="benchmarks.cases.dispatch:loop"),
            Variant(name="batchrun", call="benchmarks.cases.dispatch:job"),
            Variant(name="batchrun, no node records", call="benchmarks.cases.dispatch:job", arguments={"node_executions": "none"}),
            Variant(name="batchrun, slices", call="benchmarks.cases.dispatch:job", arguments={"backend": "processes"}),
            Variant(name="Daft", call="benchmarks.peers.with_daft:rows", peer="daft"),
            Variant(name="Daft, async", call="benchmarks.peers.with_daft:async_rows", peer="daft"),
            Variant(name="HF datasets", call="benchmarks.peers.with_datasets:rows", peer="datasets", share=0.2),
            Variant(
                name="HF datasets, all cores",
                call="benchmarks.peers.with_datasets:rows",
                arguments={"on_all_cores": True},
                peer="datasets",
                share=0.2,
            ),
            Variant(name="Ray Data", call="benchmarks.peers.with_ray:rows", peer="ray", share=0.4),
            Variant(name="DataChain", call="benchmarks.peers.with_datachain:rows", peer="datachain", share=0.05),
        ),
        files=tickets,
        items=1_000_000,
        quick_items=5_000,
        aims=(
            Aim(variant="batchrun", at_most=1.3, against="loop"),
            Aim(variant="batchrun, slices", at_most=0.75, against="loop"),
            Aim(variant="batchrun", at_most=1 / 5, against="HF datasets"),
            Aim(variant="batchrun", at_most=1 / 8, against="Ray Data"),
            Aim(variant="batchrun", at_most=1 / 20, against="DataChain"),
            Aim(variant="batchrun", at_most=_ABOUT, against="Daft, async"),
            Aim(variant="batchrun, no node records", at_most=1, against="Daft, async"),
            Aim(variant="batchrun, no node records", at_most=_ABOUT, against="Daft"),
            *(Aim(variant="batchrun, slices", at_most=1, against=tool) for tool in _TOOLS),
        ),
    ),
)
