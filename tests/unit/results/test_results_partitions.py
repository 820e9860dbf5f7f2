"""Copies in partitions, and CSV without formulas."""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchrun.core.errors import ExecutionError, JobError
from batchrun.core.output import Export
from batchrun.results import ResultLayout, ResultWriter, export_results
from batchrun.results.partitions import write_partitions

ODD = ["", " a", "a/b", "..", ".", "é", "a=b", "%41", "null", None, "007", "a\nb", "😀"]


def result_of(folder: Path, **kept: list[Any]) -> Path:
    """A result whose rows have these columns."""
    count = len(next(iter(kept.values())))
    columns = {"source_item_id": list(range(count)), "item_index": list(range(count)), **kept}
    batch = pa.record_batch(columns)
    writer = ResultWriter(folder, ResultLayout(window_schema=batch.schema, nodes=()))
    if count:
        writer.put_rest(batch, range(count), "cancelled")
    writer.finish({}, count)
    return folder


def partitioned(folder: Path, *by: str) -> pl.DataFrame:
    (path,) = export_results(folder, [Export(type="parquet", partition_by=by)])
    schema = dict.fromkeys(by, pl.String)
    return pl.read_parquet(f"{path}/**/*.parquet", hive_partitioning=True, hive_schema=schema).sort("item_index")


def test_values_name_folders_and_come_back(tmp_path: Path) -> None:
    """Odd values neither leave the folder nor get mixed up, and readers of such folders give them back."""
    folder = result_of(tmp_path, word=ODD, day=[date(2026, 1, 1)] * len(ODD))
    found = partitioned(folder, "word", "status")
    assert found["word"].to_list() == ODD
    assert set(found["status"]) == {"cancelled"}
    assert found["day"].to_list() == [date(2026, 1, 1)] * len(ODD)
    assert {path.name for path in tmp_path.iterdir()} == {"results.parquet", "partitions"}
    assert pq.read_table(tmp_path / "partitions", partitioning="hive").num_rows == len(ODD)
    assert partitioned(folder, "day")["day"].to_list() == ["2026-01-01"] * len(ODD)  # takes the place of the earlier copy


@given(words=st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20), min_size=1))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_names_a_folder(tmp_path: Path, words: list[str | None]) -> None:
    """Whatever people wrote into the column, each row is there once, with its value."""
    rows = pa.record_batch({"word": pa.array(words, pa.string()), "at": list(range(len(words)))})
    folder = write_partitions(tmp_path / "copy", iter([rows, rows.slice(0, 0)]), ["word"])
    found = pl.read_parquet(f"{folder}/**/*.parquet", hive_partitioning=True, hive_schema={"word": pl.String}).sort("at")
    assert (found["word"].to_list(), found["at"].to_list()) == (words, list(range(len(words))))


def test_other_files_are_never_replaced(tmp_path: Path) -> None:
    """Somebody may have a folder of this name where the copy is to go."""
    folder = result_of(tmp_path, word=["a"])
    (tmp_path / "partitions").mkdir()
    (tmp_path / "partitions/thesis.txt").write_text("years of work")
    with pytest.raises(ExecutionError, match=r"thesis\.txt is no file of such a copy"):
        partitioned(folder, "word")
    assert [path.name for path in (tmp_path / "partitions").iterdir()] == ["thesis.txt"]


def test_what_cannot_be_written_leaves_the_earlier_copy(tmp_path: Path) -> None:
    """A copy is replaced when the next one is complete, and not before."""
    folder = result_of(tmp_path, word=["a", "b" * 300])
    partitioned(folder, "status")
    with pytest.raises(ExecutionError, match="File name too long"):
        partitioned(folder, "word")
    assert [path.name for path in (tmp_path / "partitions").iterdir()] == ["status=cancelled"]
    assert {path.name for path in tmp_path.iterdir()} == {"results.parquet", "partitions"}
    with pytest.raises(JobError, match='unknown column "wrod" to partition by; did you mean "word"'):
        partitioned(folder, "wrod")


def test_many_folders_need_few_open_files(tmp_path: Path) -> None:
    """A thousand values are a thousand folders, each with one file, also when rows come mixed."""
    rows = pa.record_batch({"key": [at % 1000 for at in range(20_000)], "text": ["x" * 5000] * 20_000})
    folder = write_partitions(tmp_path / "copy", (rows.slice(at, 500) for at in range(0, 20_000, 500)), ["key"])
    found = pl.scan_parquet(f"{folder}/**/*.parquet", hive_partitioning=True).group_by("key").len().collect()
    assert (found.height, found["len"].unique().to_list()) == (1000, [20])


def test_no_rows_are_a_folder_without_files(tmp_path: Path) -> None:
    """An empty result is no failure."""
    (path,) = export_results(result_of(tmp_path, word=[]), [Export(type="parquet", partition_by=("word",))])
    assert list(path.iterdir()) == []


def test_spreadsheets_take_no_text_for_a_formula(tmp_path: Path) -> None:
    """Whoever opens the file runs nothing that a row brought along; numbers stay numbers."""
    words = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx", "\uff1d1", "a=1", "", None, "'=1"]
    kept = {"=word": words, "number": [-1.5] * len(words), "nested": [["=1"]] * len(words)}
    folder = result_of(tmp_path, **kept)
    (path,) = export_results(folder, [Export(type="csv", escape_formulas=True)])
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["'=word"] for row in rows] == [*(f"'{word}" for word in words[:8]), "a=1", "", "", "'=1"]
    assert (rows[0]["number"], rows[0]["nested"]) == ("-1.5", '["=1"]')
    (path,) = export_results(folder, ["csv"])
    with path.open(newline="", encoding="utf-8") as file:
        assert [row["=word"] for row in csv.DictReader(file)] == [word or "" for word in words]
