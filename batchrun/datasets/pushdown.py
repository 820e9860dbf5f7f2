"""What a scan need not read, and which part of the filter saves that."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from batchrun.core.plans import FilterPart, Pushdown
from batchrun.datasets.cutting import read_whole
from batchrun.datasets.discover import Place
from batchrun.datasets.expressions import conjuncts
from batchrun.datasets.layout import Layout
from batchrun.datasets.parquet import POLARS_ERRORS, ROW, scan, source_of
from batchrun.datasets.scan import Query

_TURNED = {"Lt": "Gt", "LtEq": "GtEq", "Gt": "Lt", "GtEq": "LtEq", "Eq": "Eq"}
_FILTER = re.compile(r"^\s*FILTER (.*)$", re.MULTILINE)


class _Comparison(NamedTuple):
    """A column of the files compared with a value that is the same for all rows."""

    column: str
    sign: str
    value: pl.Expr


def pushdown(query: Query, layout: Layout, files: Sequence[Place], columns: Sequence[str], skipped_files: int) -> Pushdown:
    """What need not be read.

    Args:
        query: what is asked of the files.
        layout: of the files.
        files: those that are read.
        columns: those that are read for the workflow and the result.
        skipped_files: how many others there are.
    """
    in_place = layout.table is not None
    total = skipped = 0
    comparisons = [found for part in _parts(query) if (found := _comparison(part, query)) is not None]
    for path in files if in_place else ():
        metadata = pq.read_metadata(source_of(path))
        passes = pl.Series([not is_whole for is_whole in read_whole(metadata, query.file_columns(columns))], dtype=pl.Boolean)
        may_pass = pl.repeat(True, metadata.num_row_groups, dtype=pl.Boolean, eager=True)
        for comparison in comparisons:
            may_pass &= _may_pass(comparison, metadata, layout.types[comparison.column])
        total += metadata.num_row_groups
        skipped += int((~(passes | may_pass)).sum())
    return Pushdown(
        files=len(files) + skipped_files,
        skipped_files=skipped_files,
        columns=tuple(query.file_columns(columns)),
        row_groups=total if in_place else None,
        skipped_row_groups=skipped,
        filter=tuple(_filter_parts(query, layout, files[0] if in_place and files else None, columns)),
    )


def _parts(query: Query) -> list[pl.Expr]:
    """The parts of the filter, in the order in which they are written."""
    return [] if query.where is None else [*conjuncts(query.where)][::-1]


def _filter_parts(query: Query, layout: Layout, path: Place | None, columns: Sequence[str]) -> Iterator[FilterPart]:
    partition = set(query.constants.columns) - query.added.keys()
    read_as = layout.table.read_as if layout.table is not None else None
    for part in _parts(query):
        text, roots = _text(part, query, layout), set(part.meta.root_names())
        if roots and roots <= partition:
            yield FilterPart(text=text, where="folders")
            continue
        alone = Query(constants=query.constants, casts=query.casts, added=query.added, where=part)
        plan = alone.rows(_like_a_copy(layout) if path is None else scan(path, read_as), columns, file=0, offset=0).explain()
        yield FilterPart(text=text, where="rows" if _FILTER.search(plan) else "scan")


def _like_a_copy(layout: Layout) -> pl.LazyFrame:
    """What a copy of a file looks like to polars."""
    copy = io.BytesIO()
    pl.DataFrame(schema=layout.types).write_parquet(copy)
    copy.seek(0)
    return pl.scan_parquet(copy).with_row_index(ROW)


def _text(part: pl.Expr, query: Query, layout: Layout) -> str:
    """The expression as `--explain` has it."""
    try:
        before = pl.DataFrame(schema={**layout.types, **query.constants.schema}).lazy().with_columns(**query.added)
        found = _FILTER.search(pl.DataFrame(schema=before.collect_schema()).lazy().filter(part).explain())
    except POLARS_ERRORS:  # of a column that is read as another type than it has
        found = None
    return str(part) if found is None else found[1]


def _comparison(part: pl.Expr, query: Query) -> _Comparison | None:
    """What statistics can be asked about here; null: whether a row group is skipped is seen by polars only, if at all."""
    sign = json.loads(part.meta.serialize(format="json")).get("BinaryExpr", {}).get("op")
    if sign not in _TURNED:
        return None
    right, left = part.meta.pop()
    if right.meta.is_column():
        left, right, sign = right, left, _TURNED[sign]
    if not left.meta.is_column() or right.meta.root_names():
        return None
    name = left.meta.output_name()
    is_stored = name not in query.added and name not in query.casts and name not in query.constants.columns
    return _Comparison(name, sign, right) if is_stored else None


def _may_pass(comparison: _Comparison, metadata: pq.FileMetaData, dtype: pl.DataType) -> pl.Series:
    """For each row group, whether a row of it may pass; true where its statistics do not tell."""
    column, sign, value = comparison
    unknown = pl.repeat(True, metadata.num_row_groups, dtype=pl.Boolean, eager=True)
    leaf = next((i for i in range(metadata.num_columns) if metadata.schema.column(i).path == column), None)
    if leaf is None:
        return unknown
    found = [metadata.row_group(group).column(leaf).statistics for group in range(metadata.num_row_groups)]
    ends = [(one.min, one.max) if one is not None and one.has_min_max else (None, None) for one in found]
    least, most = pl.col("least"), pl.col("most")
    possible = {
        "Lt": least < value,
        "LtEq": least <= value,
        "Gt": most > value,
        "GtEq": most >= value,
        "Eq": (least <= value) & (most >= value),
    }[sign]
    try:
        frame = pl.DataFrame(ends, schema={"least": dtype, "most": dtype}, orient="row")
        return frame.select(possible.fill_null(value=True).alias("possible"))["possible"]
    except (TypeError, ValueError, OverflowError, pa.ArrowException, *POLARS_ERRORS):  # statistics of a type of their own
        return unknown
