"""Exports: the same rows in formats for other programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from batchrun.core.errors import ExecutionError, JobError
from batchrun.results import ResultLayout, ResultWriter, export_results, read_results

MOMENT = datetime(2026, 11, 1, 9, 30, 0, 5, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> Path:
    """An execution with 20 results."""
    writer = ResultWriter(tmp_path, layout)
    writer.put(make_results(20))
    writer.finish({"execution_id": "e1"}, 20)
    return tmp_path


def test_csv_holds_nested_columns_as_json(folder: Path) -> None:
    """A spreadsheet gets one row per item, and nothing is lost in cells that hold more than one value."""
    assert export_results(folder, ["csv"]) == [folder / "results.csv"]

    with (folder / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert rows[0]["started_at"] == "2026-09-21T14:13:20.000000Z"
    assert (rows[0]["item_index"], rows[0]["status"], rows[0]["opened"], rows[0]["error"]) == ("0", "completed", "2026-01-01", "")
    assert json.loads(rows[0]["output"]) == {"label": "refund", "n": 0}
    assert json.loads(rows[3]["error"])["message"] == "no answer in 30 s"
    assert json.loads(rows[3]["place"]) == {"city": "Köln", "tags": ["a", None]}
    assert json.loads(rows[0]["node_executions"])[1]["input"] == {"text": "hello"}
    assert json.loads(rows[0]["node_executions"])[1]["started_at"] == "2026-09-21T14:13:20.000250Z"


def test_ndjson_holds_json_text_as_json(folder: Path) -> None:
    """Whoever reads the lines wants the output, not a string that has to be parsed once more."""
    export_results(folder, ["ndjson"])

    rows = [json.loads(line) for line in (folder / "results.ndjson").read_text().splitlines()]
    assert list(rows[0]) == read_results(folder).schema.names
    assert rows[0]["output"] == {"label": "refund", "n": 0}
    assert rows[0]["node_executions"][0]["output"] == {"text": "hello"}
    assert (rows[3]["output"], rows[3]["error"]["type"], rows[5]["node_executions"]) == (None, "Timeout", [])


def test_arrow_keeps_the_types(folder: Path) -> None:
    """An IPC file is the same table, for programs that map it into memory."""
    export_results(folder, ["arrow"])

    with pa.ipc.open_file(folder / "results.arrow") as file:
        assert file.read_all().equals(read_results(folder))
        assert file.schema.metadata[b"execution_id"] == b"e1"
    assert pl.read_ipc(folder / "results.arrow").height == 20


def test_filter_sees_the_whole_table(folder: Path) -> None:
    """Conditions over other rows mean the same as in a query over the file."""
    target = folder / "exports"
    target.mkdir()

    paths = export_results(folder, ["csv", "arrow"], target, "error.type = 'Timeout' AND item_index > AVG(item_index)")

    assert paths == [target / "results.csv", target / "results.arrow"]
    assert pl.read_csv(paths[0])["item_index"].to_list() == [100, 170]
    assert pl.read_ipc(paths[1])["item_index"].to_list() == [100, 170]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("statsu = 'failed'", "statsu"),
        ("attempts + 1", "must be true or false for each row, but is "),
        ("error = 'Timeout'", 'cannot be used: column "error" has fields and is compared as a whole; fields: error.'),
        ("CAST(status AS INT) = 1", "cannot be used: "),
        ("status = ", "cannot be used: it is no expression; write one such as"),
        ("error.typ = 'x'", 'cannot be used: unknown field "error.typ"; did you mean "error.type"?'),
    ],
)
def test_filter_that_is_none_is_refused(folder: Path, condition: str, message: str) -> None:
    """A mistyped filter must not export everything, or nothing."""
    with pytest.raises(JobError, match="filter") as caught:
        export_results(folder, ["csv"], filter=condition)

    assert message in str(caught.value)
    assert not (folder / "results.csv").exists()


def test_unknown_format_is_refused_with_the_nearest(folder: Path) -> None:
    """A typing mistake gets a hint, before anything is written."""
    with pytest.raises(JobError, match="unknown export format 'ndjsn'; did you mean \"ndjson\""):
        export_results(folder, ["csv", "ndjsn"])  # type: ignore[list-item]

    assert not (folder / "results.csv").exists()


def test_empty_result_has_its_columns(tmp_path: Path, layout: ResultLayout) -> None:
    """A program that reads the export must find the columns even when no item was loaded."""
    ResultWriter(tmp_path, layout).finish({}, 0)

    paths = export_results(tmp_path, ["csv", "ndjson", "arrow"])

    assert pl.read_csv(paths[0]).columns == layout.schema.names
    assert paths[1].read_bytes() == b""
    assert pl.read_ipc(paths[2]).columns == layout.schema.names


def test_export_without_result_is_explained(tmp_path: Path) -> None:
    """Asking for the export of an execution that is still running gets an answer."""
    with pytest.raises(ExecutionError, match=r"there is no .*results\.parquet: the execution has not ended"):
        export_results(tmp_path, ["csv"])


def test_kept_columns_of_every_type_are_written_down(tmp_path: Path) -> None:
    """Source columns have types that neither CSV nor JSON know; one odd column must not stop an export."""
    kept = {
        "naive": (pa.timestamp("ns"), datetime(2026, 1, 2, 3, 4, 5)),
        "zoned": (pa.timestamp("us", "Europe/Berlin"), MOMENT),
        "clock": (pa.time64("ns"), time(1, 2, 3, 4)),
        "length": (pa.duration("ms"), timedelta(seconds=1.5)),
        "raw": (pa.large_binary(), b"\0\xff"),
        "price": (pa.decimal128(9, 2), Decimal("1.50")),
        "kind": (pa.dictionary(pa.uint32(), pa.large_string()), "small"),
        "list": (pa.large_list(pa.struct([("day", pa.date32()), ("raw", pa.binary())])), [{"day": date(2026, 1, 2), "raw": b"\0"}, None]),
        "pair": (pa.list_(pa.int8(), 2), [1, 2]),
    }
    columns = {"source_item_id": pa.array([0, 1]), "item_index": pa.array([0, 1])}
    columns |= {name: pa.array([value, None], kind) for name, (kind, value) in kept.items()}
    batch = pa.record_batch(columns)
    writer = ResultWriter(tmp_path, ResultLayout(window_schema=batch.schema, nodes=()))
    writer.put_rest(batch, range(2), "cancelled")
    writer.finish({}, 2)

    csv_path, ndjson_path, arrow_path = export_results(tmp_path, ["csv", "ndjson", "arrow"])

    expected = {
        "naive": "2026-01-02T03:04:05.000000000",
        "zoned": "2026-11-01T09:30:00.000005Z",
        "clock": "01:02:03.000004000",
        "length": 1.5,
        "raw": "AP8=",
        "price": "1.50",
        "kind": "small",
        "pair": [1, 2],
        "list": [{"day": "2026-01-02", "raw": "AA=="}, None],
    }
    first, second = (json.loads(line) for line in ndjson_path.read_text().splitlines())
    assert {name: first[name] for name in kept} == expected
    assert {second[name] for name in kept} == {None}
    with csv_path.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert {name: first[name] for name in kept} == {
        name: value if isinstance(value, str) else json.dumps(value, separators=(",", ":")) for name, value in expected.items()
    }
    assert {second[name] for name in kept} == {""}
    with pa.ipc.open_file(arrow_path) as file:
        assert file.read_all()["kind"].to_pylist() == ["small", None]
