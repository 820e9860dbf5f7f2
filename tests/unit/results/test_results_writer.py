"""The result file: complete, in order, and readable by every tool, or not there at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.errors import ErrorRecord, ExecutionError
from batchrun.core.items import ItemResult
from batchrun.results import ResultLayout, ResultWriter, read_results, result_metadata, scan_results
from batchrun.workflows.types import TypeSpec

START = datetime.fromtimestamp(1_790_000_000, UTC)


def write(folder: Path, layout: ResultLayout, results: list[ItemResult], *, chunk: int = 5, buffer_bytes: int = 64 * 2**20) -> pa.Table:
    """Write results to a folder and read them back."""
    writer = ResultWriter(folder, layout, buffer_bytes=buffer_bytes)
    for start in range(0, len(results), chunk):
        writer.put(results[start : start + chunk])
    writer.finish({"execution_id": "e1"}, len(results))
    return read_results(folder)


def test_every_column_says_what_happened_to_the_item(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> None:
    """The table is the product: each value of each row is the one that was put in."""
    table = write(tmp_path, layout, make_results(20))

    assert table.schema.equals(layout.schema)
    assert table["item_index"].to_pylist() == list(range(0, 200, 10))
    completed, failed, skipped = (table.slice(row, 1).to_pylist()[0] for row in (0, 3, 5))
    assert completed["source_item_id"] == "T00000"
    assert completed["status"] == "completed"
    assert json.loads(completed["output"]) == {"label": "refund", "n": 0}
    assert completed["error"] is None
    assert (completed["attempts"], completed["duration_ms"], completed["reused_from"]) == (1, 1.75, None)
    assert (completed["started_at"], completed["completed_at"]) == (START, START + timedelta(microseconds=1750))
    assert (completed["priority"], completed["opened"], completed["place"]) == (0, date(2026, 1, 1), None)
    assert [(node["node_id"], node["node_type"], node["status"]) for node in completed["node_executions"]] == [
        ("clean", "python", "completed"),
        ("classify", "http", "completed"),
        ("final", "template", "skipped"),
    ]
    assert completed["node_executions"][1] == {
        "node_id": "classify",
        "node_type": "http",
        "occurrence": 0,
        "status": "completed",
        "attempts": 1,
        "started_at": START + timedelta(microseconds=250),
        "duration_ms": 1.5,
        "input": '{"text":"hello"}',
        "output": '{"label":"refund"}',
        "prompt": None,
        "error": None,
        "cache_hit": False,
        "call_key": "key-0",
        "external_id": None,
        "usage": None,
    }
    error = {"type": "Timeout", "message": "no answer in 30 s", "node_id": "classify", "retryable": True}
    assert failed["error"] == failed["node_executions"][1]["error"] == {**error, "http_status": None, "traceback": "Traceback …"}
    assert (failed["status"], failed["attempts"], failed["output"]) == ("failed", 3, None)
    assert failed["place"] == {"city": "Köln", "tags": ["a", None]}
    assert (skipped["status"], skipped["node_executions"]) == ("skipped", [])


def test_polars_and_duckdb_read_what_pyarrow_reads(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> None:
    """Users open the file with their own tools; all of them must see the same rows."""
    table = write(tmp_path, layout, make_results(20))

    frame = scan_results(tmp_path).collect()
    relation = duckdb.read_parquet(str(tmp_path / "results.parquet")).filter("priority = 0")
    rows = relation.project("status, node_executions[1].node_id, error.type, epoch_us(started_at)").fetchall()

    assert frame.to_dicts() == table.to_pylist()
    assert frame.filter(pl.col("output").str.contains("refund"), pl.col("status") == "completed").height == 14
    expected = [row for row in table.to_pylist() if row["priority"] == 0]
    assert [row[0] for row in rows] == [row["status"] for row in expected]
    assert [row[1] for row in rows] == ["clean" if row["node_executions"] else None for row in expected]
    assert [row[2] for row in rows] == ["Timeout" if row["error"] else None for row in expected]
    assert [row[3] for row in rows] == [round(row["started_at"].timestamp() * 1e6) for row in expected]


@given(
    order=st.integers(0, 90).flatmap(lambda count: st.permutations(range(count))),
    chunk=st.integers(1, 40),
    buffer_bytes=st.sampled_from([1, 20_000, 100_000, 64 * 2**20]),
)
def test_any_order_gives_the_same_table(
    order: list[int], chunk: int, buffer_bytes: int, layout_and_results: tuple[ResultLayout, list[ItemResult], pa.Table]
) -> None:
    """Whatever order items end in, and however much of them is spilled, the rows come out sorted and whole."""
    layout, results, expected = layout_and_results
    with TemporaryDirectory() as folder:
        table = write(Path(folder), layout, [results[row] for row in order], chunk=chunk, buffer_bytes=buffer_bytes)
        assert [path.name for path in Path(folder).iterdir()] == ["results.parquet"]
    assert table.equals(expected.slice(0, len(order)))


@pytest.fixture(scope="module")
def layout_and_results(
    tmp_path_factory: pytest.TempPathFactory, layout: ResultLayout, make_results: Callable[..., Any]
) -> tuple[ResultLayout, list[ItemResult], pa.Table]:
    """90 results and their table."""
    results = make_results(90)
    return layout, results, write(tmp_path_factory.mktemp("expected"), layout, results, chunk=90)


def test_counters_are_in_the_file_and_in_the_totals(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> None:
    """Whoever has only the file can still see whether all items are there."""
    writer = ResultWriter(tmp_path, layout)
    writer.put(make_results(21))
    rest = make_results(25)[21].item.window.columns
    writer.put_rest(rest.slice(0, 3), range(21, 24), "cancelled")
    writer.put_rest(rest.slice(3, 1), range(24, 25), "waiting")
    totals = writer.finish({"execution_id": "e1", "job_name": "triage"}, 25)

    counters = {"total_items": 25, "processed_items": 21, "completed_items": 15, "failed_items": 3, "skipped_items": 3}
    assert totals.counters() == {**counters, "waiting_items": 1, "cancelled_items": 3}
    metadata = result_metadata(tmp_path)
    assert {name: int(metadata[name]) for name in totals.counters()} == totals.counters()
    assert (metadata["execution_id"], metadata["job_name"]) == ("e1", "triage")
    assert read_results(tmp_path).schema.metadata[b"total_items"] == b"25"
    assert read_results(tmp_path)["status"].to_pylist()[21:] == ["cancelled"] * 3 + ["waiting"]
    last = read_results(tmp_path).to_pylist()[-1]
    assert (last["source_item_id"], last["priority"], last["attempts"], last["node_executions"]) == ("T00024", 0, 0, [])
    assert (last["started_at"], last["completed_at"], last["duration_ms"], last["error"]) == (None, None, None, None)


def test_many_rows_become_row_groups_of_even_size(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> None:
    """Readers skip and stream by row group: one huge group or thousands of tiny ones would make them slow."""
    writer = ResultWriter(tmp_path, layout)
    writer.put(make_results(30))
    row = make_results(1)[0].item.window.columns
    writer.put_rest(pa.concat_batches([row] * 70_000), range(30, 70_030), "cancelled")
    writer.finish({}, 70_030)

    metadata = pq.read_metadata(tmp_path / "results.parquet")
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [65_536, 4_494]
    assert writer.backlog == 0


def test_node_and_failure_statistics(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> None:
    """The summary of a run says which node is slow and what goes wrong, without reading the table."""
    writer = ResultWriter(tmp_path, layout)
    results = make_results(210)
    strange = [
        result._replace(error=ErrorRecord(f"Error{row}", "once", None, retryable=False, http_status=None, traceback=None))
        if row < 105 and result.error
        else result
        for row, result in enumerate(results)
    ]
    writer.put(strange)
    totals = writer.finish({}, 210)

    clean, classify, final = totals.nodes
    assert (clean.node_id, clean.node_type, clean.calls, clean.completed, clean.total_ms) == ("clean", "python", 180, 180, 45.0)
    assert (classify.calls, classify.attempts, classify.completed, classify.failed) == (180, 240, 150, 30)
    assert (classify.total_ms, classify.max_ms) == (150 * 1.5 + 30 * 30_000.0, 30_000.0)
    assert (final.calls, final.skipped) == (0, 150)
    assert [(group.error_type, group.node_id, group.count) for group in totals.failures][:2] == [
        ("Timeout", "classify", 15),
        ("Error3", None, 1),
    ]
    assert (totals.failures[0].source_item_id, totals.failures[0].message) == ("T00108", "no answer in 30 s")


def test_failure_groups_are_bounded(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> None:
    """A thousand different error types must not make the summary unreadable."""
    failed = next(result for result in make_results(10) if result.error)
    writer = ResultWriter(tmp_path, layout)
    writer.put([failed._replace(error=failed.error._replace(type=f"Error{number}")) for number in range(150)])
    with pytest.raises(ExecutionError):
        writer.finish({}, 150)

    assert len(writer.totals.failures) == 101
    assert (writer.totals.failures[0].error_type, writer.totals.failures[0].count) == ("other", 50)


def test_no_items_give_an_empty_table_with_all_columns(tmp_path: Path, layout: ResultLayout) -> None:
    """A filter that matches nothing is a valid job; what reads its result must find the columns."""
    table = write(tmp_path, layout, [])

    assert table.schema.equals(layout.schema)
    assert table.num_rows == 0
    assert result_metadata(tmp_path)["total_items"] == "0"


@pytest.mark.parametrize("mode", ["summary", "none"])
def test_failed_rows_keep_their_node_outputs(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any], mode: Any) -> None:
    """Smaller results must not cost what is needed to find out why an item failed."""
    layout = replace(layout, node_executions=mode)
    rows = write(tmp_path, layout, make_results(10)).to_pylist()

    assert [node["input"] for node in rows[3]["node_executions"]] == ['{"text":"hello 3"}', '{"text":"hello"}']
    assert rows[3]["node_executions"][0]["output"] == '{"text":"hello"}'
    shown = [(node["node_id"], node["attempts"], node["input"], node["output"]) for node in rows[0]["node_executions"]]
    assert shown == ([] if mode == "none" else [("clean", 1, None, None), ("classify", 1, None, None), ("final", 0, None, None)])
    assert len(rows[9]["node_executions"]) == (0 if mode == "none" else 3)


def test_typed_output_becomes_a_typed_column(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> None:
    """With an output schema nobody has to parse JSON again."""
    value = {
        "label": "refund",
        "ok": True,
        "raw": b"\0\1",
        "day": date(2026, 2, 3),
        "at": time(1, 2, 3, 4),
        "seen": START,
        "any": '{"a":1}',
        "count": 2**63,
        "scores": [0.5, None],
        "places": [{"lat": 1.5}],
    }
    spec: TypeSpec = {
        "label": "string",
        "ok": "bool",
        "raw": "binary",
        "day": "date",
        "at": "time",
        "seen": "timestamp",
        "any": "json",
        "count": "uint64",
        "scores": ["float32"],
        "places": [{"lat": "float64"}],
    }
    layout = replace(layout, output_type=spec)
    table = write(tmp_path, layout, make_results(10, output=lambda _: value))

    assert table.schema.equals(layout.schema)
    assert table.schema.field("output").type.field("any").metadata == {b"batchrun.encoding": b"json"}
    assert table["output"].to_pylist()[0] == value
    assert table["output"].to_pylist()[3] is None
    assert pl.read_parquet(tmp_path / "results.parquet")["output"].struct.field("count")[0] == 2**63


def test_error_texts_without_utf8_form_are_kept_readable(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> None:
    """One strange file name in one error message must not break the result of a million items."""
    results = make_results(4)
    results[3] = results[3]._replace(error=results[3].error._replace(message="no file 'caf\udce9'", http_status=503))

    error = write(tmp_path, layout, results).to_pylist()[3]["error"]

    assert error["message"] == r"no file 'caf\udce9'"
    assert (error["node_id"], error["http_status"], error["traceback"]) == ("classify", 503, "Traceback …")
