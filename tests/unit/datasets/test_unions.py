"""Files that are not alike, read as one dataset."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.core.errors import ExecutionError, JobError
from batchrun.datasets.unions import common_type

TYPES = [
    (pa.null(), pa.list_(pa.string()), pa.list_(pa.string())),
    (pa.int32(), pa.int64(), pa.int64()),
    (pa.uint8(), pa.int8(), pa.int16()),
    (pa.uint32(), pa.int8(), pa.int64()),
    (pa.uint64(), pa.int64(), None),
    (pa.int16(), pa.float32(), pa.float32()),
    (pa.int64(), pa.float32(), pa.float64()),
    (pa.dictionary(pa.int8(), pa.string()), pa.string(), pa.string()),
    (pa.decimal128(10, 2), pa.decimal128(12, 4), pa.decimal128(12, 4)),
    (pa.decimal128(38, 0), pa.decimal128(38, 38), None),
    (pa.timestamp("s"), pa.timestamp("us"), pa.timestamp("us")),
    (pa.timestamp("s", "Europe/Zurich"), pa.timestamp("s", "Asia/Tokyo"), pa.timestamp("s", "UTC")),
    (pa.timestamp("s", "UTC"), pa.timestamp("s"), None),
    (pa.list_(pa.null()), pa.list_(pa.int8()), pa.list_(pa.int8())),
    (pa.string(), pa.int64(), None),
    (pa.bool_(), pa.int64(), None),
    (pa.date32(), pa.timestamp("s"), None),
    (pa.struct([("a", pa.int8())]), pa.struct([("b", pa.int8())]), None),
]


@pytest.mark.parametrize(("one", "other", "common"), TYPES, ids=str)
def test_the_common_type_holds_both(one: pa.DataType, other: pa.DataType, common: pa.DataType | None) -> None:
    """Whatever the order of the files; where one of them would lose something there is none."""
    assert common_type(one, other) == common == common_type(other, one)


VALUES: list[tuple[Any, Any, list[Any]]] = [
    (pa.array([1], pa.int32()), pa.array([2**40]), [1, 2**40]),
    (pa.array([1]), pa.array([0.5]), [1.0, 0.5]),
    (pa.array([200], pa.uint8()), pa.array([-1], pa.int8()), [200, -1]),
    (pa.nulls(1), pa.array([{"a": [1]}]), [None, {"a": [1]}]),
    (pa.array(["a"]).dictionary_encode(), pa.array(["b"]), ["a", "b"]),
    (pa.array([Decimal("1.1")], pa.decimal128(5, 1)), pa.array([Decimal("2.22")], pa.decimal128(5, 2)), [Decimal("1.10"), Decimal("2.22")]),
    (
        pa.array([dt.datetime(2026, 1, 1)], pa.timestamp("ms")),
        pa.array([dt.datetime(2026, 1, 1, 0, 0, 0, 1)], pa.timestamp("us")),
        [dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 1, 0, 0, 0, 1)],
    ),
    (pa.array([[]], pa.list_(pa.null())), pa.array([["x"]]), [[], ["x"]]),
]


def write(folder: Path, suffix: str, *tables: pa.Table) -> None:
    for number, table in enumerate(tables):
        path = folder / f"part-{number}.{suffix}"
        if suffix == "parquet":
            pq.write_table(table, path)
        else:
            with pa.ipc.new_file(path, table.schema) as writer:
                writer.write_table(table)


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize("values", VALUES, ids=lambda values: f"{values[0].type}-{values[1].type}")
@pytest.mark.parametrize("is_turned", [False, True], ids=["", "turned"])
def test_values_of_two_types_are_values_of_one(
    tmp_path: Path, load: Any, suffix: str, values: tuple[Any, Any, list[Any]], is_turned: bool
) -> None:
    """Items and copied columns have all of them, in the order of the files."""
    one, other, expected = values
    tables = [pa.table({"a": one}), pa.table({"b": ["only here"], "a": other})][:: -1 if is_turned else 1]
    write(tmp_path, suffix, *tables)
    loaded = load(f"*.{suffix}", schema_mode="union", keep=["a", "b"])
    items = [item for window in loaded.windows() for item in window]
    wanted = [{"a": expected[0], "b": None}, {"a": expected[1], "b": "only here"}][:: -1 if is_turned else 1]
    assert [item.data for item in items] == wanted
    assert [item.window.columns.select(["a", "b"]).slice(item.row, 1).to_pylist()[0] for item in items] == wanted
    rows = pa.Table.from_batches(loaded.rows(pa.array([0, 1], pa.int64())))
    assert rows.select(["a", "b"]).to_pylist() == wanted


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_number_that_would_lose_digits_is_refused(tmp_path: Path, load: Any, suffix: str) -> None:
    """A whole number among floats is one only if the float is the same number."""
    write(tmp_path, suffix, pa.table({"a": [0.5]}), pa.table({"a": [2**53 + 1]}))
    with pytest.raises((JobError, ExecutionError), match=r"part-1\.\w+ cannot be read: .*(digits|not in range)"):
        list(load(f"*.{suffix}", schema_mode="union").windows())


def test_types_without_a_common_one_are_named_with_their_files(tmp_path: Path, refusal: Any) -> None:
    """No text is made of numbers behind anybody's back."""
    write(tmp_path, "parquet", pa.table({"a": [1]}), pa.table({"b": [1]}), pa.table({"a": ["x"]}))
    assert refusal("*.parquet", schema_mode="union").startswith(
        'dataset.path: the column "a" is int64 in part-0.parquet and string in part-2.parquet, and no type holds both without loss'
    )
