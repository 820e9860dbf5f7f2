"""Which rows of a dataset become items: found and counted before the first one is handed out."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import polars as pl

from batchrun.core.errors import JobError, Problem
from batchrun.core.formats import Sample
from batchrun.core.job import Dataset
from batchrun.datasets.ids import IdCheck
from batchrun.datasets.kept import Kept
from batchrun.datasets.parquet import first_line
from batchrun.datasets.sampling import fraction_threshold, is_below, smallest_threshold
from batchrun.datasets.scan import INDEX, Scan
from batchrun.datasets.schema import dtype_name


class Selection(NamedTuple):
    """The rows that become items.

    Attributes:
        scan: the way to them, without the filter.
        kept: which they are.
    """

    scan: Scan
    kept: Kept


def select_items(scan: Scan, dataset: Dataset, skipped: frozenset[int]) -> Selection:
    """Find and count the items. Reads the columns of the filter, and the one of the ids.

    Args:
        scan: the rows, with the filter.
        dataset: what is asked for.
        skipped: the files no row of which can pass the filter.

    Raises:
        JobError: the id column is null somewhere or not unique.
        ReadFailed: the rows cannot be read.
    """
    limit = scan.table.rows if dataset.limit is None else dataset.limit
    kept = Kept.first(scan.table.rows)
    if scan.query.where is not None:
        kept = Kept.marked(_passing(scan, skipped, limit if dataset.sample is None else scan.table.rows))
    if dataset.sample is not None:
        kept = Kept.marked(_sampled(kept, dataset.sample))
    kept = kept.head(limit)
    rows = replace(scan, query=replace(scan.query, where=None))
    if dataset.id is not None:
        _check_ids(rows, kept, dataset.id)
    return Selection(rows, kept)


def _passing(scan: Scan, skipped: frozenset[int], limit: int) -> Iterator[pl.Series]:
    """Whether each row passes the filter, until so many have."""

    def may_pass(start: int, _stop: int) -> bool:
        return bisect_right(scan.table.ends, start) not in skipped

    at = found = 0
    for slab in scan.marks(may_pass) if limit else ():
        yield pl.repeat(False, slab.start - at, dtype=pl.Boolean, eager=True)
        marks = slab.frame[INDEX]
        yield marks
        at = slab.stop
        found += int(marks.sum())
        if found >= limit:
            return


def _sampled(kept: Kept, sample: Sample) -> Iterator[pl.Series]:
    if sample.fraction is not None:
        threshold = fraction_threshold(sample.fraction)
    else:
        positions = (marks.arg_true().cast(pl.Int64) + at for at, marks in kept.parts())
        threshold = smallest_threshold(positions, sample.n or 0, sample.seed)
    for at, marks in kept.parts():
        positions_here = pl.int_range(at, at + len(marks), dtype=pl.Int64)
        yield marks & pl.select(marks=is_below(positions_here, sample.seed, threshold))["marks"]


def _check_ids(scan: Scan, kept: Kept, name: str) -> None:
    def frames() -> Iterator[pl.DataFrame]:
        return (slab.frame for slab in scan.slabs([(0, kept.stop)], [name], kept.has_any, kept.mask))

    check = IdCheck(name, INDEX)
    for frame in frames():
        check.add(frame)
    check.finish(frames)


def check_casts(scan: Scan, declared: Mapping[str, pl.DataType]) -> None:
    """Read the columns that are cast to declared types once, and refuse values that the types cannot hold.

    Raises:
        JobError: with the number of such values and the first one, per column.
        ReadFailed: the rows cannot be read.
    """
    casts = {name: cast for name, cast in scan.query.casts.items() if name in declared}
    as_found = replace(scan, query=replace(scan.query, casts={}, added={}, where=None))
    counts = dict.fromkeys(casts, 0)
    examples: dict[str, str] = {}
    for slab in as_found.slabs([(0, scan.table.rows)], list(casts)) if casts else ():
        for name, cast in casts.items():
            try:
                failed = slab.frame.filter(pl.col(name).is_not_null() & cast.is_null())
            except pl.exceptions.PolarsError as error:
                message = f"values cannot become {dtype_name(declared[name])}: {first_line(error)}"
                raise JobError([Problem(("dataset", "schema", name), message)]) from error
            counts[name] += failed.height
            if failed.height and name not in examples:
                examples[name] = f"{failed[name][0]!r} in row {failed[INDEX][0]} (item_index)"
    if examples:
        raise JobError(
            Problem(("dataset", "schema", name), f"{counts[name]:,} values are not {dtype_name(declared[name])}, for example {example}")
            for name, example in examples.items()
        )
