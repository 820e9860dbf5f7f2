"""Samples that never change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from batchrun.core.job import Sample


def test_a_sample_is_the_same_for_ever(tmp_path: Path, load: Any) -> None:
    """Resume and refresh rely on it: these numbers must not change with the machine or a library version."""
    pl.DataFrame({"a": range(1000)}).write_parquet(tmp_path / "t.parquet", row_group_size=7)

    def sampled(**options: Any) -> list[int]:
        return [item.item_index for window in load("t.parquet", sample=Sample(**options)).windows() for item in window]

    assert sampled(n=8, seed=7) == [241, 304, 321, 454, 496, 543, 867, 875]
    assert sampled(fraction=0.01, seed=7) == [99, 241, 304, 321, 454, 496, 543, 867, 875]
    assert len(sampled(fraction=0.5, seed=1)) == 523
    assert len(sampled(fraction=1)) == len(sampled(n=5000)) == 1000
    assert sampled(fraction=0) == sampled(n=0) == []
    assert sampled(n=8, seed=8) != sampled(n=8, seed=7)
