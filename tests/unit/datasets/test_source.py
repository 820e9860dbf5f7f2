"""Datasets opened, checked and loaded as a job does it."""

from __future__ import annotations

import datetime as dt
import os
import tempfile
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.core.items import Item
from batchrun.core.job import CsvFormat, Dataset, Sample
from batchrun.datasets import Loaded, open_source

FILTERS = {
    "k > 2": pl.col("k") > 2,
    "k IS NULL OR s LIKE 'a%'": pl.col("k").is_null() | pl.col("s").str.starts_with("a"),
    "doubled < 6 AND s IN ('a', 'b')": (pl.col("k") * 2 < 6) & pl.col("s").is_in(["a", "b"]),
    "k = 99": pl.lit(False),
    "1 = 1": pl.lit(True),
}


def mixed(index: int, seed: int) -> int:
    """SplitMix64, written down a second time."""
    bits = 2**64 - 1
    z = ((index + seed + 1) * 0x9E3779B97F4A7C15 + seed * 0xD1B54A32D192ED03) & bits
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & bits
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & bits
    return z ^ (z >> 31)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A dataset of two files and what is asked of it."""

    rows: list[tuple[int | None, str | None]]
    cut: int
    group_rows: int
    suffix: str
    where: str | None
    sample: Sample | None
    limit: int | None
    done: frozenset[int]

    @property
    def frame(self) -> pl.DataFrame:
        """All rows."""
        return pl.DataFrame(self.rows, schema={"k": pl.Int64, "s": pl.String}, orient="row")

    def write(self, folder: Path) -> None:
        """The rows as two files."""
        for number, part in enumerate((self.frame[: self.cut], self.frame[self.cut :])):
            path = folder / f"part-{number}.{self.suffix}"
            if self.suffix == "parquet":
                pq.write_table(part.to_arrow(), path, row_group_size=self.group_rows)
            elif self.suffix == "arrow":
                part.write_ipc(path)
            elif self.suffix == "csv":
                path.write_text(part.write_csv(null_value="NULL"))
            else:
                path.write_text(part.write_ndjson() or "\n")

    @property
    def options(self) -> dict[str, Any]:
        """What the format needs to be told."""
        if self.suffix in ("parquet", "arrow"):
            return {}
        return {"schema": {"k": "int64", "s": "string"}, "csv": CsvFormat(null_values=("NULL",))}

    def load(self, folder: Path) -> Loaded:
        """The dataset, written and loaded."""
        self.write(folder)
        computed = {"doubled": "k * 2"}
        dataset = Dataset(path=".", filter=self.where, with_columns=computed, sample=self.sample, limit=self.limit, **self.options)
        return open_source(dataset, folder).load(["s", "doubled"], ["k"], spool=folder / "_spool", rejects=folder / "_rejects")

    def expected(self) -> list[dict[str, Any]]:
        """The rows that should become items, by way of one frame that holds everything."""
        rows = self.frame.with_row_index("index").with_columns(doubled=pl.col("k") * 2)
        kept = rows.filter(FILTERS[self.where] if self.where else True).to_dicts()
        if self.sample is not None:
            numbers = sorted(mixed(row["index"], self.sample.seed) for row in kept)
            fraction = self.sample.fraction
            chosen = numbers[: self.sample.n] if fraction is None else [number for number in numbers if number < fraction * 2**64]
            kept = [row for row in kept if mixed(row["index"], self.sample.seed) in chosen]
        return kept[: self.limit]


cases = st.builds(
    Case,
    rows=st.lists(st.tuples(st.none() | st.integers(0, 5), st.none() | st.sampled_from(["a", "ab", "b", "é"])), max_size=40),
    cut=st.integers(0, 40),
    group_rows=st.integers(1, 15),
    suffix=st.sampled_from(["parquet", "csv", "ndjson", "arrow"]),
    where=st.none() | st.sampled_from(sorted(FILTERS)),
    sample=st.none() | st.builds(Sample, fraction=st.floats(0, 1), seed=st.integers(-5, 5)) | st.builds(Sample, n=st.integers(0, 50)),
    limit=st.none() | st.integers(0, 45),
    done=st.frozensets(st.integers(0, 45)) | st.builds(lambda count: frozenset(range(count)), st.integers(0, 45)),
)


@settings(max_examples=80, deadline=None)
@given(case=cases)
def test_items_are_what_one_frame_would_give(case: Case) -> None:
    """Windows, files and row groups must never show: same rows, order, positions and values as one big query."""
    with tempfile.TemporaryDirectory() as name:
        loaded, wanted = case.load(Path(name)), case.expected()
        items = [item for window in loaded.windows() for item in window]
        assert loaded.total_items == len(items)
        assert [item.ordinal for item in items] == list(range(len(wanted)))
        assert [(item.item_index, item.id) for item in items] == [(row["index"], row["index"]) for row in wanted]
        assert [item.data for item in items] == [{"s": row["s"], "doubled": row["doubled"]} for row in wanted]
        assert [item.window.columns["k"][item.row].as_py() for item in items] == [row["k"] for row in wanted]
        some = wanted[::3]
        rows = [row for batch in loaded.rows(pa.array([row["index"] for row in some], pa.int64())) for row in batch.to_pylist()]
        assert rows == [{"item_index": row["index"], "k": row["k"], "s": row["s"]} for row in some]


@settings(max_examples=120, deadline=None)
@given(case=cases)
def test_the_items_left_are_those_of_the_whole_list(case: Case) -> None:
    """A resume hands out the very items that are not done, and their rows, as if the others had just been skipped."""
    with tempfile.TemporaryDirectory() as name:
        loaded = case.load(Path(name))
        left = bytearray(ordinal not in case.done for ordinal in range(loaded.total_items))
        everything = [item for window in loaded.windows() for item in window]
        windows = list(loaded.windows(left))
        assert [] not in windows
        expected = [item for item in everything if left[item.ordinal]]
        assert [described(item) for window in windows for item in window] == [described(item) for item in expected]
        rest = list(loaded.rest(left))
        assert [ordinal for ordinals, _ in rest for ordinal in ordinals.to_pylist()] == [item.ordinal for item in expected]
        rows = pa.Table.from_batches((columns for _, columns in rest), loaded.window_schema).to_pylist()
        assert rows == [item.window.columns.slice(item.row, 1).to_pylist()[0] for item in expected]


def described(item: Item) -> tuple[Any, ...]:
    return *item[:4], item.window.columns.slice(item.row, 1).to_pylist()


def odd_table() -> pa.Table:
    """Columns of the types that get lost on the way most easily."""
    moments = [dt.datetime(2026, 1, 1, 12, 30, 1), None, dt.datetime(1900, 1, 1)]
    return pa.table(
        {
            "category": pa.array(["a", None, "b"]).dictionary_encode(),
            "decimal": pa.array([Decimal("1.10"), None, Decimal("-3.33")], pa.decimal128(38, 2)),
            "seconds": pa.array(moments, pa.timestamp("s")),
            "zoned": pa.array(moments, pa.timestamp("ns", "Europe/Zurich")),
            "time": pa.array([dt.time(1, 2, 3), None, dt.time(0)], pa.time32("s")),
            "span": pa.array([dt.timedelta(days=1), None, dt.timedelta(0)], pa.duration("us")),
            "list": pa.array([[1], None, []], pa.list_(pa.int32())),
            "nested": pa.array([[{"a": 1, "b": {"c": "x"}}], None, []]),
            "map": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int64())),
            "nothing": pa.nulls(3),
            "bytes": pa.array([b"\xff", None, b""], pa.binary()),
            "fixed": pa.array([b"abcd", None, b"efgh"], pa.binary(4)),
            "large": pa.array([2**64 - 1, None, 0], pa.uint64()),
            "view": pa.array(["longer than twelve bytes 🎉", None, ""], pa.string_view()),
            "json": pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": 1}', None, "1"])),
            "weird name.with 🎉": pa.array([1.5, None, float("inf")]),
        }
    )


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_odd_columns_arrive_as_they_are(tmp_path: Path, load: Any, suffix: str) -> None:
    """What the result copies must have the source's types and values, whatever they are."""
    table = odd_table()
    if suffix == "parquet":
        pq.write_table(table, tmp_path / "odd.parquet")
    else:
        with pa.ipc.new_stream(tmp_path / "odd.arrow", table.schema) as writer:
            writer.write_table(table)
    names = table.schema.names
    loaded = load(f"odd.{suffix}", keep=names)
    plain = {"view": pa.string(), "json": pa.string()}
    types = [plain.get(field.name, field.type) for field in table.schema]
    if suffix == "parquet":
        stored = pq.read_schema(tmp_path / "odd.parquet").types
        types = [plain.get(name, kind) for name, kind in zip(names, stored, strict=True)]
    assert loaded.window_schema.types[2:] == types
    assert loaded.source_schema.types == types
    [[first, second, _]] = loaded.windows()
    for batch in (first.window.columns, *loaded.rows(pa.array([0, 1, 2], pa.int64()))):
        for name in names:
            kind = plain.get(name, table[name].type)
            assert batch[name].cast(kind).to_pylist() == table[name].cast(kind).to_pylist()
    assert first.data["nested"] == [{"a": 1, "b": {"c": "x"}}]
    assert first.data["view"].endswith("🎉")
    assert all(value is None for value in second.data.values())


def test_a_thousand_columns_and_no_columns_at_all(tmp_path: Path, load: Any) -> None:
    """Width is no problem, and a workflow that reads nothing still gets its items."""
    pl.DataFrame({f"column_{at}": [at, at + 1] for at in range(1000)}).write_parquet(tmp_path / "wide.parquet")
    [[first, _]] = load("wide.parquet", keep=["column_999"]).windows()
    assert len(first.data) == 1000 and first.window.columns.num_columns == 3
    [[first, second]] = load("wide.parquet", read=[]).windows()
    assert (first.data, second.data) == ({}, {})


@pytest.mark.parametrize("group_rows", [1000, 500, 100])
def test_large_row_groups_are_read_batch_by_batch(tmp_path: Path, load: Any, group_rows: int) -> None:
    """A row group of more than 64 MB must come out like a small one, position by position."""
    bodies = [bytes([at % 251]) * 7 + at.to_bytes(3, "big") * 23_000 for at in range(1000)]
    table = pa.table({"body": pa.array(bodies), "at": range(1000)})
    pq.write_table(table, tmp_path / "large.parquet", row_group_size=group_rows, use_dictionary=False)
    loaded = load("large.parquet", filter="at % 3 = 1", limit=300)
    items = [item for window in loaded.windows() for item in window]
    assert [item.item_index for item in items] == list(range(1, 900, 3))
    assert all(item.data == {"body": bodies[item.item_index], "at": item.item_index} for item in items)
    picked = pa.Table.from_batches(loaded.rows(pa.array([4, 700], pa.int64())))
    assert picked["body"].to_pylist() == [bodies[4], bodies[700]]


def bytes_read() -> int:
    """What this process has read so far."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_a_large_row_group_is_read_once(tmp_path: Path, load: Any) -> None:
    """To decode it from its beginning for each stretch of items would take hours for one of many millions of rows."""
    pq.write_table(pa.table({"body": [os.urandom(80_000) for _ in range(1000)]}), tmp_path / "t.parquet", compression="none")
    loaded = load("t.parquet", filter="body IS NOT NULL")
    before = bytes_read()
    assert sum(len(window) for window in loaded.windows()) == 1000
    assert bytes_read() - before < 1.5 * (tmp_path / "t.parquet").stat().st_size


def test_files_polars_cannot_read_are_read_with_pyarrow(tmp_path: Path, load: Any) -> None:
    """A column type polars does not have must not keep the other rows and columns from being read."""
    amounts = [Decimal(at) / 100 for at in range(50)]
    pq.write_table(pa.table({"amount": pa.array(amounts, pa.decimal256(50, 2)), "k": range(50)}), tmp_path / "a.parquet", row_group_size=7)
    loaded = load("a.parquet", keep=["amount"], filter="k >= 10")
    items = [item for window in loaded.windows() for item in window]
    assert [item.data["amount"] for item in items] == amounts[10:]
    assert loaded.window_schema.field("amount").type == pa.decimal256(50, 2)
    assert items[0].window.columns["amount"][items[0].row].as_py() == amounts[items[0].item_index]


def test_computed_columns_come_before_the_filter_and_may_replace_a_column(tmp_path: Path, load: Any) -> None:
    """The filter, the id and the workflow see the computed value; the source rows keep the original."""
    pl.DataFrame({"a": ["x", "yy", "zzz"], "b": [1, 2, 3]}).write_parquet(tmp_path / "t.parquet")
    loaded = load(
        "t.parquet", id="a", with_columns={"a": "upper(a) || '!'", "n": "length(a)"}, columns=["b"], filter="a <> 'YY!' AND n > 0"
    )
    items = [item for window in loaded.windows() for item in window]
    assert [(item.id, item.data) for item in items] == [("X!", {"a": "X!", "b": 1, "n": 1}), ("ZZZ!", {"a": "ZZZ!", "b": 3, "n": 3})]
    [rows] = loaded.rows(pa.array([2], pa.int64()))
    assert rows.to_pylist() == [{"item_index": 2, "a": "zzz", "b": 3}]


def test_the_plan_shows_what_is_pushed_into_the_scan(tmp_path: Path) -> None:
    """Filter and projection must reach the file, and partitions that cannot match must not be read."""
    for year in (2025, 2026):
        (tmp_path / f"year={year}").mkdir()
        pl.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": [0, 0]}).write_parquet(tmp_path / f"year={year}" / "p.parquet")
    unread = tmp_path / "year=2025" / "p.parquet"
    unread.write_bytes(unread.read_bytes()[:4] + b"\xff" * 100 + unread.read_bytes()[104:])
    source = open_source(Dataset(path=".", filter="year = 2026 AND a > 1"), tmp_path)
    plan = source.explain(["b"], [])
    assert "1 of 2 files" in plan and "year=2026" in plan
    assert 'SELECTION: col("a") > 1' in plan and "PROJECT 2/3 COLUMNS" in plan
    loaded = source.load(["b", "year"], [], spool=tmp_path / "_s", rejects=tmp_path / "_r")
    [[item]] = loaded.windows()
    assert (item.item_index, item.data) == (3, {"b": "y", "year": 2026})
    pl.DataFrame({"a": [1]}).write_csv(tmp_path / "_t.csv")
    assert "SELECTION" in open_source(Dataset(path="_t.csv", filter="a > 1"), tmp_path).explain(["a"], [])


def test_the_fingerprint_follows_content_and_names_only(tmp_path: Path) -> None:
    """The same files elsewhere are the same version; another byte or another name is another version."""

    def fingerprint(folder: str, names: list[str], value: int = 1) -> str:
        (tmp_path / folder).mkdir()
        for name in names:
            pl.DataFrame({"a": [value]}).write_csv(tmp_path / folder / name)
        return open_source(Dataset(path=folder), tmp_path).fingerprint

    first = fingerprint("one", ["a.csv", "b.csv"])
    assert first == fingerprint("two", ["a.csv", "b.csv"])
    assert len({first, fingerprint("three", ["a.csv", "c.csv"]), fingerprint("four", ["a.csv", "b.csv"], value=2)}) == 3
