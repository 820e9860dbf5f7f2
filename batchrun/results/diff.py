"""The difference of two results, item by item.

Of each item a few numbers are held in memory, one of them a hash of its output. Outputs whose hashes differ are looked at again,
field by field, so many at a time that they fit.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa

from batchrun.core.errors import BatchrunError
from batchrun.results.compared import as_series, changed_fields, nested_schema, output_columns, outputs_at, rows_at_once
from batchrun.results.exports import json_values
from batchrun.results.flat import nested
from batchrun.results.reader import iter_results
from batchrun.results.schema import JSON_MARK, is_json
from batchrun.workflows.encoding import encode

_COMPARED = ("status", "error_type", "error_node_id")
_SHOWN = ("status", "error_type", "duration_ms", "item_index")
_SIDES = ("before", "after")


class ResultsDiffer(BatchrunError):
    """Two results cannot be compared. The message says why."""


class DiffCounts(NamedTuple):
    """How many items are different, and in what.

    Attributes:
        unchanged_items: items of both with the same status, output and type of error.
        changed_items: the other items of both.
        added_items: items that only the later result has.
        removed_items: items that only the earlier result has.
        changed_fields: how many items changed in each of `status`, `error` (of items that failed both times) and the fields of the
            output (`output.label`; of items with the same status), most first.
        statuses: how many items went from one status to another: `{("failed", "completed"): 12}`.
        before_ms: the time items of both took in the earlier result, added up.
        after_ms: that of the later result.
    """

    unchanged_items: int
    changed_items: int
    added_items: int
    removed_items: int
    changed_fields: Mapping[str, int]
    statuses: Mapping[tuple[str, str], int]
    before_ms: float
    after_ms: float


@dataclass(frozen=True, slots=True)
class ResultDiff:
    """What is different in two results.

    Attributes:
        counts: of items by what became of them.
        before: the folder with the earlier result.
        after: the folder with the later one.
        rows: the items that are different, without their outputs, in the order of the later result; removed ones last.

    Example:
        >>> diff = batchrun.diff("20261101T093000-0a1b2c3d4e", "latest")  # doctest: +SKIP
        >>> diff.counts.changed_items, diff.counts.changed_fields  # doctest: +SKIP
        (12, {'output.label': 12, 'output.score': 3})
    """

    counts: DiffCounts
    before: Path
    after: Path
    rows: pl.DataFrame

    @property
    def is_empty(self) -> bool:
        """Whether both have the same items with the same results."""
        return self.rows.is_empty()

    @property
    def table(self) -> pa.Table:
        """The items that are different, with their outputs as JSON text; all in memory.

        Raises:
            ExecutionError: a result cannot be read.
        """
        return pa.Table.from_batches(self.batches())

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The same, some rows at a time; at least one batch, so that the columns are known.

        Raises:
            ExecutionError: a result cannot be read.
        """
        for rows in self.rows.iter_slices(rows_at_once((self.before, self.after))) if self.rows.height else [self.rows]:
            table = self._plain(rows)
            for side, folder in zip(_SIDES, (self.before, self.after), strict=True):
                found = outputs_at(folder, rows[f"item_index_{side}"], as_json=True)
                texts = pa.array([None if value is None else json.dumps(value, ensure_ascii=False, sort_keys=True) for value in found])
                table = table.append_column(pa.field(f"output_{side}", pa.string(), metadata=JSON_MARK), texts.cast(pa.string()))
            yield from table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]

    def _plain(self, rows: pl.DataFrame) -> pa.Table:
        """The rows with types that every library knows, and the ids as they are in the result."""
        table = rows.to_arrow()
        kinds = {"source_item_id": nested_schema(self.before).field("source_item_id").type, "changed": pa.list_(pa.string())}
        numbers = {"duration_ms": pa.float64(), "item_index": pa.int64()}
        kinds |= {f"{name}_{side}": kind for name, kind in numbers.items() for side in _SIDES}
        return table.cast(pa.schema([(name, kinds.get(name, pa.string())) for name in table.column_names]))


def diff_results(before: Path, after: Path) -> ResultDiff:
    """Compare two results by `source_item_id`.

    Memory grows with the number of items, about 600 bytes for each, not with their outputs.

    Args:
        before: the folder with the earlier result.
        after: the folder with the later one.

    Raises:
        ResultsDiffer: their ids are of different types.
        ExecutionError: a folder has no result that can be read.
    """
    schemas = [nested_schema(folder) for folder in (before, after)]
    as_json = schemas[0].field("output").type != schemas[1].field("output").type
    one, other = (_numbers(folder, as_json=as_json) for folder in (before, after))
    kinds = [frame.schema["source_item_id"] for frame in (one, other)]
    names = {name: f"{name}_before" for name in one.columns if name != "source_item_id"}
    if kinds[0] != kinds[1]:
        raise ResultsDiffer(
            f"source_item_id is {kinds[0]} in {before} and {kinds[1]} in {after}: only items with ids of the same kind can be "
            f"compared; run both jobs with the same dataset.id"
        )
    joined = one.rename(names).join(other.rename({name: f"{name}_after" for name in names}), on="source_item_id", how="full", coalesce=True)
    del one, other
    is_added, is_removed = pl.col("item_index_before").is_null(), pl.col("item_index_after").is_null()
    is_in_both = ~is_added & ~is_removed
    differs = pl.any_horizontal(pl.col(f"{name}_before").ne_missing(pl.col(f"{name}_after")) for name in (*_COMPARED, "hash"))
    times = (pl.col(f"duration_ms_{side}").filter(is_in_both).sum() for side in _SIDES)
    shared = _Shared(*joined.select(is_in_both.sum().alias("items"), *times).row(0))
    found = joined.filter(is_in_both & differs)
    only = [
        joined.filter(which).with_columns(change=pl.lit(word), changed=pl.lit([], dtype=pl.List(pl.String)))
        for which, word in ((is_added, "added"), (is_removed, "removed"))
    ]
    del joined
    changed = _changed(found, before, after, as_json=as_json)
    rows = pl.concat([changed, *only]).select(
        "source_item_id", "change", "changed", *(f"{name}_{side}" for name in _SHOWN for side in _SIDES)
    )
    rows = rows.sort("item_index_after", "item_index_before", nulls_last=True)
    return ResultDiff(_counted(shared, changed, only[0].height, only[1].height), before, after, rows)


class _Shared(NamedTuple):
    """The items of both results: how many they are, and the time they took in each."""

    items: int
    before_ms: float
    after_ms: float


def _counted(shared: _Shared, changed: pl.DataFrame, added: int, removed: int) -> DiffCounts:
    fields = Counter[str](changed["changed"].explode().drop_nulls().to_list())
    moved = changed.filter(pl.col("status_before") != pl.col("status_after")).group_by("status_before", "status_after").len()
    return DiffCounts(
        unchanged_items=shared.items - changed.height,
        changed_items=changed.height,
        added_items=added,
        removed_items=removed,
        changed_fields=dict(fields.most_common()),
        statuses={(was, now): count for was, now, count in moved.sort("len", descending=True).iter_rows()},
        before_ms=shared.before_ms,
        after_ms=shared.after_ms,
    )


def _numbers(folder: Path, *, as_json: bool) -> pl.DataFrame:
    """What is held in memory of each item."""
    columns = ["source_item_id", "item_index", "status", "error", "duration_ms", *output_columns(folder)]
    return pl.concat(_hashed(nested(batch), as_json=as_json) for batch in iter_results(folder, columns))


def _hashed(batch: pa.RecordBatch, *, as_json: bool) -> pl.DataFrame:
    output, field = batch.column("output"), batch.schema.field("output")
    if as_json:
        output = pa.array([None if value is None else encode(value) for value in json_values(output, field)], pa.binary())
    rows = pl.DataFrame(batch.drop_columns(["output"]))
    ids = pl.col("source_item_id")
    is_category = isinstance(rows.schema["source_item_id"], pl.Categorical | pl.Enum)
    return rows.select(
        ids.cast(pl.String) if is_category else ids,
        "item_index",
        pl.col("status").cast(pl.String).cast(pl.Categorical),
        pl.col("error").struct.field("type").cast(pl.Categorical).alias("error_type"),
        pl.col("error").struct.field("node_id").cast(pl.Categorical).alias("error_node_id"),
        "duration_ms",
        pl.Series("hash", as_series(output).hash() if batch.num_rows else [], pl.UInt64),
    )


def _changed(found: pl.DataFrame, before: Path, after: Path, *, as_json: bool) -> pl.DataFrame:
    """The items that changed, with what did: the status, else the error, else fields of the output.

    An output whose text changed, but not what it says, has not.
    """
    texts = as_json or is_json(nested_schema(before).field("output"))
    is_other_error = pl.any_horizontal(pl.col(f"{each}_before").ne_missing(pl.col(f"{each}_after")) for each in _COMPARED[1:])
    parts = []
    for rows in found.iter_slices(rows_at_once((before, after))):
        hashes = (rows["hash_before"] != rows["hash_after"]).to_list()
        pairs = (
            outputs_at(folder, rows[f"item_index_{side}"], as_json=texts) for side, folder in zip(_SIDES, (before, after), strict=True)
        )
        told = [list(changed_fields(one, other)) if differs else [] for one, other, differs in zip(*pairs, hashes, strict=True)]
        has_moved = rows["status_before"].ne_missing(rows["status_after"]).to_list()
        has_other_error = rows.select(is_other_error).to_series().to_list()
        told = [
            ["status"] if moved else ["error"] if error else fields
            for moved, error, fields in zip(has_moved, has_other_error, told, strict=True)
        ]
        changes = pl.Series("changed", told, pl.List(pl.String))
        parts.append(rows.with_columns(changes, change=pl.lit("changed")).filter(pl.col("changed").list.len() > 0))
    empty = found.clear().with_columns(pl.Series("changed", [], pl.List(pl.String)), change=pl.lit("changed"))
    return pl.concat([empty, *parts]).select(*found.columns, "change", "changed")
