"""How many lines of batchrun an item runs through, room by room: work that makes no calls is counted nowhere else."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow as pa
import pytest

from batchrun.results.columns import ResultColumns
from benchmarks import loops
from benchmarks.cases import asynchronous, batching, dispatch, http, reading, waiting, workflows, writing
from benchmarks.jobs import dataset_of, executed, make_dataset, three_nodes
from tests.perf.test_costs import PACKAGE, advice

CHUNK_ITEMS = 256
MAX_ARRAYS_PER_CHUNK = 108
MAX_BYTES_PER_CHUNK = 228_000
MAX_LINES_PER_CHUNK = 166
ROOMS_OF_ITEMS = ("core/", "engine/", "flow/", "net/", "nodes/", "workflows/")
CHUNKS = ("engine/batches.py", "engine/engine.py", "engine/keeping.py", "engine/lane", "engine/part_engines.py")
MOST_ABOVE, MOST_BELOW = 1.02, 0.85
"""What versions of Python differ in, and from where on a bound protects nothing any more."""


def lines_of(work: Callable[[], Any]) -> Counter[str]:
    """How often each line of batchrun runs, in all threads of this process."""
    counts: Counter[str] = Counter()

    def local(frame: FrameType, event: str, _told: Any) -> Any:
        if event == "line":
            counts[f"{frame.f_code.co_filename[len(PACKAGE) + 1 :]}:{frame.f_lineno}"] += 1
        return local

    def entered(frame: FrameType, _event: str, _told: Any) -> Any:
        return local if frame.f_code.co_filename.startswith(PACKAGE) else None

    before = sys.gettrace(), threading.gettrace()
    threading.settrace(entered)
    sys.settrace(entered)
    try:
        work()
    finally:
        sys.settrace(before[0])
        threading.settrace(before[1])
    return counts


def lines_per_item(ready: Callable[..., Any], tmp_path: Path, few: int, many: int, given: dict[str, Any]) -> Counter[str]:
    """What each further item adds: whole runs of a line; what is done for many at a time comes to a fraction, which is left out."""
    found = []
    for items in (few, many):
        folder = tmp_path / f"of {items}"
        folder.mkdir()
        prepared = ready(**given, items=items, folder=str(folder))
        found.append(lines_of(prepared[0] if isinstance(prepared, tuple) else prepared))
    return Counter({line: whole for line, count in found[1].items() if (whole := int((count - found[0][line]) / (many - few) + 0.1))})


def of_one_item(lines: Counter[str]) -> Counter[str]:
    """Without the rooms that take as many items at a time as the machine has done meanwhile."""
    return Counter({line: count for line, count in lines.items() if line.startswith(ROOMS_OF_ITEMS) and not line.startswith(CHUNKS)})


def sliced(dataset: str, items: int, folder: str) -> Any:
    """Whole items in worker processes; their lines are those of sync items, and only what is done beside them is counted."""
    job = three_nodes(dataset_of(dataset, items, folder), Path(folder))
    return lambda: executed(job, {"run.backend": "processes"})


ROOMS: dict[str, tuple[Callable[..., Any], int]] = {
    "sync": (dispatch.job, 118),
    "async": (asynchronous.job, 143),
    "without records": (partial(dispatch.job, node_executions="none"), 95),
    "in batches": (partial(batching.job, is_batched=True), 116),
    "that waits": (partial(waiting.job, parallelism=50, kind="async"), 76),
    "that waits in a thread": (partial(waiting.job, parallelism=50, kind="threads"), 63),
    "of a Python workflow": (partial(workflows.job, kind="plain", form="in Python"), 364),
    "of an async Python workflow": (partial(workflows.job, kind="async", form="in Python"), 522),
    "of a sub-workflow": (partial(workflows.job, kind="plain", form="sub-workflow"), 290),
    "of a slice, beside the workers": (sliced, 0),
}


def judge(lines: Counter[str], most: int) -> None:
    found = sum(lines.values())
    details = "\nLines per item:\n" + "\n".join(f"{count:4} {line}" for line, count in sorted(lines.items()))
    assert found <= most * MOST_ABOVE, advice("lines", found, most * MOST_ABOVE, details)
    assert found >= most * MOST_BELOW, (
        f"an item costs only {found} lines now: lower the bound of {most}, so that it stays that way.{details}"
    )


@pytest.mark.parametrize("room", ROOMS)
def test_an_item_runs_through_no_more_lines_than_it_did(room: str, tmp_path: Path) -> None:
    """A loop over the items of a chunk is no call more, and yet all items pay for it."""
    ready, most = ROOMS[room]
    few, many = 200, 500
    dataset = str(make_dataset(tmp_path / "items.parquet", many))
    judge(of_one_item(lines_per_item(ready, tmp_path, few, many, {"dataset": dataset})), most)


def test_a_request_runs_through_no_more_lines_than_it_did(tmp_path: Path) -> None:
    """With a service that answers at once, what is done around a request is most of its time."""
    with http.files(tmp_path, 500) as given:
        judge(of_one_item(lines_per_item(http.job, tmp_path, 200, 500, given)), 311)


@pytest.mark.parametrize("into", ["items", "batches"])
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_no_line_runs_for_each_row_that_is_read(kind: str, into: str, tmp_path: Path) -> None:
    """Rows are read by the million: a line of Python for each costs more than the rest of the reading."""
    with reading.files(tmp_path, 40_000) as given:
        judge(lines_per_item(partial(reading.by_batchrun, kind=kind, into=into), tmp_path, 10_000, 40_000, given), 0)


def test_a_chunk_of_items_is_passed_over_no_more_often_than_it_was(tmp_path: Path) -> None:
    """Another pass over a column is one line and one array for all items of a chunk, and nothing for each of them."""
    (batch,) = loops.batches(make_dataset(tmp_path / "items.parquet", CHUNK_ITEMS))
    (chunk,) = writing.chunks(batch, 0)
    columns, pool = ResultColumns(writing.LAYOUT), pa.default_memory_pool()
    columns.packed(chunk)  # constants are made once
    arrays, size = pool.num_allocations(), pool.total_bytes_allocated()
    made = columns.packed(chunk)
    arrays, size = pool.num_allocations() - arrays, pool.total_bytes_allocated() - size
    assert made is not None
    assert len(made.ordinals) == CHUNK_ITEMS
    assert arrays <= MAX_ARRAYS_PER_CHUNK, advice(f"Arrow buffers, with {CHUNK_ITEMS - 1} others together,", arrays, MAX_ARRAYS_PER_CHUNK)
    assert size <= MAX_BYTES_PER_CHUNK, advice(
        f"bytes of Arrow buffers, with {CHUNK_ITEMS - 1} others together,", size, MAX_BYTES_PER_CHUNK
    )
    lines = lines_of(lambda: columns.packed(chunk))
    found = sum(count for line, count in lines.items() if line.startswith("results/columns.py"))
    details = "\nLines per chunk:\n" + "\n".join(f"{count:4} {line}" for line, count in sorted(lines.items()))
    assert found <= MAX_LINES_PER_CHUNK, advice(f"lines, with {CHUNK_ITEMS - 1} others together,", found, MAX_LINES_PER_CHUNK, details)
