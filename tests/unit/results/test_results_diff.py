"""The difference of two results."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchrun.core.errors import ErrorRecord, ExecutionError
from batchrun.core.items import Item, ItemResult
from batchrun.results import ResultDiff, ResultLayout, ResultsDiffer, ResultWriter, diff_results

START = 1_790_000_000_000_000
ERROR = ErrorRecord("Timeout", "no answer", "n", retryable=True, http_status=None, traceback=None)
TYPED = {"label": "string", "score": "float64", "tags": ["string"]}


class Window(NamedTuple):
    columns: pa.RecordBatch


def result(folder: Path, outputs: dict[Any, Any], spec: Any = None, *, flatten: bool = False, duration_ms: float = 1.0) -> Path:
    """A result with an item for each key; an output that is an `ErrorRecord` is a failure."""
    folder.mkdir()
    rows = pa.record_batch({"source_item_id": list(outputs), "item_index": [3 * at for at in range(len(outputs))]})
    writer = ResultWriter(folder, ResultLayout(window_schema=rows.schema, nodes=(("n", "python"),), output_type=spec, flatten=flatten))
    writer.put([_item(at, id, output, rows, spec, duration_ms) for at, (id, output) in enumerate(outputs.items())])
    writer.finish({}, len(outputs))
    return folder


def _item(at: int, id: Any, output: Any, rows: pa.RecordBatch, spec: Any, duration_ms: float) -> ItemResult:
    item = Item(at, 3 * at, id, {}, Window(rows), at)
    if isinstance(output, ErrorRecord):
        return ItemResult(item, "failed", None, output, 1, START, duration_ms, ())
    written = output if spec is not None else None if output is None else json.dumps(output).encode()
    return ItemResult(item, "completed", written, None, 1, START, duration_ms, ())


def changes(diff: ResultDiff) -> dict[Any, Any]:
    return {row["source_item_id"]: row["changed"] or row["change"] for row in diff.table.to_pylist()}


def test_each_item_that_is_different_says_in_what(tmp_path: Path) -> None:
    """Whoever changed a prompt sees which items it changed, in which fields, from what to what."""
    good = {"label": "a", "score": 1.0, "tags": ["x"]}
    before = {"same": good, "nan": {**good, "score": math.nan}, "label": good, "both": good, "gone": good, "broke": good, "err": ERROR}
    after = {
        "err": replace_error("ValueError"),
        "broke": ERROR,
        "same": good,
        "nan": {**good, "score": math.nan},
        "label": {**good, "label": "b"},
        "both": {"label": "a", "score": None, "tags": ["x", None]},
        "new": good,
    }
    diff = diff_results(result(tmp_path / "a", before, TYPED), result(tmp_path / "b", after, TYPED, duration_ms=2.0))
    assert changes(diff) == {
        "err": ["error"],
        "broke": ["status"],
        "label": ["output.label"],
        "both": ["output.score", "output.tags"],
        "new": "added",
        "gone": "removed",
    }
    counts = diff.counts
    assert (counts.unchanged_items, counts.changed_items, counts.added_items, counts.removed_items) == (2, 4, 1, 1)
    assert counts.changed_fields == {"error": 1, "status": 1, "output.label": 1, "output.score": 1, "output.tags": 1}
    assert (counts.statuses, counts.before_ms, counts.after_ms) == ({("completed", "failed"): 1}, 6.0, 12.0)
    row = {row["source_item_id"]: row for row in diff.table.to_pylist()}["both"]
    assert json.loads(row["output_after"]) == {"label": "a", "score": None, "tags": ["x", None]}
    assert (row["item_index_before"], row["item_index_after"], row["duration_ms_before"]) == (9, 15, 1.0)
    assert str(diff.table.schema.field("source_item_id").type) == "string"


def replace_error(kind: str) -> ErrorRecord:
    return ERROR._replace(type=kind)


def test_other_forms_of_the_same_output_are_no_difference(tmp_path: Path) -> None:
    """The order of keys, a type given to the column, and flattening change how an output is written, not what it says."""
    outputs = {1: {"label": "a", "score": 1, "tags": []}, 2: None, 3: {"label": None, "score": 0.5, "tags": ["é"]}}
    turned = {key: None if value is None else dict(reversed(value.items())) for key, value in outputs.items()}
    text = result(tmp_path / "text", outputs)
    for name, other in (
        ("turned", result(tmp_path / "turned", turned)),
        ("typed", result(tmp_path / "typed", outputs, TYPED)),
        ("flat", result(tmp_path / "flat", outputs, TYPED, flatten=True)),
    ):
        assert diff_results(text, other).is_empty, name
    assert diff_results(tmp_path / "typed", tmp_path / "flat").counts.unchanged_items == 3
    assert changes(diff_results(text, result(tmp_path / "plain", {1: 5, 2: True, 3: [1]}))) == {1: ["output"], 2: ["output"], 3: ["output"]}


def test_results_that_cannot_be_compared_are_told(tmp_path: Path) -> None:
    """Ids of different kinds would match nothing, which looks like a complete change."""
    one, other = result(tmp_path / "a", {1: 1}), result(tmp_path / "b", {"1": 1})
    with pytest.raises(ResultsDiffer, match=r"source_item_id is Int64 in .*/a and String in .*/b"):
        diff_results(one, other)
    with pytest.raises(ExecutionError, match="there is no"):
        diff_results(one, tmp_path / "nowhere")


def test_no_items_have_no_difference(tmp_path: Path) -> None:
    """An empty result can be compared, and all of the other one is new."""
    empty, other = result_without_items(tmp_path / "a"), result(tmp_path / "b", {1: "x"})
    diff = diff_results(empty, other)
    assert changes(diff) == {1: "added"}
    assert diff_results(empty, empty).table.num_rows == 0


def result_without_items(folder: Path) -> Path:
    folder.mkdir()
    schema = pa.schema([("source_item_id", pa.int64()), ("item_index", pa.int64())])
    ResultWriter(folder, ResultLayout(window_schema=schema, nodes=())).finish({}, 0)
    return folder


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-1, 1) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(st.integers(0, 9), VALUES), st.dictionaries(st.integers(0, 9), VALUES))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_difference_is_that_of_the_values(tmp_path_factory: pytest.TempPathFactory, one: dict[int, Any], other: dict[int, Any]) -> None:
    """Neither a hash nor a shortcut on the way hides a change or invents one."""
    folder = tmp_path_factory.mktemp("diff")
    one, other = ({**each, -1: 0} for each in (one, other))
    found = diff_results(result(folder / "a", one), result(folder / "b", other))
    shared = one.keys() & other.keys()
    differ = {key for key in shared if not same(one[key], other[key])}
    assert {row["source_item_id"] for row in found.rows.to_dicts()} == differ | (one.keys() ^ other.keys())
    assert found.counts.unchanged_items == len(shared) - len(differ)


def same(one: Any, other: Any) -> bool:
    """Equal as JSON values: 1 and 1.0 are, 1 and true are not."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [plain(inner) for inner in value]
        return ("bool", value) if isinstance(value, bool) else value

    return bool(plain(one) == plain(other))
