"""Python workflows and sub-workflows: what an item costs in them, beside the same three nodes declared in a job.

    python benchmarks/workflows.py [--items 100000] [--rounds 3]

All run in this process, in turn, so that the ratios hold when the machine's speed drifts. The nodes do next to nothing, so
these are the costs of the workflows themselves.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from work import clean, label, make_dataset, score

import batchrun
from batchrun import Dataset, Job, Output, Workflow
from batchrun.nodes.python import PythonNode
from batchrun.nodes.workflow import WorkflowNode


async def clean_later(text: str) -> dict[str, Any]:
    """First node, async."""
    return clean(text)


async def score_later(text: str, length: int) -> dict[str, Any]:
    """Second node, async."""
    return score(text, length)


async def label_later(score: float) -> dict[str, Any]:
    """Third node, async."""
    return label(score)


clean_node, score_node, label_node = batchrun.node(clean), batchrun.node(score), batchrun.node(label)
clean_later_node, score_later_node, label_later_node = map(batchrun.node, (clean_later, score_later, label_later))


@batchrun.workflow
def plain(item: dict[str, Any]) -> dict[str, Any]:
    """The three nodes in a plain function."""
    cleaned = clean_node(item["body"])
    return label_node(score_node(cleaned["text"], cleaned["length"])["score"])


@batchrun.workflow
async def later(item: dict[str, Any]) -> dict[str, Any]:
    """The three nodes in an async function."""
    cleaned = await clean_later_node(item["body"])
    scored = await score_later_node(cleaned["text"], cleaned["length"])
    labelled: dict[str, Any] = await label_later_node(scored["score"])
    return labelled


def declared(*functions: Callable[..., Any]) -> Workflow:
    """The three nodes as a job declares them."""
    first, second, third = functions
    return Workflow(
        nodes=(
            PythonNode(id="clean", call=first, inputs={"text": "{{ item.body }}"}),
            PythonNode(
                id="score", call=second, inputs={"text": "{{ nodes.clean.output.text }}", "length": "{{ nodes.clean.output.length }}"}
            ),
            PythonNode(id="label", call=third, inputs={"score": "{{ nodes.score.output.score }}"}),
        )
    )


def held(*functions: Callable[..., Any]) -> Workflow:
    """The three nodes within a `workflow` node."""
    return Workflow(nodes=(WorkflowNode(id="held", inputs={"body": "{{ item.body }}"}, workflow=declared(*functions)),))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    plain_functions, later_functions = (clean, score, label), (clean_later, score_later, label_later)
    kinds: dict[str, tuple[Any, ...]] = {
        "plain": (declared(*plain_functions), plain, held(*plain_functions)),
        "async": (declared(*later_functions), later, held(*later_functions)),
    }
    ratios: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = make_dataset(folder / "items.parquet", arguments.items)
        _micros(kinds["plain"][0], make_dataset(folder / "few.parquet", 10), folder, 10)  # pays for imports
        for number in range(1, arguments.rounds + 1):
            for kind, workflows in kinds.items():
                job, function, sub = (_micros(workflow, dataset, folder, arguments.items) for workflow in workflows)
                print(f"round {number}, {kind}: declared {job:6.2f} µs an item, in Python {function:6.2f}, as a sub-workflow {sub:6.2f}")
                ratios.setdefault(f"{kind}, in Python", []).append(function / job)
                ratios.setdefault(f"{kind}, as a sub-workflow", []).append(sub / job)
    for kind, found in ratios.items():
        print(f"ratio, median of {len(found)}, {kind}: {statistics.median(found):.2f}")


def _micros(workflow: Any, dataset: Path, folder: Path, items: int) -> float:
    job = Job(name="workflows", dataset=Dataset(path=str(dataset), id="id"), workflow=workflow, output=Output(path=str(folder / "runs")))
    began = time.perf_counter()
    execution = batchrun.execute(job, quiet=True)
    seconds = time.perf_counter() - began
    if not execution.has_succeeded or execution.progress.completed_items != items:
        raise SystemExit(f"{execution}")
    (execution.folder / "results.parquet").unlink()
    return seconds / items * 1e6


if __name__ == "__main__":
    main()
