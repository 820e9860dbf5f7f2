"""Going on with a dataset of which some items are done."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.core.errors import ExecutionError
from batchrun.core.items import Item
from batchrun.core.job import Sample
from batchrun.datasets import Loaded

ROWS = 12_000


def write(path: Path, *, width: int = 0) -> None:
    """A file of 12 row groups; each `body` has `width` characters. With 5,000, three row groups are read at a time."""
    table = pa.table({"k": range(ROWS), "odd": [at % 2 for at in range(ROWS)], "body": [f"{at:0{width}}" for at in range(ROWS)]})
    pq.write_table(table, path, row_group_size=1_000, use_dictionary=False)


def damage(path: Path, groups: range) -> None:
    """Overwrite `body` in some row groups, so that reading it there fails."""
    with path.open("r+b") as file:
        metadata = pq.read_metadata(path)
        for group in groups:
            body = metadata.row_group(group).column(2)
            file.seek(body.data_page_offset)
            file.write(b"\xff" * body.total_compressed_size)


def marks(total: int, *ordinals: int) -> bytearray:
    wanted = bytearray(total)
    for ordinal in ordinals:
        wanted[ordinal] = 1
    return wanted


def handed_out(loaded: Loaded, wanted: bytearray) -> list[Item]:
    return [item for window in loaded.windows(wanted) for item in window]


@pytest.mark.parametrize(
    ("where", "ordinals", "unread"),
    [
        (None, (11_999,), range(9)),
        (None, (0, 5_500, 5_501), range(6, 12)),
        (None, (2_999, 9_000), range(3, 9)),
        ("odd = 1", (4_500, 5_999), range(9)),
        ("odd = 1", (0, 1_499), range(3, 12)),
    ],
)
def test_stretches_without_a_wanted_item_are_not_read(
    tmp_path: Path, load: Any, where: str | None, ordinals: tuple[int, ...], unread: range
) -> None:
    """The price of a resume is that of what is left: damage in stretches that are done is not even seen."""
    path = tmp_path / "t.parquet"
    write(path, width=5_000)
    loaded = load("t.parquet", keep=["k", "body"], filter=where)
    damage(path, unread)
    wanted = marks(loaded.total_items, *ordinals)
    expected = [ordinal if where is None else 2 * ordinal + 1 for ordinal in ordinals]
    assert [item.data["k"] for item in handed_out(loaded, wanted)] == expected
    assert [k for _, columns in loaded.rest(wanted) for k in columns["k"].to_pylist()] == expected
    with pytest.raises(ExecutionError, match="reading the dataset failed"):
        handed_out(loaded, bytearray(b"\1" * loaded.total_items))


@pytest.mark.parametrize(("where", "first", "step"), [("odd = 1", 1, 2), ("k >= 10000", 10_000, 1), ("k < 3 OR k = 11999", 0, None)])
def test_ordinals_go_on_from_piece_to_piece(tmp_path: Path, load: Any, where: str, first: int, step: int | None) -> None:
    """The items are counted in large blocks and read in smaller pieces, some of which may hold none."""
    write(tmp_path / "t.parquet", width=5_000)
    loaded = load("t.parquet", keep=["k", "body"], filter=where)
    expected = list(enumerate([0, 1, 2, 11_999] if step is None else range(first, ROWS, step)))
    assert [(item.ordinal, item.item_index) for window in loaded.windows() for item in window] == expected
    rest = list(loaded.rest(bytearray(b"\1" * loaded.total_items)))
    assert [at for ordinals, rows in rest for at in zip(ordinals.to_pylist(), rows["item_index"].to_pylist(), strict=True)] == expected
    assert all(rows.num_rows for _, rows in rest)


def test_row_groups_without_an_item_are_not_read(tmp_path: Path, load: Any) -> None:
    """What was found out while counting saves reading, also where no statistics could have told."""
    path = tmp_path / "t.parquet"
    write(path, width=5_000)
    loaded = load("t.parquet", keep=["body"], filter="(k * 7) % 12000 IN (35, 77007 % 12000)")
    damage(path, range(1, 11))
    assert [(item.ordinal, item.item_index) for window in loaded.windows() for item in window] == [(0, 5), (1, 11_001)]


def test_computed_columns_see_only_rows_that_are_kept(tmp_path: Path, load: Any) -> None:
    """An expression that fails on a row which the filter leaves out does not fail the dataset."""
    write(tmp_path / "t.parquet")
    loaded = load("t.parquet", with_columns={"part": "CAST(CASE WHEN odd = 1 THEN 'no number' ELSE body END AS INT)"}, filter="odd = 0")
    assert [item.data["part"] for window in loaded.windows() for item in window] == list(range(0, ROWS, 2))


def test_items_may_be_left_unread(tmp_path: Path, load: Any) -> None:
    """The next rows are read while some are used; whoever stops in between leaves no thread at work."""
    write(tmp_path / "t.parquet", width=5_000)
    windows = load("t.parquet").windows()
    assert next(windows)[0].ordinal == 0
    assert any(thread.name.startswith("batchrun-read-ahead") for thread in threading.enumerate())
    windows.close()
    assert not any(thread.name.startswith("batchrun-read-ahead") for thread in threading.enumerate())


def test_nothing_wanted_reads_nothing(tmp_path: Path, load: Any) -> None:
    """Resuming what is done must not even need the files."""
    write(tmp_path / "t.parquet")
    loaded = load("t.parquet", filter="odd = 1")
    (tmp_path / "t.parquet").unlink()
    assert list(loaded.windows(bytearray(loaded.total_items))) == list(loaded.rest(bytearray(loaded.total_items))) == []


def test_lists_stay_small_whatever_is_wanted(tmp_path: Path, load: Any) -> None:
    """Memory is bounded on a resume, too: neither a list of items nor a stretch of rows grows with the dataset."""
    pl.DataFrame({"k": range(400_000)}).write_parquet(tmp_path / "t.parquet")
    loaded = load("t.parquet")
    wanted = bytearray(b"\1\0" * 200_000)
    windows = list(loaded.windows(wanted))
    assert [item.ordinal for window in windows for item in window] == list(range(0, 400_000, 2))
    assert max(map(len, windows)) <= 2_048
    sizes = [columns.num_rows for _, columns in loaded.rest(bytearray(b"\1" * 400_000))]
    assert sum(sizes) == 400_000
    assert max(sizes) <= 131_072


def test_a_large_row_group_is_entered_in_the_middle(tmp_path: Path, load: Any) -> None:
    """Row groups that are decoded batch by batch keep count of the batches that are left out."""
    bodies = [bytes([at % 251]) * 7 + at.to_bytes(3, "big") * 23_000 for at in range(1000)]
    pq.write_table(pa.table({"body": pa.array(bodies), "at": range(1000)}), tmp_path / "t.parquet", use_dictionary=False)
    loaded = load("t.parquet", keep=["at"])
    wanted = marks(1000, 700, 701, 999)
    items = handed_out(loaded, wanted)
    assert [(item.ordinal, item.item_index, item.data["at"]) for item in items] == [(700, 700, 700), (701, 701, 701), (999, 999, 999)]
    assert all(item.data["body"] == bodies[item.item_index] for item in items)


def test_the_selection_is_known_by_the_rows_and_by_nothing_else(tmp_path: Path, load: Any) -> None:
    """A filter that selects other rows than before is noticed even when they are as many, in the same row groups."""
    write(tmp_path / "t.parquet")
    even, odd = load("t.parquet", filter="odd = 0"), load("t.parquet", filter="odd = 1")
    assert even.total_items == odd.total_items
    same = [load("t.parquet", filter="odd = 1", read=["k"]), load("t.parquet", filter="k % 2 = 1", id="k")]
    assert {odd.selection} == {loaded.selection for loaded in same}
    assert load("t.parquet", filter="odd = 1", limit=5).selection == load("t.parquet", filter="odd = 1 AND k < 10").selection
    others = [
        load("t.parquet"),
        load("t.parquet", limit=5),
        load("t.parquet", limit=6),
        load("t.parquet", filter="odd = 1", limit=5),
        load("t.parquet", filter="odd = 2"),
        load("t.parquet", sample=Sample(n=6_000, seed=1)),
        load("t.parquet", sample=Sample(n=6_000, seed=2)),
    ]
    assert len({loaded.selection for loaded in (even, odd, *others)}) == 2 + len(others)


def test_a_filter_with_the_date_is_another_selection_on_another_day(tmp_path: Path, load: Any) -> None:
    """The job and the files are the same, yet ordinals mean other rows."""
    write(tmp_path / "t.parquet")
    today, tomorrow = (f"k % 2 = CASE WHEN CURRENT_DATE >= DATE '{day}' THEN 1 ELSE 0 END" for day in ("2000-01-01", "2999-01-01"))
    assert load("t.parquet", filter=today).selection != load("t.parquet", filter=tomorrow).selection
