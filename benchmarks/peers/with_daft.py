"""Daft: row functions, sync and async."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import daft
from daft import DataType

from benchmarks import functions
from benchmarks.peers import ready

_CLEANED = DataType.struct({"text": DataType.string(), "length": DataType.int64()})
_SCORED = DataType.struct({"score": DataType.float64(), "start": DataType.string()})
_LABELLED = DataType.struct({"label": DataType.string(), "score": DataType.float64()})


def rows(dataset: str, items: int, folder: str) -> Any:
    """Sync row functions."""
    return _ready((functions.clean, functions.score, functions.label), dataset, items, folder)


def async_rows(dataset: str, items: int, folder: str) -> Any:
    """Async row functions."""
    return _ready((functions.clean_later, functions.score_later, functions.label_later), dataset, items, folder)


def _ready(nodes: tuple[Any, Any, Any], dataset: str, items: int, folder: str) -> Any:
    kinds = (_CLEANED, _SCORED, _LABELLED)
    clean, score, label = (daft.func(node, return_dtype=kind) for node, kind in zip(nodes, kinds, strict=True))

    def work(source: str, target: Path) -> None:
        frame = daft.read_parquet(source)
        frame = frame.with_column("clean", clean(frame["body"]))
        frame = frame.with_column("scored", score(frame["clean"].get("text"), frame["clean"].get("length")))
        frame.select(frame["id"], label(frame["scored"].get("score")).alias("output")).write_parquet(str(target))

    return ready(work, dataset, items, folder)
