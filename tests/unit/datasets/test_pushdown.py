"""What a plan says that a scan need not read, and whether it is true."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from batchrun.core.errors import JobError
from batchrun.core.job import Dataset
from batchrun.core.plans import Pushdown
from batchrun.datasets.sampling import chosen
from batchrun.datasets.source import open_source

ROWS = pl.DataFrame(
    {
        "n": range(1_000),
        "text": [f"x{number:04}" for number in range(1_000)],
        "day": [dt.date(2026, 1, 1) + dt.timedelta(days=number) for number in range(1_000)],
        "part": [{"a": number} for number in range(1_000)],
    }
)


def pushdown(folder: Path, condition: str | None, path: str = "a.parquet", **options: Any) -> Pushdown:
    return open_source(Dataset(path=path, filter=condition, **options), folder).pushdown(["text"], [])


@pytest.mark.parametrize(
    ("condition", "skipped"),
    [
        (None, 0),
        ("n > 950", 9),
        ("950 < n", 9),
        ("n >= 900 AND n <= 899", 10),
        ("n BETWEEN 250 AND 260", 9),
        ("text = 'x0123'", 9),
        ("day < DATE '2026-02-01'", 9),
        ("n > 950 OR n < 10", 0),
        ("n % 2 = 1", 0),
        ("part.a > 950", 0),
    ],
)
def test_row_groups_are_counted_that_statistics_rule_out(tmp_path: Path, condition: str | None, skipped: int) -> None:
    """Only simple comparisons are counted: a plan says less than polars does rather than more."""
    ROWS.write_parquet(tmp_path / "a.parquet", row_group_size=100)
    found = pushdown(tmp_path, condition)
    assert (found.row_groups, found.skipped_row_groups) == (10, skipped)


def test_a_row_group_that_is_said_to_be_skipped_is_not_decoded(tmp_path: Path) -> None:
    """The proof: its pages are damaged, and nobody notices; with another filter it is noticed."""
    path = tmp_path / "a.parquet"
    ROWS.drop("part").write_parquet(path, row_group_size=100, compression="zstd")
    content = bytearray(path.read_bytes())
    for group in range(9):
        for column in range(3):
            chunk = pq.read_metadata(path).row_group(group).column(column)
            start = chunk.dictionary_page_offset or chunk.data_page_offset
            content[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(content)

    def items(condition: str, skipped: int) -> list[int]:
        source = open_source(Dataset(path="a.parquet", filter=condition), tmp_path)
        assert source.pushdown(["text"], []).skipped_row_groups == skipped
        loaded = source.load(["text"], [], spool=tmp_path / "spool", rejects=tmp_path / "rejects")
        return [item.item_index for window in loaded.windows() for item in window]

    assert items("n > 950", 9) == list(range(951, 1_000))
    with pytest.raises(JobError, match=r"a\.parquet cannot be read"):
        items("n > 850", 8)


def test_each_part_of_the_filter_says_where_it_is_applied(tmp_path: Path) -> None:
    """Folders are decided by their names, what is computed in the scan goes into the scan too."""
    for year in (1, 2):
        (tmp_path / f"p/year={year}").mkdir(parents=True)
        ROWS.write_parquet(tmp_path / f"p/year={year}/a.parquet", row_group_size=100)
    found = pushdown(tmp_path, "year = 1 AND n > 950 AND double > 3", "p", with_columns={"double": "n * 2"})
    assert [(part.text, part.where) for part in found.filter] == [
        ('col("year") == 1', "folders"),
        ('col("n") > 950', "scan"),
        ('col("double") > 3', "scan"),
    ]
    assert (found.files, found.skipped_files, found.row_groups, found.skipped_row_groups) == (2, 1, 10, 9)
    assert set(found.columns) == {"text", "n"}


def test_files_that_are_copied_first_have_no_row_groups(tmp_path: Path) -> None:
    """Of a CSV file all rows are read once."""
    ROWS.drop("part").write_csv(tmp_path / "a.csv")
    found = pushdown(tmp_path, "n > 950", "a.csv")
    assert (found.row_groups, found.skipped_row_groups, [part.where for part in found.filter]) == (None, 0, ["scan"])


def test_a_sample_is_the_same_everywhere_and_never_too_large() -> None:
    """Seeds are promises: another one chooses others, more items than there are choose all."""
    assert chosen(1_000, 3, seed=7) == [304, 321, 543]
    assert chosen(1_000, 3, seed=8) != [304, 321, 543]
    assert chosen(2, 3, seed=7) == [0, 1]
    assert chosen(0, 3, seed=7) == chosen(5, 0, seed=7) == []
    many = chosen(3_000_000, 10, seed=1)
    assert len(set(many)) == 10 and max(many) > 2**20
