"""DataChain: map over rows."""

import os
from pathlib import Path
from typing import Any

import datachain

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


def label(scored: float) -> tuple[str, float]:
    """Third node."""
    made = functions.label(scored)
    return made["label"], made["score"]


def rows(dataset: str, items: int, folder: str) -> Any:
    """A function for each node."""
    os.environ["DATACHAIN_ROOT_DIR"] = str(Path(folder) / "datachain")

    def work(source: str, target: Path) -> None:
        rows = datachain.read_parquet(source, source=False)
        rows = rows.map(clean, output={"text": str, "length": int}).map(score, output={"scored": float})
        rows.map(label, output={"label": str, "score": float}).select("id", "label", "score").to_parquet(str(target / "rows.parquet"))

    return ready(work, dataset, items, folder)
