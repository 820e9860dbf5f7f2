"""Going on with a large execution that was killed when nine tenths were done, beside running all of it again."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import batchrun
from batchrun.results import scan_results
from benchmarks.harness import measure
from benchmarks.jobs import executed, make_dataset, three_nodes, warmed_up
from benchmarks.model import BenchmarkError, Case, Variant


@contextmanager
def files(folder: Path, items: int) -> Iterator[dict[str, Any]]:
    """An execution whose journal has lost its last tenth, as in a crash."""
    dataset = make_dataset(folder / "items.parquet", items)
    scratch = folder / "killed"
    scratch.mkdir()
    measure("benchmarks.cases.resuming:again", {"dataset": str(dataset), "killed": "", "items": items, "folder": str(scratch)})
    killed = max((scratch / "runs").glob("*/journal")).parent
    journal = killed / "journal" / "000001.journal"
    os.truncate(journal, journal.stat().st_size * 9 // 10)
    record = json.loads((killed / "execution.json").read_text(encoding="utf-8"))
    (killed / "execution.json").write_text(json.dumps({**record, "status": "running"}), encoding="utf-8")
    yield {"dataset": str(dataset), "killed": str(killed)}


def again(dataset: str, killed: str, items: int, folder: str) -> Any:
    """What there is to do without a journal."""
    del items, killed
    warm_up = warmed_up(lambda few: three_nodes(few, Path(folder)), Path(folder))
    job = three_nodes(Path(dataset), Path(folder))
    for run in (Path(folder) / "runs").iterdir():
        shutil.rmtree(run)
    return lambda: executed(job).progress.completed_items, replace(warm_up, fixed_seconds=0.0)


def resume(dataset: str, killed: str, items: int, folder: str) -> Any:
    """The resume, in a copy of the folder."""
    del dataset, items
    warm_up = warmed_up(lambda few: three_nodes(few, Path(folder)), Path(folder))
    copy = Path(folder) / Path(killed).name
    shutil.copytree(killed, copy)

    def work() -> tuple[int, dict[str, float]]:
        began = time.time()
        execution = batchrun.resume(copy, quiet=True)
        if execution is None or not execution.has_succeeded:
            raise BenchmarkError(f"the resume of {copy} did not complete: {execution}")
        moments = scan_results(copy).select("started_at").collect()["started_at"].dt.epoch("us")
        first = min(moment for moment in moments if moment >= began * 1e6)
        return execution.progress.completed_items, {"first_call_seconds": first / 1e6 - began}

    return work, replace(warm_up, fixed_seconds=0.0)


CASES = (
    Case(
        group="resuming",
        name="resume",
        about="the dispatch job, killed when nine tenths were done; times are of the whole, over all items",
        baseline="all again",
        variants=(
            Variant(name="all again", call="benchmarks.cases.resuming:again"),
            Variant(name="batchrun resume", call="benchmarks.cases.resuming:resume"),
        ),
        files=files,
        items=1_000_000,
        quick_items=5_000,
    ),
)
