"""Real files of every odd kind come back in the result as they were, or are refused in words that help."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batchrun

ODD_TEXTS = ["emoji 🎉👩‍👩‍👧 é e\u0301", "\x01\x1b[31m\x7f\u2028\u200e", "tab\tline\r\nbreak\n", "", " ", "NULL", '"quoted"', "x" * 100_000]
MOMENT = dt.datetime(2026, 3, 29, 2, 30, 0, 123456)
ZONED = MOMENT.replace(tzinfo=ZoneInfo("Europe/Zurich"))


def ran(folder: Path, dataset: batchrun.Dataset, keep: tuple[str, ...]) -> pa.Table:
    """The result of a job that gives back each item, with columns copied."""
    job = batchrun.Job(
        name="odd", dataset=dataset, workflow=lambda item: item, output=batchrun.Output(path=str(folder / "runs"), keep=keep)
    )
    execution = batchrun.execute(job, quiet=True)
    assert execution.status == "completed" and execution.progress.failed_items == 0
    return pq.read_table(execution.folder / "results.parquet")


COLUMNS = {
    "nested": pa.array([{"a": [{"b": 1}], "c": None}, None, {"a": [], "c": {"d": "🎉"}}]),
    "list": pa.array([[1, None], None, []], pa.list_(pa.int16())),
    "list of lists": pa.array([[["x"], []], None, [None]]),
    "decimal": pa.array([Decimal("1.10"), None, Decimal("-99999999999999999999999999999999999.999")], pa.decimal128(38, 3)),
    "wide decimal": pa.array([Decimal("1.10"), None, Decimal("-3.33")], pa.decimal256(60, 2)),
    "seconds": pa.array([MOMENT.replace(microsecond=0), None, dt.datetime(1, 1, 1)], pa.timestamp("ms")),
    "zone": pa.array([ZONED, None, ZONED], pa.timestamp("us", "Europe/Zurich")),
    "nanoseconds": pa.array([1_774_751_400_123_456_789, None, -1], pa.timestamp("ns", "UTC")),
    "dictionary": pa.array(["a", None, "🎉"]).dictionary_encode(),
    "all null": pa.nulls(3, pa.string()),
    "of no type": pa.nulls(3),
    "binary": pa.array([b"\x00\xff", None, b""]),
    "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    "float": pa.array([float("inf"), None, -0.0]),
    "half": pa.array([1.5, None, -2.0], pa.float16()),
    "unsigned": pa.array([2**64 - 1, None, 0], pa.uint64()),
    "time": pa.array([dt.time(23, 59, 59, 999999), None, dt.time(0)], pa.time64("us")),
    "span": pa.array([dt.timedelta(days=-1), None, dt.timedelta(0)], pa.duration("ms")),
    "boolean": pa.array([True, None, False]),
    "emoji and control characters": pa.array([ODD_TEXTS[0], None, ODD_TEXTS[1]]),
    "100,000 characters": pa.array(["é" * 100_000, None, ""]),
}


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize("name", COLUMNS)
def test_columns_of_every_type_are_in_the_result_as_they_were(tmp_path: Path, name: str, suffix: str) -> None:
    """What is copied has the type and the values of the source; the workflow can read all of it."""
    table = pa.table({"key": [1, 2, 3], name: COLUMNS[name]})
    path = tmp_path / f"odd.{suffix}"
    if suffix == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    stored = pq.read_table(path) if suffix == "parquet" else table
    result = ran(tmp_path, batchrun.Dataset(path=str(path), id="key"), (name,))
    assert result["source_item_id"].to_pylist() == [1, 2, 3]
    assert result.schema.field(name).type == stored.schema.field(name).type
    assert result[name].cast(pa.int64() if name == "nanoseconds" else result[name].type) == stored[name].cast(
        pa.int64() if name == "nanoseconds" else result[name].type
    )
    outputs = [json.loads(text) for text in result["output"].to_pylist()]
    assert [output["key"] for output in outputs] == [1, 2, 3] and outputs[1][name] is None


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_type_that_cannot_be_read_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    """A zone that is only an offset is known to no time zone database; no row is read with another time."""
    path = tmp_path / f"odd.{suffix}"
    frame = pa.table({"key": [1], "at": pa.array([MOMENT], pa.timestamp("us", "+05:30"))})
    if suffix == "parquet":
        pq.write_table(frame, path)
    else:
        with pa.ipc.new_file(path, frame.schema) as writer:
            writer.write_table(frame)
    with pytest.raises(batchrun.JobError, match=r'the column "at" is of a type that cannot be read: timestamp\[us, tz=\+05:30\]'):
        ran(tmp_path, batchrun.Dataset(path=str(path)), ())


IDS: dict[str, pl.Series] = {
    **{str(kind): pl.Series([0, 1, 127], dtype=kind) for kind in (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt64)},
    "largest": pl.Series([2**64 - 1, 0, 2**63], dtype=pl.UInt64),
    "float": pl.Series([0.5, -1.0, 1e300]),
    "boolean": pl.Series([True, False]),
    "text": pl.Series(ODD_TEXTS),
    "date": pl.Series([dt.date(1, 1, 1), dt.date(9999, 12, 31)]),
    "datetime": pl.Series([MOMENT, dt.datetime(1900, 1, 1)]),
    "zoned": pl.Series([MOMENT, MOMENT + dt.timedelta(hours=1)]).dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Zurich"),
    "time": pl.Series([dt.time(1), dt.time(23, 59)]),
    "duration": pl.Series([dt.timedelta(1), dt.timedelta(-1)]),
    "decimal": pl.Series([Decimal("1.10"), Decimal("-1.10")]),
    "category": pl.Series(["b", "a", "🎉"], dtype=pl.Categorical),
    "binary": pl.Series([b"\x00", b"\xff", b""]),
}


@pytest.mark.parametrize("name", IDS)
def test_ids_of_every_type_name_their_rows(tmp_path: Path, name: str) -> None:
    """The result has them as they are, in the order of the dataset."""
    pl.DataFrame({"key": IDS[name]}).write_parquet(tmp_path / "ids.parquet")
    result = ran(tmp_path, batchrun.Dataset(path=str(tmp_path / "ids.parquet"), id="key"), ())
    assert result["source_item_id"].to_pylist() == IDS[name].to_list()


@pytest.mark.parametrize("values", [[[1], [2]], [{"a": 1}, {"a": 2}], [None, 1], [1, 1]], ids=["list", "struct", "null", "twice"])
def test_what_names_no_row_is_refused(tmp_path: Path, values: list[Any]) -> None:
    """A list, nothing, or the same twice is no id; the message names the column."""
    pl.DataFrame({"key": values}).write_parquet(tmp_path / "ids.parquet")
    with pytest.raises(batchrun.JobError, match=r'dataset\.id: "key" is'):
        ran(tmp_path, batchrun.Dataset(path=str(tmp_path / "ids.parquet"), id="key"), ())


TEXT_FILES: dict[str, tuple[bytes, dict[str, Any], list[Any]]] = {
    "BOM": (b'\xef\xbb\xbfkey,text\n1,"a"\n', {}, ["a"]),
    "CRLF": (b"key,text\r\n1,a\r\n2,b\r\n", {}, ["a", "b"]),
    "only CR inside": (b'key,text\n1,"a\rb"\n', {}, ["a\rb"]),
    "quoted newlines": (b'key,text\r\n1,"a\r\nb"\r\n2,"c\n\n""d"""\r\n', {}, ["a\r\nb", 'c\n\n"d"']),
    "no newline at the end": (b"key,text\n1,a", {}, ["a"]),
    "latin-1": ("key,text\n1,é\xa0ß\n".encode("latin-1"), {"encoding": "latin-1"}, ["é\xa0ß"]),
    "utf-16": ("key,text\n1,é🎉\n".encode("utf-16"), {"encoding": "utf-16"}, ["é🎉"]),
    "emoji and control characters": (f'key,text\n1,"{ODD_TEXTS[0]}"\n2,"{ODD_TEXTS[1]}"\n'.encode(), {}, ODD_TEXTS[:2]),
    "100,000 characters": (f"key,text\n1,{'é' * 100_000}\n".encode(), {}, ["é" * 100_000]),
    "semicolons": (b"key;text\n1;a,b\n", {"delimiter": ";"}, ["a,b"]),
    "no rows": (b"key,text\n", {}, []),
}


@pytest.mark.parametrize("name", TEXT_FILES)
def test_csv_files_of_every_kind(tmp_path: Path, name: str) -> None:
    """The cells are those that were meant, and what is around them never gets in."""
    content, form, texts = TEXT_FILES[name]
    (tmp_path / "t.csv").write_bytes(content)
    dataset = batchrun.Dataset(path=str(tmp_path / "t.csv"), id="key", schema={"key": "int64"}, csv=batchrun.CsvFormat(**form))
    result = ran(tmp_path, dataset, ("text",))
    assert result["text"].to_pylist() == texts
    assert [json.loads(output)["text"] for output in result["output"].to_pylist()] == texts


@pytest.mark.parametrize("suffix", ["csv", "ndjson", "parquet"])
def test_texts_of_every_kind_pass_through_every_format(tmp_path: Path, suffix: str) -> None:
    """From the file through the workflow into the result and its copies; no character is lost or added."""
    frame, path = pl.DataFrame({"key": range(len(ODD_TEXTS)), "text": ODD_TEXTS}), tmp_path / f"t.{suffix}"
    write: dict[str, Callable[[Path], Any]] = {"csv": frame.write_csv, "ndjson": frame.write_ndjson, "parquet": frame.write_parquet}
    write[suffix](path)
    dataset = batchrun.Dataset(path=str(path), id="key", csv=batchrun.CsvFormat(null_values=()))
    result = ran(tmp_path, dataset, ("text",))
    assert result["text"].to_pylist() == ODD_TEXTS
    assert [json.loads(output)["text"] for output in result["output"].to_pylist()] == ODD_TEXTS


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_thousand_columns(tmp_path: Path, suffix: str) -> None:
    """All of them can be read and copied."""
    frame = pl.DataFrame({f"c{at}": [at, -at] for at in range(1000)})
    frame.write_csv(tmp_path / "t.csv") if suffix == "csv" else frame.write_parquet(tmp_path / "t.parquet")
    result = ran(tmp_path, batchrun.Dataset(path=str(tmp_path / f"t.{suffix}")), tuple(frame.columns))
    assert result.select(frame.columns).to_pylist() == frame.to_dicts()
    assert [json.loads(output) for output in result["output"].to_pylist()] == frame.to_dicts()


def written(folder: Path, suffix: str, files: dict[str, pl.DataFrame]) -> str:
    """A folder of files of one format."""
    folder.mkdir()
    for name, frame in files.items():
        path = folder / f"{name}.{suffix}"
        {"csv": frame.write_csv, "ndjson": frame.write_ndjson, "arrow": frame.write_ipc, "parquet": frame.write_parquet}[suffix](path)
    return str(folder)


@pytest.mark.parametrize("suffix", ["csv", "ndjson", "arrow", "parquet"])
def test_files_without_rows(tmp_path: Path, suffix: str) -> None:
    """Alone they are a dataset of nothing, among others they add nothing."""
    frame = pl.DataFrame({"key": [1, 2], "text": ["a", "b"]})
    path = written(tmp_path / "data", suffix, {"a": frame.clear(), "b": frame, "c": frame.clear()})
    assert ran(tmp_path, batchrun.Dataset(path=path, id="key"), ("text",))["text"].to_pylist() == ["a", "b"]
    if suffix != "ndjson":  # which says nothing about columns without rows
        alone = f"{path}/a.{suffix}"
        assert ran(tmp_path, batchrun.Dataset(path=alone, id="key"), ("text",)).num_rows == 0


@pytest.mark.parametrize("suffix", ["csv", "arrow", "parquet"])
def test_files_with_other_columns_are_reported_or_brought_together(tmp_path: Path, suffix: str) -> None:
    """Which file differs, how, and what to do about it is said; schema_mode: union has all columns, and null where there are none."""
    january = pl.DataFrame({"key": [1, 2], "text": ["a", "b"], "old": [1.5, 2.5]})
    february = pl.DataFrame({"note": ["🎉"], "key": [3], "text": ["c"]})
    path = written(tmp_path / "data", suffix, {"1-january": january, "2-february": february})
    with pytest.raises(batchrun.JobError, match=r"2-february.*schema_mode: union") as refused:
        ran(tmp_path, batchrun.Dataset(path=path, id="key"), ())
    assert '"note"' in str(refused.value) or "'note'" in str(refused.value)
    dataset = batchrun.Dataset(path=path, id="key", schema_mode="union", filter="key <> 2 AND (old > 1 OR note IS NOT NULL)")
    result = ran(tmp_path, dataset, ("old", "note"))
    assert result.select(["source_item_id", "item_index", "old", "note"]).to_pylist() == [
        {"source_item_id": 1, "item_index": 0, "old": 1.5, "note": None},
        {"source_item_id": 3, "item_index": 2, "old": None, "note": "🎉"},
    ]
    assert json.loads(result["output"][1].as_py()) == {"key": 3, "text": "c", "old": None, "note": "🎉"}


def test_late_keys_of_later_files_are_columns_of_a_union(tmp_path: Path) -> None:
    """NDJSON is looked at from its beginning; with union, at the beginning of each file."""
    many, late = pl.DataFrame({"key": range(25_000)}), pl.DataFrame({"key": [-1], "late": [[7]]})
    path = written(tmp_path / "data", "ndjson", {"a": many, "b": late})
    with pytest.raises(batchrun.JobError, match='the key "late" is in none of the first rows'):
        ran(tmp_path, batchrun.Dataset(path=path, id="key"), ())
    dataset = batchrun.Dataset(path=path, id="key", schema_mode="union", filter="key < 2")
    assert ran(tmp_path, dataset, ("late",))["late"].to_pylist() == [None, None, [7]]


def test_a_version_of_a_dataset_remembers_how_its_files_go_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs a job on it need not know that its files differ."""
    monkeypatch.setenv("BATCHRUN_HOME", str(tmp_path / "home"))
    frames = {"a": pl.DataFrame({"key": [1]}), "b": pl.DataFrame({"key": [2], "text": ["x"]})}
    path = written(tmp_path / "data", "parquet", frames)
    with batchrun.Client() as client:
        client.datasets.add("months", batchrun.Dataset(path=path, schema_mode="union"), copy=True)
    assert ran(tmp_path, batchrun.Dataset(name="months", id="key"), ("text",))["text"].to_pylist() == [None, "x"]
