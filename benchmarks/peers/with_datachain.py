"""DataChain: map over rows."""

import os
from pathlib import Path
from typing import Any

import datachain
import pyarrow.parquet as pq

from benchmarks import functions
from benchmarks.peers import ready


# DataChain looks at annotations as they are, so they must not be postponed in this file.
def clean(body: str) -> tuple[str, int]:
    """First node."""
    made = functions.clean(body)
    return made["text"], made["length"]


def score(text: str, length: int) -> float:
    """Second node."""
    return float(functions.score(text, length)["score"])


def label(scored: float) -> str:
    """Third node."""
    return str(functions.label(scored)["label"])


def rows(dataset: str, items: int, folder: str) -> Any:
    """A function for each node."""
    os.environ["DATACHAIN_ROOT_DIR"] = str(Path(folder) / "datachain")

    def work(count: int, target: Path) -> int:
        rows = datachain.read_parquet(dataset).limit(count)
        rows = rows.map(clean, output={"text": str, "length": int})
        rows = rows.map(score, output={"scored": float}).map(label, output={"label": str})
        rows.select("id", "label", "scored").to_parquet(str(target / "rows.parquet"))
        return int(pq.ParquetFile(target / "rows.parquet").metadata.num_rows)

    return ready(work, items, folder)
