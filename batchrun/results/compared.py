"""Outputs of some items of a result, and what is different in two of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import polars as pl
import pyarrow as pa

from batchrun.results.exports import json_values
from batchrun.results.flat import is_of_output, nested
from batchrun.results.reader import open_results
from batchrun.workflows.encoding import encode

_HELD_BYTES = 32 * 2**20
_MOST_ROWS = 16_384
_LEAST_ROWS = 256


def nested_schema(folder: Path) -> pa.Schema:
    """The columns of the result, with `output` also when it was flattened."""
    with open_results(folder) as file:
        return nested(pa.RecordBatch.from_pylist([], file.schema_arrow)).schema


def output_columns(folder: Path) -> list[str]:
    """The columns of the file that the output is in."""
    with open_results(folder) as file:
        return [field.name for field in file.schema_arrow if is_of_output(field)]


def as_series(column: pa.Array) -> pl.Series:
    """An Arrow column as polars has it."""
    return cast("pl.Series", pl.from_arrow(column))


def changed_fields(one: Any, other: Any) -> Iterator[str]:
    """The fields of the output that are different; `output` when it is no object, or was none."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in dict.fromkeys([*one, *other]):
            if not (name in one and name in other and _is_same(one[name], other[name])):
                yield f"output.{name}"
    elif not _is_same(one, other):
        yield "output"


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    is_nan = isinstance(one, float) and isinstance(other, float) and one != one and other != other  # noqa: PLR0124 - NaN
    return is_nan or bool(one == other)


def rows_at_once(folders: Iterable[Path]) -> int:
    """How many outputs of each of these results fit into memory."""
    rows = _MOST_ROWS
    for folder in folders:
        with open_results(folder) as file:
            meta, names = file.metadata, {field.name for field in file.schema_arrow if is_of_output(field)}
            groups = (meta.row_group(at) for at in range(meta.num_row_groups))
            columns = (group.column(at) for group in groups for at in range(group.num_columns))
            size = sum(each.total_uncompressed_size for each in columns if each.path_in_schema.partition(".")[0] in names)
            rows = min(rows, max(1, _HELD_BYTES * meta.num_rows // max(size, 1)))
    return max(rows, _LEAST_ROWS)


def outputs_at(folder: Path, indexes: pl.Series, *, as_json: bool) -> list[Any]:
    """The outputs of the items at these `item_index`; null where it is null. `as_json`: as the values that their JSON text stands for."""
    wanted = indexes.drop_nulls()
    found: dict[int, Any] = {}
    if wanted.len():
        least, most = wanted.min(), wanted.max()
        with open_results(folder) as file:
            at = file.schema_arrow.get_field_index("item_index")
            groups = [group for group in range(file.num_row_groups) if _overlaps(file.metadata.row_group(group).column(at), least, most)]
            columns = ["item_index", *(field.name for field in file.schema_arrow if is_of_output(field))]
            for batch in file.iter_batches(4096, row_groups=groups, columns=columns) if groups else ():
                hit = as_series(batch.column("item_index")).is_in(wanted.implode())
                if hit.any():
                    rows = nested(batch.filter(hit.to_arrow()))
                    found.update(zip(rows.column("item_index").to_pylist(), _values(rows, as_json=as_json), strict=True))
    return [found.get(index) for index in indexes]


def _overlaps(column: Any, least: Any, most: Any) -> bool:
    statistics = column.statistics
    return statistics is None or not statistics.has_min_max or (statistics.min <= most and statistics.max >= least)


def _values(rows: pa.RecordBatch, *, as_json: bool) -> list[Any]:
    column, field = rows.column("output"), rows.schema.field("output")
    if not as_json:
        values: list[Any] = column.to_pylist()
        return values
    return [None if value is None else json.loads(encode(value)) for value in json_values(column, field)]
