"""What an item costs in counts, which are the same on every machine: function calls, objects and bytes of the three-node job."""

from __future__ import annotations

import gc
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import pyarrow.parquet as pq

import batchrun
from batchrun.testing.rows import RowRun
from benchmarks.functions import clean, label, score
from benchmarks.jobs import chain, executed, make_dataset, three_nodes

FEW, MANY = 1_000, 4_000

MAX_CALLS = 46
MAX_BLOCKS = 26.5
MAX_RESULT_BYTES = 390.0
MAX_JOURNAL_BYTES = 165.0

PACKAGE = str(Path(batchrun.__file__).parent)
HAND_OVER = ("engine/lane.py", "engine/lanes.py", "execution/live.py")
"""What these do depends on how many items are handed over at a time, and so on the speed of the machine."""


def advice(bound: str, found: float, allowed: float, details: str = "") -> str:
    return (
        f"an item costs {found:g} {bound}, {allowed:g} are allowed. A feature that an item does not use must cost it nothing: move the "
        f"work to where it is done once per plan, chunk or execution. If the item needs it, measure what it costs (python -m benchmarks "
        f"--only dispatch), raise the bound in {Path(__file__).name} and say in the commit what the item gets for it.{details}"
    )


def counted(dataset: Path, folder: Path) -> Counter[str]:
    """Calls that code of batchrun makes or is, in all threads, while a job runs."""
    counts: Counter[str] = Counter()

    def note(frame: FrameType, event: str, called: Any) -> None:
        code = frame.f_code
        if event in {"call", "c_call"} and code.co_filename.startswith(PACKAGE):
            if (file := code.co_filename[len(PACKAGE) + 1 :]) in HAND_OVER:
                return
            place = f"{file}:{code.co_qualname}"
            counts[place if event == "call" else f"{place} → {called.__qualname__}"] += 1

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        executed(three_nodes(dataset, folder))
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return counts


def test_an_item_makes_no_more_calls_than_it_did(tmp_path: Path) -> None:
    """Work creeps into the fast path one harmless call at a time, and no clock of a shared machine sees it."""
    few, many = (make_dataset(tmp_path / f"{rows}.parquet", rows) for rows in (FEW, MANY))
    executed(three_nodes(few, tmp_path))  # what is done once is done
    before, after = counted(few, tmp_path), counted(many, tmp_path)
    extra = MANY - FEW
    # Whole calls per item: what is done once per chunk comes to a fraction, which depends on how fast the machine is.
    calls = {place: whole for place, count in after.items() if (whole := int((count - before[place]) / extra + 0.02))}
    found = sum(calls.values())
    details = "\nCalls per item:\n" + "\n".join(f"{count:4} {place}" for place, count in sorted(calls.items()))
    assert found <= MAX_CALLS, advice("function calls", found, MAX_CALLS, details)
    assert found > MAX_CALLS * 0.8, f"an item costs only {found} calls now: lower MAX_CALLS, so that it stays that way.{details}"


async def _blocks_of(rows: int) -> int:
    items = [{"body": f"  Ticket {row} about a Thing "} for row in range(rows)]
    run = RowRun(workflow=chain(clean, score, label))
    gc.collect()
    before = sys.getallocatedblocks()
    results = await run.results(items)
    gc.collect()
    held = sys.getallocatedblocks() - before
    assert len(results) == rows
    return held


def test_a_finished_item_holds_no_more_objects_than_it_did() -> None:
    """Finished items wait for the writer: what each of them holds is the memory and half of the time of a run."""
    anyio.run(_blocks_of, 10)
    few, many = anyio.run(_blocks_of, FEW), anyio.run(_blocks_of, MANY)
    found = (many - few) / (MANY - FEW)
    assert found <= MAX_BLOCKS, advice("objects", found, MAX_BLOCKS)


def test_a_row_is_no_larger_than_it_was(tmp_path: Path) -> None:
    """Every column is written and read for every item, whether it says something or not."""
    execution = executed(three_nodes(make_dataset(tmp_path / "items.parquet", MANY), tmp_path))
    file = pq.ParquetFile(execution.folder / "results.parquet").metadata
    groups = [file.row_group(at) for at in range(file.num_row_groups)]
    size = sum(group.column(at).total_uncompressed_size for group in groups for at in range(file.num_columns)) / MANY
    assert size <= MAX_RESULT_BYTES, advice("bytes of the result, uncompressed", size, MAX_RESULT_BYTES)
    journal = sum(path.stat().st_size for path in (execution.folder / "journal").glob("*.journal")) / MANY
    assert journal <= MAX_JOURNAL_BYTES, advice("bytes of the journal", journal, MAX_JOURNAL_BYTES)
