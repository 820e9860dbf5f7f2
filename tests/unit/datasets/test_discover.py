"""Finding the files of a dataset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from batchrun.core.job import Dataset
from batchrun.datasets import open_source

FRAME = pl.DataFrame({"a": [1, 2]})
WRITE: dict[str, Callable[[Path], Any]] = {
    "t.parquet": FRAME.write_parquet,
    "t.pq": FRAME.write_parquet,
    "t.csv": FRAME.write_csv,
    "t.ndjson": FRAME.write_ndjson,
    "t.jsonl": FRAME.write_ndjson,
    "t.arrow": FRAME.write_ipc,
    "t.feather": FRAME.write_ipc,
    "t.arrows": FRAME.write_ipc_stream,
}


@pytest.mark.parametrize("name", WRITE)
def test_every_format_yields_the_same_items(tmp_path: Path, load: Any, name: str) -> None:
    """The suffix says how a file is read, whatever its case; what comes out does not depend on it."""
    WRITE[name](tmp_path / name.upper())
    assert [item.data for window in load(name.upper()).windows() for item in window] == [{"a": 1}, {"a": 2}]


def test_files_are_sorted_by_their_relative_path(tmp_path: Path) -> None:
    """item_index depends on this order, and on nothing of the machine; hidden and _ files are not data."""
    for name in ("b.csv", "a/z.csv", "a.csv", ".hidden.csv", "_SUCCESS", "_tmp/c.csv", "a/.cache/d.csv", "readme.md"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        FRAME.write_csv(tmp_path / "data" / name)
    for path in ("data", "data/**/*.csv", "data/[ab]*"):
        files = open_source(Dataset(path=path), tmp_path).files
        assert [file.relative_to(tmp_path / "data").as_posix() for file in files] == ["a.csv", "a/z.csv", "b.csv"]
    (tmp_path / "odd[1].csv").write_text("a\n1\n")
    assert len(open_source(Dataset(path="odd[1].csv"), tmp_path).files) == 1


def test_folders_become_columns(tmp_path: Path, load: Any, refusal: Any) -> None:
    """Partition values are typed over all files, decoded, null where hive says so, and may be declared."""
    for key, name in (("1", "x%20y"), ("10", "__HIVE_DEFAULT_PARTITION__")):
        folder = tmp_path / f"n={key}" / f"name={name}"
        folder.mkdir(parents=True)
        FRAME.write_csv(folder / "t.csv")
    items = [item for window in load(".", keep=["n"], filter="a = 2").windows() for item in window]
    assert [item.data for item in items] == [{"a": 2, "n": 1, "name": "x y"}, {"a": 2, "n": 10, "name": None}]
    assert [item.item_index for item in items] == [1, 3]
    assert 'dataset.schema.name: the folder "name=x y" is not of this type' in refusal(".", schema={"name": "date"})
    [rows] = load(".", schema={"n": "string"}).rows(pa.array([3], pa.int64()))
    assert rows.to_pylist() == [{"item_index": 3, "a": 2, "n": "10", "name": None}]
    FRAME.write_csv(tmp_path / "stray.csv")
    assert "stray.csv is not in folders of the same keys as n=1/name=x%20y/t.csv: [] instead of ['n', 'name']" in refusal(".")


def test_refusals_say_what_is_there_instead(tmp_path: Path, refusal: Any) -> None:
    """Each wrong path has its own message, with the nearest right one where there is one."""
    FRAME.write_parquet(tmp_path / "tickets.parquet")
    assert "does not exist; in " in refusal("tickts.parquet") and 'did you mean "tickets.parquet"?' in refusal("tickts.parquet")
    assert "http://… is not the address of an object store" in refusal("http://host/t.parquet")
    assert "does not exist" in refusal("nowhere/deep/t.parquet")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "note.txt").write_text("x")
    assert "no data files in" in refusal("empty") and "found note.txt" in refusal("empty")
    assert "no data files in" in refusal("*.csv")
    assert "set dataset.format if these are the data" in refusal("empty/note.txt")
    (tmp_path / "zero.csv").write_bytes(b"")
    assert "zero.csv is empty (0 bytes)" in refusal("zero.csv")
    (tmp_path / "fake.parquet").write_text("not parquet at all")
    assert "fake.parquet is not a readable Parquet file" in refusal("fake.parquet")
    content = (tmp_path / "tickets.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(content[: len(content) // 2])
    assert "cut.parquet is not a readable Parquet file, or is cut off" in refusal("cut.parquet")
    (tmp_path / "fake.arrow").write_text("not arrow at all")
    assert "fake.arrow is not a readable Arrow file" in refusal("fake.arrow")


def test_mixed_formats_need_a_choice(tmp_path: Path, load: Any, refusal: Any) -> None:
    """Reading half of a folder silently is worse than asking; dataset.format is the answer."""
    FRAME.write_csv(tmp_path / "a.csv")
    FRAME.write_parquet(tmp_path / "b.parquet")
    assert "files of several formats: 1 csv (a.csv); 1 parquet (b.parquet). Set dataset.format" in refusal(".")
    assert load(".", format="parquet").total_items == 2
    assert "no ndjson files" in refusal(".", format="ndjson")
    FRAME.write_csv(tmp_path / "part-0000")
    assert load("part-*", format="csv").total_items == 2


def test_files_with_other_columns_are_refused(tmp_path: Path, refusal: Any) -> None:
    """A dataset has one schema; the message names the file and the difference."""
    FRAME.write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"a": ["x"], "b": [1]}).write_parquet(tmp_path / "b.parquet")
    assert 'compared with a.parquet, in b.parquet "a" is string instead of int64, "b" is int64 instead of missing' in refusal(".")


def test_columns_no_library_can_hold_are_refused(tmp_path: Path, refusal: Any) -> None:
    """The message names the column, before anything is copied."""
    intervals = pa.table({"a": [1], "i": pa.array([(1, 2, 3)], pa.month_day_nano_interval())})
    with pa.ipc.new_file(tmp_path / "t.arrow", intervals.schema) as writer:
        writer.write_table(intervals)
    assert 'the column "i" is of a type that cannot be read: month_day_nano_interval' in refusal("t.arrow")
    with pa.ipc.new_file(tmp_path / "t.arrow", pa.schema([("a", pa.int64()), ("a", pa.int64())])):
        pass
    assert "has these columns more than once: a" in refusal("t.arrow")
    (tmp_path / "t.ndjson").write_text("{}\n")
    assert "t.ndjson has no columns" in refusal("t.ndjson")


def test_no_rows_are_no_items(tmp_path: Path, load: Any) -> None:
    """An empty dataset is not an error."""
    FRAME.clear().write_parquet(tmp_path / "t.parquet")
    loaded = load("t.parquet", id="a")
    assert loaded.total_items == 0
    assert list(loaded.windows()) == list(loaded.rest(bytearray())) == list(loaded.rows(pa.array([], pa.int64()))) == []
