"""Flattened results: the fields of the output as columns."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.results import ResultLayout, ResultWriter, find_item, read_results, result_metadata
from batchrun.results.flat import flat_schema, flattened, nested
from batchrun.results.schema import arrow_field

SPEC = {"label": "string", "scores": ["float64"], "spot": {"lat": "float64"}, "raw": "json", "note?": "decimal(9, 2)"}


def an_output(ordinal: int) -> dict[str, Any]:
    return {"label": f"l{ordinal}", "scores": [0.5, None], "spot": {"lat": 1.0}, "raw": "[1]", "note": None}


@pytest.fixture
def folder(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> Path:
    """An execution with 20 results, flattened."""
    writer = ResultWriter(tmp_path, replace(layout, output_type=SPEC, flatten=True))
    writer.put(make_results(20, output=an_output))
    writer.finish({"execution_id": "e1"}, 20)
    return tmp_path


def test_fields_are_columns_in_the_place_of_the_output(folder: Path) -> None:
    """A spreadsheet or a SQL query needs no word about structs; rows without an output have nulls."""
    table = read_results(folder)
    assert table.schema.names[2:9] == ["status", "label", "scores", "spot", "raw", "note", "error"]
    assert table["label"].to_pylist()[:6] == ["l0", "l1", "l2", None, "l4", None]
    assert str(table.schema.field("note").type) == "decimal128(9, 2)"
    assert pl.read_parquet(folder / "results.parquet")["scores"].to_list()[0] == [0.5, None]
    assert result_metadata(folder)["failed_items"] == "3"


def test_an_item_is_shown_as_if_nothing_was_flattened(folder: Path) -> None:
    """`batchrun show --item` reads any result."""
    row = find_item(folder, "T00001", from_journal=False).row
    assert row["output"] == {"label": "l1", "scores": [0.5, None], "spot": {"lat": 1.0}, "raw": [1], "note": None}
    assert find_item(folder, "T00003", from_journal=False).row["output"] is None


@given(st.lists(st.none() | st.fixed_dictionaries({"a": st.none() | st.text(string.printable), "b": st.lists(st.none() | st.floats())})))
def test_flattening_loses_nothing(outputs: list[dict[str, Any] | None]) -> None:
    """What is written as columns comes back as it was; only an object of nulls alone is a null afterwards."""
    field = arrow_field("output", {"a": "string", "b": ["float64"]})
    schema = pa.schema([("before", pa.int64()), field, ("after", pa.int64())])
    columns = [pa.array(range(len(outputs)), pa.int64()), pa.array(outputs, field.type), pa.array(range(len(outputs)), pa.int64())]
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    again = nested(flattened(batch, flat_schema(schema)))
    assert again.schema == schema
    assert repr(again.to_pylist()) == repr(batch.to_pylist())
