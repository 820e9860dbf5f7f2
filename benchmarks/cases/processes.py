"""A function that computes for 5 ms: in one process, and on all cores."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from batchrun import Dataset, Job, Output, Run, Workflow
from batchrun.nodes.python import PythonNode
from batchrun.nodes.workers import usable_cores
from benchmarks.functions import numbers_for
from benchmarks.jobs import executed
from benchmarks.model import Aim, Case, Variant
from benchmarks.warming import WARM_ITEMS, warm

_MILLISECONDS = 5.0


@contextmanager
def files(folder: Path, items: int) -> Iterator[dict[str, Any]]:
    """How much is computed: found out once, so that it is the same for all."""
    del folder, items
    yield {"numbers": numbers_for(_MILLISECONDS)}


def bare(numbers: int, items: int, folder: str, processes: int = 0) -> Any:
    """Python processes without anything else: what the cores give, on a machine that others use less than their number."""
    count = processes or usable_cores()
    shares = [items // count + (at < items % count) for at in range(count)]

    def work() -> int:
        programs = [f"from benchmarks.functions import compute\nfor _ in range({share}):\n    compute({numbers})" for share in shares]
        running = [subprocess.Popen([sys.executable, "-c", program]) for program in programs]
        return sum(share for share, process in zip(shares, running, strict=True) if process.wait() == 0)

    del folder
    return work


def job(numbers: int, items: int, folder: str, placement: Any, backend: Any = "local") -> Any:
    """The job."""
    node = PythonNode(id="compute", call="benchmarks.functions:compute", inputs={"numbers": "{{ item.numbers }}"}, placement=placement)

    def execution(count: int) -> Any:
        path = Path(folder) / f"{count}.parquet"
        pl.DataFrame({"numbers": [numbers] * count}).write_parquet(path)
        output = Output(path=str(Path(folder) / "runs"))
        run = Run(parallelism=2 * usable_cores(), backend=backend)
        return executed(Job(name="processes", dataset=Dataset(path=str(path)), workflow=Workflow(nodes=(node,)), run=run, output=output))

    warm_up = warm(lambda: execution(WARM_ITEMS))
    return lambda: execution(items).progress.completed_items, warm_up


_THIS = "benchmarks.cases.processes"
CASES = (
    Case(
        group="processes",
        name="processes",
        about="a function computes for about 5 ms; the limit is what the cores give to bare Python processes",
        baseline="bare, all cores",
        variants=(
            Variant(name="bare, all cores", call=f"{_THIS}:bare"),
            Variant(name="bare, one process", call=f"{_THIS}:bare", arguments={"processes": 1}),
            Variant(name="batchrun, in: process", call=f"{_THIS}:job", arguments={"placement": "process"}),
            Variant(name="batchrun, slices", call=f"{_THIS}:job", arguments={"placement": "auto", "backend": "processes"}),
            Variant(name="batchrun, in: auto", call=f"{_THIS}:job", arguments={"placement": "auto"}),
        ),
        files=files,
        items=2_000,
        quick_items=40,
        aims=(
            Aim(variant="batchrun, in: process", at_most=1 / 0.9, against="bare, all cores"),
            Aim(variant="batchrun, slices", at_most=1 / 0.9, against="bare, all cores"),
        ),
    ),
)
