"""Which rows of a dataset become items: found and counted before the first one is handed out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import polars as pl

from batchrun.core.errors import JobError, Problem
from batchrun.core.job import Dataset
from batchrun.datasets.ids import IdCheck
from batchrun.datasets.parquet import first_line
from batchrun.datasets.sampling import fraction_threshold, smallest_threshold
from batchrun.datasets.scan import INDEX, Scan
from batchrun.datasets.schema import dtype_name


class Block(NamedTuple):
    """The rows from `start` to before `stop` hold `items` items; `ordinal` is that of the first."""

    start: int
    stop: int
    ordinal: int
    items: int


class Selection(NamedTuple):
    """The rows that become items.

    Attributes:
        scan: the scan with the sample.
        blocks: where its items are, in order; stretches without items are left out.
        fingerprint: a hash of the positions of the items.
    """

    scan: Scan
    blocks: tuple[Block, ...]
    fingerprint: str


def select_items(scan: Scan, dataset: Dataset) -> Selection:
    """Find and count the items.

    Raises:
        JobError: the id column is null somewhere or not unique.
        ReadFailed: the rows cannot be read.
    """
    if dataset.sample is not None:
        sample = dataset.sample
        if sample.fraction is not None:
            threshold = fraction_threshold(sample.fraction)
        else:
            positions = (slab.frame[INDEX] for slab in scan.slabs([(0, scan.table.rows)], []))
            threshold = smallest_threshold(positions, sample.n or 0, sample.seed)
        scan = replace(scan, query=replace(scan.query, sample=(sample.seed, threshold)))
    limit = scan.table.rows if dataset.limit is None else min(dataset.limit, scan.table.rows)
    if dataset.id is None and scan.query.where is None and scan.query.sample is None:
        return Selection(scan, (Block(0, limit, 0, limit),) if limit else (), f"first {limit}")
    check = IdCheck(dataset.id, INDEX) if dataset.id is not None else None
    columns = [] if dataset.id is None else [dataset.id]
    blocks, fingerprint = _count(scan, columns, limit, check)
    if check is not None:
        check.finish(lambda: (slab.frame for slab in scan.slabs(((block.start, block.stop) for block in blocks), columns)))
    return Selection(scan, tuple(blocks), fingerprint)


def check_casts(scan: Scan, declared: Mapping[str, pl.DataType]) -> None:
    """Read the columns that are cast to declared types once, and refuse values that the types cannot hold.

    Raises:
        JobError: with the number of such values and the first one, per column.
        ReadFailed: the rows cannot be read.
    """
    casts = {name: cast for name, cast in scan.query.casts.items() if name in declared}
    as_found = replace(scan, pruned=frozenset(), query=replace(scan.query, casts={}, added={}, where=None))
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


def _count(scan: Scan, columns: Sequence[str], limit: int, check: IdCheck | None) -> tuple[list[Block], str]:
    blocks: list[Block] = []
    positions = hashlib.blake2b(digest_size=16)
    found = 0
    for slab in scan.slabs([(0, scan.table.rows)], columns) if limit else ():
        items = slab.frame.head(limit - found)
        if items.height:
            full = found + items.height == limit
            blocks.append(Block(slab.start, items[INDEX][-1] + 1 if full else slab.stop, found, items.height))
            found += items.height
            positions.update(_bytes(items[INDEX]))
            if check is not None:
                check.add(items)
        if found == limit:
            break
    return blocks, positions.hexdigest()


def _bytes(positions: pl.Series) -> memoryview:
    array = positions.to_arrow()
    return memoryview(array.buffers()[1])[8 * array.offset : 8 * (array.offset + len(array))]
