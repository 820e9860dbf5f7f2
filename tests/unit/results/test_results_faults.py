from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batchrun.core.errors import ExecutionError
from batchrun.results import ResultLayout, ResultWriter, read_results, scan_results

_PROGRAM = """
import os, resource, signal, sys
from pathlib import Path
import pyarrow as pa
from batchrun.core.errors import ExecutionError
from batchrun.core.items import Item, ItemResult
from batchrun.results import ResultLayout, ResultWriter

class Window:
    columns = pa.record_batch({"source_item_id": range(50), "item_index": range(50)})

layout = ResultLayout(window_schema=Window.columns.schema, nodes=())
writer = ResultWriter(Path(sys.argv[1]), layout, buffer_bytes=10_000)
if sys.argv[2] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for row in range(1, 50):  # the first item is missing: all others are spilled
    output = b'"' + os.urandom(10_000).hex().encode() + b'"'
    try:
        writer.put([ItemResult(Item(row, row, row, {}, Window, row), "completed", output, None, 1, 0, 0.0, ())])
    except ExecutionError:
        break
if sys.argv[2] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
try:
    writer.finish({}, 50)
except ExecutionError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([0, 1, 3, 4], "5 items were loaded, 4 have a row; missing items (by position in the run): 2."),
        ([1, 3, 4], "5 items were loaded, 3 have a row; missing items (by position in the run): 0, 2."),
        ([0], "missing items (by position in the run): 1–4."),
        ([0, 1, 2, 2, 3, 4], "5 items were loaded, 5 have a row; items with more than one result: 2."),
        ([0, 1, 2, 3, 4, 1], "items with more than one result: 1."),
        ([1, 2, 3, 3, 2, 4, 0], "items with more than one result: 2, 3."),
        ([0, 1, 2, 3, 4, 5], "5 items were loaded, 6 have a row."),
    ],
)
@pytest.mark.parametrize("buffer_bytes", [1, 64 * 2**20])
def test_lost_and_doubled_items_are_caught(
    tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any], positions: list[int], message: str, buffer_bytes: int
) -> None:
    """No row disappears and none comes twice: a result that does not add up is never published."""
    results = make_results(6)
    writer = ResultWriter(tmp_path, layout, buffer_bytes=buffer_bytes)
    for position in positions:
        writer.put([results[position]])

    with pytest.raises(ExecutionError, match=r"does not add up") as caught:
        writer.finish({}, 5)

    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_abandoned_writer_leaves_nothing(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> None:
    """A run that broke must not leave something that looks like a result, nor use up the disk."""
    writer = ResultWriter(tmp_path, layout, buffer_bytes=1)
    writer.put(make_results(30)[1:])
    writer.abandon()
    writer.abandon()

    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ExecutionError, match="was closed"):
        writer.put([])
    with pytest.raises(ExecutionError, match="has not ended"):
        read_results(tmp_path)


def test_killed_process_leaves_no_result(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> None:
    """A half-written file under the final name would be taken for a result; and the next run must not trip over the rest."""
    killed = subprocess.run([sys.executable, "-c", _PROGRAM, tmp_path, "kill"], check=False)

    assert killed.returncode == -9
    assert not (tmp_path / "results.parquet").exists()
    writer = ResultWriter(tmp_path, layout)
    writer.put(make_results(3))
    writer.finish({}, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["results.parquet"]


def test_full_disk_is_explained(tmp_path: Path) -> None:
    """Someone whose disk is full needs to read that, not a traceback, and needs the space back."""
    limited = subprocess.run([sys.executable, "-c", _PROGRAM, tmp_path, "limit"], check=False, capture_output=True, text=True)

    assert limited.stdout == (
        f"cannot write {tmp_path / 'results.parquet'}: the file would be larger than this process may write; "
        "raise the limit (ulimit -f), then run again\n"
    )
    assert limited.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written_to_is_explained(tmp_path: Path, layout: ResultLayout) -> None:
    """A wrong output.path is found before the first item."""
    (tmp_path / "file").write_text("not a folder")

    with pytest.raises(ExecutionError, match=r"results\.parquet: a part of the path is a file; choose another output\.path"):
        ResultWriter(tmp_path / "file", layout)


def test_folder_that_vanishes_is_explained(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> None:
    """Cleaning up the wrong folder while a run is writing must end in a message."""
    folder = tmp_path / "run"
    folder.mkdir()
    writer = ResultWriter(folder, layout)
    writer.put(make_results(3))
    shutil.rmtree(folder)

    with pytest.raises(ExecutionError, match=r"the folder is gone; create it, or choose another output\.path, then run again"):
        writer.finish({}, 3)


def test_file_that_is_no_result_is_explained(tmp_path: Path) -> None:
    """A damaged or foreign file gets a message that names it."""
    (tmp_path / "results.parquet").write_bytes(b"PAR1 and then nothing")

    with pytest.raises(ExecutionError, match=r"cannot read .*results\.parquet: "):
        scan_results(tmp_path)


def test_value_that_does_not_fit_breaks_the_run_with_its_reason(
    tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]
) -> None:
    """The writer thread must never die in silence while items go on being run."""
    writer = ResultWriter(tmp_path, replace(layout, output_type="int64"), buffer_bytes=1)
    writer.put(make_results(8, output=lambda _: "text"))

    with pytest.raises(ExecutionError, match=r"results\.parquet: ArrowInvalid: Could not convert 'text'"):
        writer.finish({}, 8)
    with pytest.raises(ExecutionError, match="ArrowInvalid"):
        writer.put([])
    assert list(tmp_path.iterdir()) == []
