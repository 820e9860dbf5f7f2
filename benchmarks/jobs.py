"""The jobs that are measured, and how they are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

import batchrun
from batchrun import Dataset, Job, Output, Run, Workflow
from batchrun.nodes.python import PythonNode
from benchmarks.functions import clean, label, score
from benchmarks.model import BenchmarkError
from benchmarks.warming import WARM_ITEMS, Warm, warm

_ROW_GROUP_ROWS = 100_000


def make_dataset(path: Path, rows: int) -> Path:
    """A Parquet file of `id`, `body` and `priority`, in row groups of 100,000."""
    tickets = {"body": pl.format("  Ticket {} about a Thing ", pl.col("id") % 1013), "priority": (pl.col("id") % 5).cast(pl.Int8)}
    with pq.ParquetWriter(path, pl.select(id=pl.int_range(0)).with_columns(**tickets).to_arrow().schema, compression="zstd") as writer:
        for first in range(0, rows, _ROW_GROUP_ROWS):  # a group at a time: this memory counts as that of what is measured
            group = pl.select(id=pl.int_range(first, min(first + _ROW_GROUP_ROWS, rows)))
            writer.write_table(group.with_columns(**tickets).to_arrow())
    return path


@contextmanager
def tickets(folder: Path, items: int) -> Iterator[dict[str, Any]]:
    """The dataset of most cases. Variants that are given fewer items read its first rows."""
    yield {"dataset": str(make_dataset(folder / "items.parquet", items))}


def dataset_of(dataset: str, items: int, folder: str) -> Path:
    """A dataset of so many items: the one that is there, or its first rows, or a larger one."""
    path = Path(dataset)
    rows = pl.scan_parquet(path).select(pl.len()).collect().item()
    return path if rows == items else make_dataset(Path(folder) / "some.parquet", items)


def chain(*functions: Callable[..., Any]) -> Workflow:
    """The three nodes as a job declares them."""
    first, second, third = functions
    nodes = (
        PythonNode(id="clean", call=first, inputs={"text": "{{ item.body }}"}),
        PythonNode(id="score", call=second, inputs={"text": "{{ nodes.clean.output.text }}", "length": "{{ nodes.clean.output.length }}"}),
        PythonNode(id="label", call=third, inputs={"score": "{{ nodes.score.output.score }}"}),
    )
    return Workflow(nodes=nodes)


def job_of(workflow: Any, dataset: Path, folder: Path, **run: Any) -> Job:
    """A job over the dataset, everything recorded, with the priority of each item in its row."""
    output = Output(path=str(folder / "runs"), keep=("priority",))
    return Job(name="benchmark", dataset=Dataset(path=str(dataset), id="id"), workflow=workflow, run=Run(**run), output=output)


def three_nodes(dataset: Path, folder: Path) -> Job:
    """The job of three sync nodes."""
    return job_of(chain(clean, score, label), dataset, folder)


def executed(job: Job, overrides: dict[str, Any] | None = None) -> batchrun.Execution:
    """Run a job that must complete all of its items.

    Raises:
        BenchmarkError: it did not.
    """
    execution = batchrun.execute(job, overrides or {}, quiet=True)
    if not execution.has_succeeded or execution.progress.failed_items:
        raise BenchmarkError(str(execution))
    return execution


def warmed_up(job: Callable[[Path], Job], folder: Path, overrides: dict[str, Any] | None = None) -> Warm:
    """Run a job over a few items."""
    few = make_dataset(folder / "few.parquet", WARM_ITEMS)
    return warm(lambda: executed(job(few), overrides))


def measured(job: Callable[[Path], Job], dataset: str, items: int, folder: str, overrides: dict[str, Any] | None = None) -> Any:
    """A job over the dataset of a case, ready to be measured."""
    source = dataset_of(dataset, items, folder)
    warm_up = warmed_up(job, Path(folder), overrides)

    def work() -> tuple[int, dict[str, float]]:
        execution = executed(job(source), overrides)
        size = (execution.folder / "results.parquet").stat().st_size
        return execution.progress.completed_items, {"result_bytes": size}

    return work, warm_up
