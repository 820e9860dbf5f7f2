"""The reorder buffer: order is restored with memory that does not grow with the number of items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batchrun.core.items import ItemResult
from batchrun.results import ResultLayout
from batchrun.results.columns import ResultColumns
from batchrun.results.reorder import Reorder


class Rows:
    """Counts what comes out, and keeps none of it."""

    def __init__(self) -> None:
        self.indices: list[int] = []

    def append(self, batch: pa.RecordBatch) -> None:
        self.indices += batch.column("item_index").to_pylist()


def _built(layout: ResultLayout) -> Callable[[Sequence[ItemResult]], pa.RecordBatch]:
    """Makes batches as the writer does."""
    columns = ResultColumns(layout)
    return lambda results: columns.rows(results, [result.item.ordinal for result in results]).batch


def _scatter(result: ItemResult) -> float:
    """A number from 0 to 1 that has nothing to do with the order of items."""
    return result.item.ordinal * 7919 % 1000 / 1000


@pytest.mark.parametrize("late_ratio", [0.0, 0.2], ids=["hung first item", "many late items"])
def test_memory_stays_flat_behind_a_hung_item(
    tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any], late_ratio: float
) -> None:
    """An item that hangs for an hour must not fill the memory with everything that finished after it."""
    results = make_results(20_000, window_rows=500)
    rest = sorted(results[1:], key=lambda result: result.item.ordinal + 3000 * (_scatter(result) < late_ratio))
    rows = Rows()
    reorder = Reorder(_built(layout), rows.append, tmp_path, buffer_bytes=2**20)
    before = pa.total_allocated_bytes()
    largest = 0
    for start in range(0, len(rest), 256):
        reorder.add(rest[start : start + 256])
        largest = max(largest, pa.total_allocated_bytes() - before)

    assert rows.indices == []
    assert largest < 2 * 2**20  # of some 14 MiB
    assert list(tmp_path.iterdir()) == []  # what waits on the disk has no name, so nothing is left after a kill

    reorder.add(results[:1])
    reorder.finish()
    assert rows.indices == list(range(0, 200_000, 10))
    assert (reorder.missing, reorder.doubled) == ([], [])
    reorder.close()


def test_small_disorder_leaves_at_once(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> None:
    """In a healthy run results go straight into the file; finishing has next to nothing left to do."""
    results = make_results(20_000, window_rows=500)
    jittered = sorted(results, key=lambda result: result.item.ordinal + 50 * _scatter(result))
    rows = Rows()
    reorder = Reorder(_built(layout), rows.append, tmp_path, buffer_bytes=64 * 2**20)
    for start in range(0, len(jittered), 256):
        reorder.add(jittered[start : start + 256])

    assert len(rows.indices) > 15_000
    assert rows.indices == list(range(0, 10 * len(rows.indices), 10))


@pytest.mark.parametrize("is_typed", [False, True])
def test_large_values_leave_in_small_batches(
    tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any], is_typed: bool
) -> None:
    """A column of one batch cannot hold 2 GiB, however many large outputs are handed over together."""
    sizes: list[int] = []
    layout = replace(layout, output_type={"texts": ["string"]} if is_typed else None)
    build = _built(layout)
    reorder = Reorder(build, lambda batch: sizes.append(batch.nbytes), tmp_path, buffer_bytes=8 * 100_000)
    text = "x" * 30_000
    reorder.add(make_results(60, output=lambda _: {"texts": [text]} if is_typed else f'"{text}"'.encode()))
    reorder.finish()

    assert max(sizes) < 200_000


def test_what_waited_leaves_in_bounded_batches(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> None:
    """When the hung item ends at last, what waited for it must not be copied into memory all at once."""
    sizes: list[int] = []
    build = _built(layout)
    reorder = Reorder(build, lambda batch: sizes.append(batch.nbytes), tmp_path, buffer_bytes=16 * 2**20)
    results = make_results(80, output=lambda _: b'"%s"' % (b"x" * 500_000))
    reorder.add(results[1:])
    reorder.add(results[:1])
    reorder.finish()
    reorder.close()

    assert sum(sizes) > 25 * 2**20
    assert max(sizes) < 20 * 2**20
