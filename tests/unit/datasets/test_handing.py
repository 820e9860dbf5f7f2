"""Items made from rows that went to another process."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

from batchrun.datasets.handing import packed_rows, unpacked_rows


def test_items_are_the_same_in_another_process(tmp_path: Path, load: Any) -> None:
    """Every type that a dataset can have crosses without loss."""
    columns = {
        "text": ["ä", None, ""],
        "number": [1, 2**62, None],
        "ratio": [0.5, float("inf"), None],
        "amount": [Decimal("1.20"), None, Decimal("-3.00")],
        "day": [date(2026, 1, 1), None, date(1969, 12, 31)],
        "at": [datetime(2026, 1, 1, 12, tzinfo=UTC), None, datetime(1900, 1, 1, tzinfo=UTC)],
        "long": [timedelta(seconds=1), None, timedelta(days=-1)],
        "raw": [b"\x00\xff", b"", None],
        "list": [[1, None], [], None],
        "struct": [{"a": 1, "b": ["x"]}, {"a": None, "b": None}, None],
        "kind": pl.Series(["a", "b", "a"], dtype=pl.Categorical),
    }
    pl.DataFrame(columns).write_parquet(tmp_path / "data.parquet")
    loaded = load("data.parquet", keep=tuple(columns))
    (here,) = loaded.windows()
    (frame,) = loaded.rows_of()
    there = loaded.shape.items(unpacked_rows(packed_rows(frame)))
    assert [item._replace(window=None) for item in here] == [item._replace(window=None) for item in there]
    assert here[0].window.columns.equals(there[0].window.columns)
