"""Data frames stored as datasets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.datasets import spool_frame

FRAME = pl.DataFrame({"a": range(30_000), "s": [str(at) for at in range(30_000)]})


MAKE: dict[str, Callable[[], Any]] = {
    "DataFrame": lambda: FRAME,
    "LazyFrame": FRAME.lazy,
    "Table": FRAME.to_arrow,
    "RecordBatchReader": lambda: FRAME.to_arrow().to_reader(),
    "any stream": lambda: FRAME.lazy().collect_batches(),
}


@pytest.mark.parametrize("kind", MAKE)
def test_any_frame_becomes_a_file(tmp_path: Path, kind: str) -> None:
    """Whatever holds the rows, the file has all of them in order, with plain types."""
    spool_frame(MAKE[kind](), tmp_path / "new" / "t.parquet")
    table = pq.read_table(tmp_path / "new" / "t.parquet")
    assert table.schema.types == [pa.int64(), pa.string()]
    assert table.to_pylist() == FRAME.to_dicts()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["t.parquet"]


NO_FRAMES = [[{"a": 1}], {"a": [1]}, pl.Series([1]), pl.DataFrame({"a": [object()]})]


@pytest.mark.parametrize("frame", NO_FRAMES, ids=["list", "dict", "series", "objects"])
def test_what_is_no_frame_is_refused(tmp_path: Path, frame: Any) -> None:
    """The message must say what to give instead, and nothing may be left behind."""
    with pytest.raises(TypeError, match=r"give a path, a list, a polars DataFrame|cannot be stored as Parquet"):
        spool_frame(frame, tmp_path / "t.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_lazy_frame_that_asks_for_no_column_is_refused(tmp_path: Path) -> None:
    """Whatever is wrong with a dataset is said as a mistake in the job, also when polars finds it before it reads."""
    with pytest.raises(TypeError, match=r'^the LazyFrame cannot be read: unable to find column "nope"'):
        spool_frame(FRAME.lazy().select("nope"), tmp_path / "t.parquet")
