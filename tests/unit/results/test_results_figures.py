"""The figures of a report, from result files."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.core.errors import ExecutionError
from batchrun.results import ResultLayout, result_figures
from batchrun.results.figures import spread
from batchrun.results.similar import Similar, pattern_of

BEGAN = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)
LAYOUT = ResultLayout(window_schema=pa.schema([("source_item_id", pa.int64()), ("item_index", pa.int64())]), nodes=(("a", "python"),))


def call(milliseconds: float, **more: Any) -> dict[str, Any]:
    return {"node_id": "a", "status": "completed", "duration_ms": milliseconds, **more}


def row(number: int, **more: Any) -> dict[str, Any]:
    """An item that ended a second after the one before."""
    ended = BEGAN + timedelta(seconds=number)
    plain = {"source_item_id": number, "item_index": number, "status": "completed", "attempts": 1, "node_executions": [call(1.5)]}
    return {**plain, "completed_at": ended, "duration_ms": float(number), **more}


def failed(number: int, message: str, **more: Any) -> dict[str, Any]:
    return row(number, status="failed", error={"type": "Timeout", "message": message, "node_id": "a"}, **more)


def write(folder: Path, rows: list[dict[str, Any]], *, group_rows: int = 1000) -> None:
    pq.write_table(pa.Table.from_pylist(rows, LAYOUT.schema), folder / "results.parquet", row_group_size=group_rows)


def test_every_ended_item_is_in_one_interval(tmp_path: Path) -> None:
    """The bars of the throughput add up to the items that were run, and those that never ran are not among them."""
    rows = [row(number) for number in range(100)] + [failed(60, "late"), row(0, status="cancelled", completed_at=None, node_executions=[])]
    write(tmp_path, rows)
    drawn = result_figures(tmp_path).throughput
    assert drawn is not None
    assert (sum(drawn.ended_items), sum(drawn.failed_items)) == (101, 1)
    assert drawn.began_at == BEGAN
    assert drawn.interval_seconds * len(drawn.ended_items) == pytest.approx(99)
    assert drawn.failed_items.index(1) == int(60 // drawn.interval_seconds)


def test_items_carried_over_count_neither_for_the_rate_nor_as_slow(tmp_path: Path) -> None:
    """What a refresh took from an earlier execution took no time in this one."""
    write(tmp_path, [row(0, reused_from="earlier", duration_ms=1e9, completed_at=BEGAN - timedelta(days=9)), row(1), row(2)])
    figures = result_figures(tmp_path)
    assert figures.throughput is not None
    assert sum(figures.throughput.ended_items) == 2
    assert [item.source_item_id for item in figures.slowest] == ["2", "1"]


def test_calls_are_counted_by_how_long_they_took(tmp_path: Path) -> None:
    """Each call is in the bar of its duration, whatever decades they span; those that did not run are in none."""
    calls = [call(0.0), call(0.01), call(1.5), call(1.6), call(90_000.0), call(5.0, status="skipped"), call(7.0, status="waiting")]
    write(tmp_path, [row(0, node_executions=calls), row(1, node_executions=[])])
    bins = result_figures(tmp_path).histograms["a"]
    assert sum(each.calls for each in bins) == 5
    assert len(bins) <= 32
    (both,) = (each for each in bins if each.from_ms <= 1.5 < each.to_ms)
    assert both.calls == 2
    assert bins[-1].from_ms <= 90_000.0 < bins[-1].to_ms


def test_calls_that_were_made_for_an_earlier_execution_are_in_no_bar(tmp_path: Path) -> None:
    """The bars are of the same calls as the table of nodes above them, which a refresh does not add reused ones to."""
    reused = [row(number, reused_from="earlier", node_executions=[call(90_000.0)]) for number in range(5)]
    write(tmp_path, [*reused, row(5), row(6)])
    (only,) = result_figures(tmp_path).histograms["a"]
    assert only.calls == 2 and only.from_ms <= 1.5 < only.to_ms
    write(tmp_path, reused)
    assert result_figures(tmp_path).histograms == {}


def test_a_large_result_is_drawn_of_rows_from_all_over_it(tmp_path: Path) -> None:
    """A report of ten million items costs as much as one of half a million, and says of how many rows it is."""
    write(tmp_path, [failed(number, f"row {number}", node_executions=[call(1.0)]) for number in range(800)], group_rows=100)
    figures = result_figures(tmp_path, enough_executions=200, enough_failures=200)
    assert (figures.total_rows, figures.histogram_rows, figures.grouped_failures) == (800, 200, 200)
    assert sum(each.calls for each in figures.histograms["a"]) == 200
    assert figures.throughput is not None
    assert sum(figures.throughput.ended_items) == 800


def test_durations_are_of_the_whole_run_and_not_of_its_beginning(tmp_path: Path) -> None:
    """What is drawn of some rows takes its turns between row groups, however many rows each of them has."""
    rows = [row(number, node_executions=[call(1.0 if number < 9_000 else 100.0)]) for number in range(18_000)]
    write(tmp_path, rows, group_rows=9_000)
    figures = result_figures(tmp_path, enough_executions=10_000)
    early, late = figures.histograms["a"][0], figures.histograms["a"][-1]
    assert early.calls == late.calls == figures.histogram_rows / 2


def test_the_beginnings_of_an_order_are_spread_evenly() -> None:
    """A sample of row groups is not one of the beginning of the run."""
    for count in (0, 1, 2, 7, 150):
        assert sorted(spread(count)) == list(range(count))
    assert max(spread(150)[:10]) > 130


def test_a_result_without_items_has_figures(tmp_path: Path) -> None:
    """A dataset without rows is no trouble."""
    write(tmp_path, [])
    figures = result_figures(tmp_path)
    assert (figures.throughput, figures.histograms, figures.slowest, figures.similar_failures) == (None, {}, [], [])
    with pytest.raises(ExecutionError, match="there is no"):
        result_figures(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no user 17", "no user 4711"),
        ("key 'a' is missing", "key 'bcd' is missing"),
        ("run 0a1b2c3d-9f in 3.5 s", "run ffeeddcc-01 in 12 s"),
        ('cannot read "x.pdf"\nat line 3', 'cannot read "y y.pdf" at line 44'),
    ],
)
def test_messages_that_differ_in_values_are_similar(one: str, other: str) -> None:
    """A thousand failures with an id in each message are one line of the report."""
    assert pattern_of(one) == pattern_of(other)


def test_messages_that_say_something_else_are_not_similar() -> None:
    """Two faults are not mistaken for one."""
    assert pattern_of("no user 17") != pattern_of("no order 17")


def test_groups_are_bounded_and_keep_examples() -> None:
    """Messages that have nothing in common cannot fill the memory, and the largest groups come first."""
    similar = Similar()
    similar.add((number, "Timeout", None, "".join(chr(97 + int(digit)) for digit in str(number))) for number in range(10_000))
    similar.add((number, "Timeout", "a", f"no answer in {number} s") for number in range(9_000))
    assert similar.items == 19_000
    groups = similar.largest(10_000)
    assert sum(group.count for group in groups) == 19_000
    assert len(groups) <= 2_002
    assert [(group.node_id, group.pattern, group.count) for group in groups[:2]] == [("a", "…", 9_000), (None, "…", 8_000)]
    assert len(groups[0].examples) == 3
