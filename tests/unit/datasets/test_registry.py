"""What is written down about a version: fingerprint, statistics and copies."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from batchrun.core.dataset_versions import Column, Content, VersionFile
from batchrun.core.errors import JobError
from batchrun.core.job import CsvFormat, Dataset
from batchrun.datasets import DataFile, describe, head, object_of, open_source, snapshot
from batchrun.datasets.digests import digests_of

Describe = Callable[..., Content]
PIECE_BYTES = 64 * 2**20


@pytest.fixture
def described(tmp_path: Path) -> Describe:
    def run(path: str, **options: object) -> Content:
        return describe(open_source(Dataset(path=path, **options), tmp_path), tmp_path / "_spool")

    return run


def test_statistics_of_every_type_are_values_that_json_has(tmp_path: Path, described: Describe) -> None:
    """Null counts are exact, smallest and largest values readable; values without an order have none."""
    frame = pl.DataFrame(
        {
            "whole": [3, None, -7],
            "float": [1.5, float("nan"), None],
            "endless": [float("inf"), 1.0, 2.0],
            "yes": [True, False, None],
            "text": ["ä" * 200, "", "zebra"],
            "day": [date(2026, 11, 1), None, date(1, 1, 1)],
            "time": [datetime(2026, 11, 1, 9, 30, tzinfo=UTC), None, None],
            "price": [Decimal("10.50"), Decimal("9.99"), None],
            "kind": pl.Series(["b", "a", None], dtype=pl.Categorical),
            "list": [[1], None, []],
            "bytes": [b"x", None, b""],
            "nothing": [None, None, None],
            "": [1, 2, 3],
        }
    )
    frame.write_parquet(tmp_path / "odd.parquet")
    found = {column.name: column for column in described("odd.parquet").columns}
    assert found["whole"] == Column("whole", "int64", 1, -7, 3)
    assert found["float"] == Column("float", "float64", 1, 1.5, 1.5)
    assert found["endless"] == Column("endless", "float64", 0, 1.0, None)
    assert found["yes"][2:] == (1, False, True)
    assert found["text"][2:] == (0, "", "ä" * 100 + "…")
    assert found["day"][2:] == (1, "0001-01-01", "2026-11-01")
    assert found["time"].min.startswith("2026-11-01 09:30:00") and found["time"].null_count == 2
    assert found["price"][2:] == (1, "9.99", "10.50")
    assert found["kind"][2:] == (1, "a", "b")
    assert [found[name][2:] for name in ("list", "bytes", "nothing", "")] == [(1, None, None), (1, None, None), (3, None, None), (0, 1, 3)]


def test_statistics_are_those_of_all_files_and_row_groups(tmp_path: Path, described: Describe) -> None:
    """What is held of each part is put together without a mistake, also of more parts than are held at once."""
    folder = tmp_path / "parts"
    for part in range(90):
        (folder / f"day={part:02}").mkdir(parents=True)
        pl.DataFrame({"x": [part, None, 1000 - part]}).write_parquet(folder / f"day={part:02}" / "rows.parquet", row_group_size=1)
    content = described("parts")
    assert content.row_count == 270 and content.format == "parquet" and len(content.files) == 90
    assert content.columns == (Column("x", "int64", 90, 0, 1000), Column("day", "string", 0, "00", "89"))


@pytest.mark.parametrize(
    ("name", "text", "options"),
    [
        ("t.csv", "a;b\n1;x\n2;\n", {"csv": CsvFormat(delimiter=";")}),
        ("t.ndjson", '{"a": 1, "b": "x"}\n{"a": 2, "b": null}\n', {}),
    ],
)
def test_text_files_are_described_like_tables(
    tmp_path: Path, described: Describe, name: str, text: str, options: dict[str, object]
) -> None:
    """The columns are those that a job will read."""
    (tmp_path / name).write_text(text)
    content = described(name, **options)
    assert content.row_count == 2
    assert content.columns == (Column("a", "int64", 0, 1, 2), Column("b", "string", 1, "x", "x"))
    assert head(open_source(Dataset(path=name, **options), tmp_path), 1, tmp_path / "_head") == [{"a": 1, "b": "x"}]


def test_a_dataset_without_rows_is_described(tmp_path: Path, described: Describe) -> None:
    """An empty delivery is a version like any other."""
    pl.DataFrame({"a": []}, schema={"a": pl.Int64}).write_parquet(tmp_path / "none.parquet")
    content = described("none.parquet")
    assert (content.row_count, content.columns) == (0, (Column("a", "int64", 0, None, None),))


def test_digests_tell_any_byte_of_large_files(tmp_path: Path) -> None:
    """Parts of a file are read in parallel, and a change in the last byte of any of them is seen."""
    path = tmp_path / "large"
    size = 2 * PIECE_BYTES + 5
    with path.open("wb") as file:
        file.truncate(size)
    file = DataFile(path=path, relative="large", size_bytes=size)
    seen = {digests_of([file])}
    for at in (0, PIECE_BYTES - 1, PIECE_BYTES, size - 1):
        with path.open("r+b") as raw:
            raw.seek(at)
            raw.write(b"\1")
        seen.add(digests_of([file]))
    assert len(seen) == 5


def test_a_file_that_changes_its_size_is_not_digested(tmp_path: Path) -> None:
    """A file that is still being written gets no fingerprint that means nothing."""
    path = tmp_path / "t.csv"
    path.write_text("a\n1\n")
    for size in (3, 5):
        with pytest.raises(JobError, match=r"t\.csv changes while it is read"):
            digests_of([DataFile(path=path, relative="t.csv", size_bytes=size)])


def test_snapshots_are_copies_that_later_changes_do_not_reach(tmp_path: Path) -> None:
    """Neither writing into the source nor replacing it changes the copy; it cannot be written to by accident."""
    source, objects, workspace = tmp_path / "t.csv.gz", tmp_path / "objects", tmp_path / "work"
    source.write_bytes(b"abc")
    workspace.mkdir()
    (copy,) = snapshot([DataFile(path=source, relative="x=1/T.csv.gz", size_bytes=3)], objects, workspace)
    with source.open("r+b") as file:
        file.write(b"xyz")
    assert copy.path.read_bytes() == b"abc" and copy.relative == "x=1/T.csv.gz"
    assert copy.path == object_of(objects, VersionFile("x=1/T.csv.gz", 3, digests_of([copy])[0])) and copy.path.name.endswith(".csv.gz")
    status = copy.path.stat()
    assert (status.st_nlink, status.st_mode & 0o777, list(workspace.iterdir())) == (1, 0o400, [])


def test_equal_files_are_kept_once_and_damaged_copies_are_made_anew(tmp_path: Path) -> None:
    """Content names the copy; one that is damaged is not trusted."""
    objects, workspace = tmp_path / "objects", tmp_path / "work"
    workspace.mkdir()
    files = []
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_bytes(b"same")
        files.append(DataFile(path=tmp_path / name, relative=name, size_bytes=4))
    one, other = snapshot(files, objects, workspace)
    assert one.path == other.path
    inode = one.path.stat().st_ino
    assert snapshot(files, objects, workspace)[0].path.stat().st_ino == inode
    for damage in (b"sa", b"samE"):
        one.path.chmod(0o600)
        one.path.write_bytes(damage)
        assert snapshot(files, objects, workspace)[0].path.read_bytes() == b"same"
