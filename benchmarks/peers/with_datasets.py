"""HF datasets: map over rows, in one process as by default."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}

import datasets

from benchmarks.functions import clean, label, score
from benchmarks.peers import ready


def rows(dataset: str, items: int, folder: str) -> Any:
    """A function for each node."""

    def work(count: int, target: Path) -> int:
        rows = datasets.Dataset.from_parquet(dataset, cache_dir=str(target / "cache"), columns=["id", "body"]).take(count)
        rows = rows.map(lambda row: {"clean": clean(row["body"])}, remove_columns=["body"])
        rows = rows.map(lambda row: {"scored": score(row["clean"]["text"], row["clean"]["length"])}, remove_columns=["clean"])
        rows = rows.map(lambda row: {"output": label(row["scored"]["score"])}, remove_columns=["scored"])
        rows.to_parquet(str(target / "rows.parquet"))
        return len(rows)

    return ready(work, items, folder)
