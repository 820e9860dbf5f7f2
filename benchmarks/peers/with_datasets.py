"""HF datasets: map over rows, in one process as by default, and on all cores."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}

import datasets

from benchmarks.functions import clean, label, score
from benchmarks.peers import ready


def rows(dataset: str, items: int, folder: str, on_all_cores: bool = False) -> Any:  # noqa: FBT001, FBT002 - named in the variants
    """A function for each node."""
    processes = os.cpu_count() if on_all_cores else None

    def work(source: str, target: Path) -> None:
        rows = datasets.Dataset.from_parquet(source, cache_dir=str(target / "cache"), columns=["id", "body"])
        rows = rows.map(lambda row: {"clean": clean(row["body"])}, remove_columns=["body"], num_proc=processes)
        rows = rows.map(
            lambda row: {"scored": score(row["clean"]["text"], row["clean"]["length"])}, remove_columns=["clean"], num_proc=processes
        )
        rows = rows.map(lambda row: {"output": label(row["scored"]["score"])}, remove_columns=["scored"], num_proc=processes)
        rows.to_parquet(str(target / "rows.parquet"))

    return ready(work, dataset, items, folder)
