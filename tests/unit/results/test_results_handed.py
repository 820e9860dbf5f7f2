"""Rows that another process or thread has made: they are those that the writer makes itself."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.core.errors import ExecutionError
from batchrun.core.items import ItemResult
from batchrun.nodes.crossing import packed, unpacked
from batchrun.results import Journal, Recovered, ResultLayout, ResultTotals, ResultWriter
from batchrun.results.columns import ResultColumns
from batchrun.results.handed import handed_rows
from tests.unit.results.conftest import NODES, WINDOW_SCHEMA, MakeResults

STEP = 250
LAYOUT = ResultLayout(window_schema=WINDOW_SCHEMA, nodes=NODES)


Way: TypeAlias = Literal["put", "packed", "handed"]


def _written(folder: Path, results: list[ItemResult], way: Way, layout: ResultLayout = LAYOUT) -> ResultTotals:
    folder.mkdir()
    journal = Journal(folder)
    journal.begin({})
    writer = ResultWriter(folder, layout, journal=journal)
    for first in range(0, len(results), STEP):
        some = results[first : first + STEP]
        if way == "handed":
            for rows in handed_rows(some, ResultColumns(layout)):
                writer.put_rows(unpacked(packed(rows, "rows"), "rows"))
        elif way == "packed" and first % (2 * STEP):  # between others that are not
            made = writer.pack(some)
            assert made is not None
            writer.put_rows(made)
        else:
            writer.put(some)
    totals = writer.finish({}, len(results))
    journal.close()
    return totals


@pytest.mark.parametrize("executions", ["full", "summary", "none"])
@pytest.mark.parametrize("is_ordered", [True, False])
@pytest.mark.parametrize("way", ["packed", "handed"])
def test_table_totals_and_journal_are_the_same(
    tmp_path: Path, make_results: MakeResults, way: Way, executions: Literal["full", "summary", "none"], *, is_ordered: bool
) -> None:
    """Who makes the rows is seen nowhere."""
    results, layout = make_results(1_600), replace(LAYOUT, node_executions=executions)
    if not is_ordered:
        results.sort(key=lambda result: result.item.ordinal * 7 % 1_600)
    own = _written(tmp_path / "own", results, "put", layout)
    made = _written(tmp_path / "made", results, way, layout)
    assert replace(made, failures=()) == replace(own, failures=())
    assert [(group.error_type, group.node_id, group.count) for group in made.failures] == [("Timeout", "classify", own.failed_items)]
    assert pq.read_table(tmp_path / "made/results.parquet").equals(pq.read_table(tmp_path / "own/results.parquet"))
    assert Recovered(tmp_path / "made").done[:1_600] == Recovered(tmp_path / "own").done[:1_600]


def test_no_rows_are_made_of_what_the_writer_refuses(tmp_path: Path, make_results: MakeResults) -> None:
    """A thread that makes rows never fails: the writer is given the results, and says what is wrong with them."""
    layout = replace(LAYOUT, output_type="int8")
    results = make_results(STEP, output=lambda ordinal: ordinal)
    writer = ResultWriter(tmp_path, layout)
    assert writer.pack(results) is None
    writer.put(results)
    with pytest.raises(ExecutionError, match="too large to fit"):
        writer.finish({}, len(results))


def test_no_rows_are_made_of_an_item_that_came_twice(tmp_path: Path, make_results: MakeResults) -> None:
    """Rows are told apart by their items alone: an item with two of them would take the place of another one."""
    results = make_results(2 * STEP)
    writer = ResultWriter(tmp_path, LAYOUT)
    assert writer.pack([*results, results[2]]) is None
    for some in (results, results[2 : 2 + STEP]):
        made = writer.pack(some)
        assert made is not None
        writer.put_rows(made)
    with pytest.raises(ExecutionError, match="items with more than one result: 2, 3, 4"):
        writer.finish({}, len(results))


def test_rows_count_in_the_backlog_by_their_size(tmp_path: Path, make_results: MakeResults) -> None:
    """What waits for the writer is bounded by the memory it takes, or a thousand small rows would hold up the items after them."""
    columns = ResultColumns(LAYOUT)
    small = columns.packed(make_results(1000))
    large = columns.packed(make_results(STEP, output=lambda _ordinal: b'"%s"' % (b"x" * 50_000)))
    assert small is not None
    assert large is not None
    assert 10 < small.weight < 100
    assert large.weight == STEP


@pytest.mark.parametrize("comes_first", ["results", "rows"])
def test_what_was_put_leaves_although_a_little_of_the_other_kind_comes_before_it(
    tmp_path: Path, make_results: MakeResults, comes_first: Literal["results", "rows"]
) -> None:
    """Also without a journal: else those few would lie there until the end, and all after them wait for them on the disk."""
    results = make_results(70_000, window_rows=1_000)
    writer = ResultWriter(tmp_path, LAYOUT)
    for first in range(0, len(results), STEP):
        some = results[first : first + STEP]
        if (first == 0) == (comes_first == "results"):
            writer.put(some)
        else:
            made = writer.pack(some)
            assert made is not None
            writer.put_rows(made)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 100_000 for path in tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert any(path.stat().st_size > 100_000 for path in tmp_path.iterdir())
    writer.finish({}, len(results))


def test_rows_that_come_too_late_are_refused(tmp_path: Path, make_results: MakeResults) -> None:
    """A row that nobody writes must not look as if it had been taken."""
    writer = ResultWriter(tmp_path, LAYOUT)
    made = writer.pack(make_results(STEP))
    assert made is not None
    writer.finish({}, 0)
    with pytest.raises(ExecutionError, match=f"{STEP} results came after"):
        writer.put_rows(made)


def test_rows_of_many_megabytes_are_left_to_the_writer(tmp_path: Path, make_results: MakeResults) -> None:
    """No column of a batch may reach 2 GiB, and what is put is cut into parts; to make such rows twice would take time and memory."""
    results = make_results(STEP, output=lambda _ordinal: b'"%s"' % (b"x" * 200_000))
    writer = ResultWriter(tmp_path, LAYOUT)
    pool = pa.default_memory_pool()
    used = pa.proxy_memory_pool(pool)
    pa.set_memory_pool(used)
    try:
        assert writer.pack(results) is None
    finally:
        pa.set_memory_pool(pool)
    assert used.max_memory() < 2**20
    writer.put(results)
    assert writer.finish({}, STEP).total_items == STEP
