"""Micro-batching: what an item costs when one call is made for 64 of them, beside a call for each.

The function does next to nothing, so this is what batching itself costs; a function that is faster for many items at once
wins it back. Both run in this process, in turn, so that the ratio holds when the machine's speed drifts.

python benchmarks/batching.py [--items 200000] [--rounds 3] [--max-items 64]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from work import make_dataset

import batchrun
from batchrun import Batch, Dataset, Job, Output, Workflow
from batchrun.nodes.python import PythonNode


def score(text: str) -> float:
    """For one item."""
    return len(text) * 0.5


def score_many(text: list[str]) -> list[float]:
    """For many."""
    return [len(each) * 0.5 for each in text]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-items", type=int, default=64)
    arguments = parser.parse_args()
    inputs = {"text": "{{ item.body }}"}
    nodes = {
        "one by one": PythonNode(id="score", call=score, inputs=inputs),
        "in batches": PythonNode(id="score", call=score_many, inputs=inputs, batch=Batch(max_items=arguments.max_items)),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = make_dataset(folder / "items.parquet", arguments.items)
        _seconds(nodes["one by one"], make_dataset(folder / "few.parquet", 10), folder)  # pays for imports
        differences = []
        for number in range(1, arguments.rounds + 1):
            costs = {}
            for kind, node in nodes.items():
                seconds, cpu_seconds, calls = _seconds(node, dataset, folder)
                costs[kind] = seconds / arguments.items * 1e6
                print(
                    f"round {number}, {kind}: {costs[kind]:6.2f} µs an item ({cpu_seconds / arguments.items * 1e6:.2f} CPU), "
                    f"{calls or arguments.items:,} calls"
                )
            differences.append(costs["in batches"] - costs["one by one"])
    print(f"difference, median of {len(differences)}: {statistics.median(differences):.2f} µs an item")


def _seconds(node: PythonNode, dataset: Path, folder: Path) -> tuple[float, float, int]:
    job = Job(
        name="batching",
        dataset=Dataset(path=str(dataset), id="id"),
        workflow=Workflow(nodes=(node,)),
        output=Output(path=str(folder / "runs")),
    )
    began, cpu = time.perf_counter(), time.process_time()
    execution = batchrun.execute(job, quiet=True)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    if not execution.has_succeeded:
        raise SystemExit(f"{execution}")
    (execution.folder / "results.parquet").unlink()
    return seconds, cpu, sum(size["calls"] for size in execution.record["batches"].values())


if __name__ == "__main__":
    main()
