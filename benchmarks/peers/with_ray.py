"""Ray Data: map over rows, on all cores."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import ray

from benchmarks.functions import clean, label, score
from benchmarks.peers import ready


def rows(dataset: str, items: int, folder: str) -> Any:
    """A function for each node."""
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False

    def work(source: str, target: Path) -> None:
        rows = ray.data.read_parquet(source).select_columns(["id", "body"])
        rows = rows.map(lambda row: {"id": row["id"], "clean": clean(row["body"])})
        rows = rows.map(lambda row: {"id": row["id"], "scored": score(row["clean"]["text"], row["clean"]["length"])})
        rows.map(lambda row: {"id": row["id"], "output": label(row["scored"]["score"])}).write_parquet(str(target))

    return ready(work, dataset, items, folder)
