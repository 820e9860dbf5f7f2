"""failures.parquet: failed items as the dataset of another job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.core.errors import ExecutionError
from batchrun.results import ResultLayout, ResultWriter, write_failures


def source_rows(indices: pa.Int64Array) -> Iterator[pa.RecordBatch]:
    """The source rows, two at a time."""
    for start in range(0, len(indices), 2):
        part = indices.slice(start, 2)
        yield pa.record_batch({"item_index": part, "ticket": part, "attempts": [f"text of {index}" for index in part.to_pylist()]})


@pytest.fixture
def folder(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> Path:
    """An execution with 20 results, three of them failed."""
    writer = ResultWriter(tmp_path, layout)
    writer.put(make_results(20))
    writer.finish({}, 20)
    return tmp_path


def test_failed_items_come_with_their_source_columns(folder: Path) -> None:
    """To run failed items again, in whatever way, their rows and the reasons are all it takes."""
    path = write_failures(folder, source_rows)

    assert path == folder / "failures.parquet"
    table = pq.read_table(path)
    assert table.column_names == ["ticket", "attempts", "item_index", "error", "batchrun_attempts"]
    assert table["ticket"].to_pylist() == table["item_index"].to_pylist() == [30, 100, 170]
    assert table["attempts"].to_pylist() == ["text of 30", "text of 100", "text of 170"]
    assert table["batchrun_attempts"].to_pylist() == [3, 3, 3]
    assert table["error"].to_pylist()[0]["type"] == "Timeout"


def test_long_tracebacks_are_written_in_chunks(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> None:
    """When everything fails with a long traceback, the failures do not have to fit into memory."""
    failed = make_results(4)[3]
    error = failed.error._replace(traceback="frame\n" * 20_000)
    writer = ResultWriter(tmp_path, layout)
    writer.put([result._replace(status="failed", output=None, error=error) for result in make_results(200)])
    writer.finish({}, 200)

    path = write_failures(tmp_path, source_rows)

    assert path is not None
    assert pq.read_table(path, columns=["item_index"])["item_index"].to_pylist() == list(range(0, 2000, 10))


def test_nothing_is_written_when_nothing_failed(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> None:
    """A file of failures from before must not stay when there are none any more."""
    (tmp_path / "failures.parquet").write_bytes(b"from before")
    writer = ResultWriter(tmp_path, layout)
    writer.put(make_results(3))
    writer.finish({}, 3)

    assert write_failures(tmp_path, source_rows) is None
    assert [path.name for path in tmp_path.iterdir()] == ["results.parquet"]


@pytest.mark.parametrize("rows", [[30, 100], [30, 100, 170, 240], [30, 110, 170], []])
def test_changed_dataset_is_noticed(folder: Path, rows: list[int]) -> None:
    """Source rows must never be put beside the error of another item."""
    with pytest.raises(ExecutionError, match="the dataset changed while the execution ran"):
        write_failures(folder, lambda _: iter([pa.record_batch({"item_index": pa.array(rows, pa.int64())})]))

    assert [path.name for path in folder.iterdir()] == ["results.parquet"]
