"""Rows that another process has made: they are those that the writer makes itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from batchrun.core.items import ItemResult
from batchrun.nodes.crossing import packed, unpacked
from batchrun.results import Journal, Recovered, ResultLayout, ResultTotals, ResultWriter
from batchrun.results.handed import handed_rows
from tests.unit.results.conftest import NODES, WINDOW_SCHEMA, MakeResults

LAYOUT = ResultLayout(window_schema=WINDOW_SCHEMA, nodes=NODES)


def _written(folder: Path, results: list[ItemResult], *, is_handed: bool) -> ResultTotals:
    folder.mkdir()
    journal = Journal(folder)
    journal.begin({})
    writer = ResultWriter(folder, LAYOUT, journal=journal)
    for first in range(0, len(results), 50):
        if is_handed:
            for rows in handed_rows(results[first : first + 50], LAYOUT):
                writer.put_rows(unpacked(packed(rows, "rows"), "rows"))
        else:
            writer.put(results[first : first + 50])
    totals = writer.finish({}, len(results))
    journal.close()
    return totals


@pytest.mark.parametrize("is_ordered", [True, False])
def test_table_totals_and_journal_are_the_same(tmp_path: Path, make_results: MakeResults, *, is_ordered: bool) -> None:
    """Who makes the rows is seen nowhere."""
    results = make_results(400)
    if not is_ordered:
        results.sort(key=lambda result: result.item.ordinal * 7 % 400)
    own = _written(tmp_path / "own", results, is_handed=False)
    handed = _written(tmp_path / "handed", results, is_handed=True)
    assert replace(handed, failures=()) == replace(own, failures=())
    assert [(group.error_type, group.node_id, group.count) for group in handed.failures] == [("Timeout", "classify", own.failed_items)]
    assert pq.read_table(tmp_path / "handed/results.parquet").equals(pq.read_table(tmp_path / "own/results.parquet"))
    assert Recovered(tmp_path / "handed").done[:400] == Recovered(tmp_path / "own").done[:400]
