"""Delta tables as datasets: a version is read as it was, and no file more than the filter needs."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from batchrun.core.errors import JobError
from batchrun.core.job import Dataset
from batchrun.datasets import Loaded, is_delta, open_source, table_version
from tests.unit.datasets.conftest import Load, Refusal

DAY = dt.datetime(2026, 1, 1)


def commit(folder: Path, first: int, **columns: Any) -> None:
    """Append 100 rows: 50 in English, 50 in German."""
    frame = pl.DataFrame({"id": range(first, first + 100), "lang": ["en", "de ü/%"] * 50, "at": [DAY] * 100, **columns})
    write_deltalake(str(folder), frame, partition_by=["lang"], mode="append", schema_mode="merge")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three versions with 100, 200 and 300 rows in 2, 4 and 6 files; the column `score` came with version 1."""
    commit(tmp_path / "table", 0)
    commit(tmp_path / "table", 100, score=[0.5] * 100)
    commit(tmp_path / "table", 200, score=[1.5] * 99 + [float("nan")])
    return tmp_path / "table"


def ids(loaded: Loaded) -> list[int]:
    return sorted(item.data["id"] for window in loaded.windows() for item in window)


@pytest.mark.parametrize(("version", "rows"), [(None, 300), (0, 100), (1, 200), ("2", 300)])
def test_a_version_is_read_as_it_was(table: Path, load: Load, version: int | str | None, rows: int) -> None:
    """Later commits change nothing about the rows of an earlier version."""
    assert ids(load("table", version=version)) == list(range(rows))


def test_partition_columns_and_columns_added_later_are_columns(table: Path, load: Load) -> None:
    """Files from before a column was added have nulls in it; values of partitions are those of the log, not of encoded names."""
    items = {item.data["id"]: item.data for window in load("table").windows() for item in window}
    assert items[1] == {"id": 1, "at": DAY, "score": None, "lang": "de ü/%"}
    assert items[100] == {"id": 100, "at": DAY, "score": 0.5, "lang": "en"}
    assert load("table", version=0).source_schema.names == ["id", "at", "lang"]


@pytest.mark.parametrize(
    ("where", "files", "rows"),
    [
        ("id >= 250", 2, 50),
        ("299 <= id", 1, 1),
        ("id = 250 OR id < 2", 4, 3),
        ("id BETWEEN 100 AND 101 AND lang = 'en'", 1, 1),
        ("lang = 'en'", 3, 150),
        ("score < 1", 4, 100),  # files without the column are kept: nothing is known of them
        ("score > 1", 6, 100),  # a NaN is larger than any number, and no statistics tell of it
        ("at > TIMESTAMP '2026-01-01 00:00:00.0005'", 6, 0),  # statistics may be cut to milliseconds
        ("id > 1000", 0, 0),
        ("id + 0 >= 250", 6, 50),  # not known without reading
    ],
)
def test_files_without_a_match_are_not_read(table: Path, load: Load, where: str, files: int, rows: int) -> None:
    """The statistics in the log decide: files that are not needed can be gone."""
    names = {path.name for path in table.rglob("*.parquet")}
    plan = open_source(Dataset(path="table", filter=where), table.parent).pushdown(("id",), ())
    assert plan.files - plan.skipped_files == files
    if files < len(names):
        for path in [path for path in table.rglob("*.parquet") if not _is_needed(table, where, path)]:
            path.unlink()
        assert len(list(table.rglob("*.parquet"))) == files
    assert len(ids(load("table", filter=where, read=["id"]))) == rows


def _is_needed(table: Path, where: str, path: Path) -> bool:
    hidden = path.rename(path.with_suffix(".gone"))
    try:
        open_source(Dataset(path="table", filter=where), table.parent).load(
            ("id",), (), spool=table.parent / "s", rejects=table.parent / "r"
        )
    except JobError as error:
        return path.name in str(error)
    finally:
        hidden.rename(path)
    return False


def test_the_fingerprint_is_that_of_the_version(table: Path) -> None:
    """It tells versions apart, and needs no file."""
    before = open_source(Dataset(path="table", version=1), table.parent).fingerprint
    commit(table, 300)
    for path in table.rglob("*.parquet"):
        path.unlink()
    assert open_source(Dataset(path="table", version=1), table.parent).fingerprint == before
    assert open_source(Dataset(path="table"), table.parent).fingerprint != before


def test_a_time_is_the_newest_version_of_then(table: Path) -> None:
    """Time travel by what is in the log."""
    made = {each["version"]: dt.datetime.fromtimestamp(each["timestamp"] / 1000, dt.UTC) for each in DeltaTable(str(table)).history()}
    just_after = dt.timedelta(microseconds=1)
    dataset = Dataset(path="table", format="delta")
    assert table_version(dataset, table.parent, made[2] + just_after) == 2
    assert table_version(dataset, table.parent, dt.datetime(2100, 1, 1, tzinfo=dt.UTC)) == 2
    with pytest.raises(JobError, match=r"dataset\.version: table has no version of then"):
        table_version(dataset, table.parent, made[0])


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("table", {"version": 9}, "version 9 of table cannot be read any more"),
        ("plain.parquet", {"version": 1}, "dataset.version: is one of a named dataset or of a Delta table, and plain.parquet is neither"),
        ("nothing", {"format": "delta"}, "is not a Delta table that can be read"),
    ],
)
def test_what_is_not_there_is_refused(table: Path, refusal: Refusal, path: str, options: dict[str, Any], message: str) -> None:
    """The message names the table and the version."""
    pl.DataFrame({"a": [1]}).write_parquet(table.parent / "plain.parquet")
    assert message in refusal(path, **options)


def test_a_file_that_is_gone_is_named(table: Path, refusal: Refusal) -> None:
    """After a vacuum an old version cannot be read, and it is said which file is missing."""
    gone = next(iter(table.rglob("*.parquet")))
    gone.unlink()
    assert gone.name in refusal("table", filter="id + 0 > 0")


def test_deletion_vectors_are_refused(table: Path, refusal: Refusal) -> None:
    """Rows that were deleted must not come back as items."""
    log = table / "_delta_log"
    names = ["deletionVectors", "timestampNtz"]
    features = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": names, "writerFeatures": names}
    added = next(line for line in (log / f"{2:020}.json").read_text().splitlines() if '"add"' in line)
    add = json.loads(added)["add"]
    inline = "wi5b=000010000siXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L"  # the example of the protocol: six rows
    add["deletionVector"] = {"storageType": "i", "pathOrInlineDv": inline, "sizeInBytes": 40, "cardinality": 6}
    (log / f"{3:020}.json").write_text("\n".join([json.dumps({"protocol": features}), json.dumps({"add": add})]))
    assert "deletion vectors" in refusal("table")
    assert is_delta(Dataset(path="table"), table.parent)


def test_an_empty_table_has_no_items(tmp_path: Path, load: Load) -> None:
    """A table that was made and not yet written to is a dataset of nothing."""
    DeltaTable.create(str(tmp_path / "table"), schema=pl.DataFrame({"id": [1]}).to_arrow().schema)
    assert load("table").total_items == 0
    assert open_source(Dataset(path="table"), tmp_path).explain(("id",), ())
