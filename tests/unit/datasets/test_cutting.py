"""Where Parquet files are cut."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from batchrun.datasets.cutting import stretches

_ROWS = 600_000
_MOST_BYTES = 8 * 2**20


@pytest.mark.parametrize("group_rows", [1_000, 20_000, 150_000])
def test_small_row_groups_are_read_together_in_little_memory(tmp_path: Path, group_rows: int) -> None:
    """What is read ahead is held several times over, so a large dataset must not take more memory than some row groups."""
    numbers = pl.select(id=pl.int_range(_ROWS)).with_columns(twice=pl.col("id") * 2, other=pl.col("id") % 7)
    numbers.write_parquet(tmp_path / "t.parquet", row_group_size=group_rows)
    cut = list(stretches(pq.read_metadata(tmp_path / "t.parquet"), numbers.columns, 5, _ROWS - 5, lambda *_: True))
    assert [part.first for part in cut] == [5, *(part.first + part.rows for part in cut[:-1])]
    assert sum(part.rows for part in cut) == _ROWS - 10
    assert all(part.batch_rows is None and part.rows * 3 * 8 <= _MOST_BYTES for part in cut)
    assert len(cut) <= 3
