"""failures.parquet: the failed items with their source columns, ready to be the dataset of another job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from batchrun.core.errors import ExecutionError
from batchrun.results.files import discard, replacing
from batchrun.results.parquet import RowGroups
from batchrun.results.reader import iter_results

FAILURE_FILE = "failures.parquet"

SourceRows: TypeAlias = Callable[[pa.Int64Array], Iterator[pa.RecordBatch]]
"""Gives `item_index` and the source columns of the items at ascending item indices, in that order."""

_CHUNK_BYTES = 16 * 2**20
_CHANGED = "the dataset changed while the execution ran: it no longer has the rows of the failed items; run it again on the new version"
_FAILED = pa.scalar("failed")


def write_failures(folder: Path, rows: SourceRows) -> Path | None:
    """Write the failed items of a finished execution, a chunk at a time.

    The columns are those of the source, then `item_index`, `error` and `attempts`; the last two get the prefix
    `batchrun_` when the source has a column of that name.

    Args:
        folder: the execution's folder, with its result.
        rows: gives the source rows of failed items.

    Returns:
        The file; null when nothing failed, and then a file of that name is removed.

    Raises:
        ExecutionError: the result cannot be read, the file cannot be written, or the dataset changed.
    """
    path = folder / FAILURE_FILE
    failed = _failed_items(folder)
    first = next(failed, None)
    if first is None:
        discard(path)
        return None
    with replacing(path) as temporary:
        _write(temporary, _joined(chain([first], failed), rows))
    return path


def _failed_items(folder: Path) -> Iterator[pa.RecordBatch]:
    """`item_index`, `error` and `attempts` of failed items, in chunks that are worth a pass over the source."""
    found: list[pa.RecordBatch] = []
    for batch in iter_results(folder, ["status", "item_index", "error", "attempts"]):
        is_failed = pc.equal(batch.column("status").dictionary_decode(), _FAILED)
        if is_failed.true_count:
            found.append(batch.filter(is_failed).select(["item_index", "error", "attempts"]))
        if sum(part.nbytes for part in found) > _CHUNK_BYTES:
            yield pa.concat_batches(found)
            found = []
    if found:
        yield pa.concat_batches(found)


def _joined(failed: Iterable[pa.RecordBatch], rows: SourceRows) -> Iterator[pa.RecordBatch]:
    for chunk in failed:
        start = 0
        for source in rows(chunk.column("item_index")):
            part = chunk.slice(start, source.num_rows)
            start += source.num_rows
            if not source.column("item_index").equals(part.column("item_index")):
                raise ExecutionError(_CHANGED)
            columns = dict(zip(source.schema.names, source.columns, strict=True))
            columns["item_index"] = columns.pop("item_index")
            for name in ("error", "attempts"):
                columns[f"batchrun_{name}" if name in columns else name] = part.column(name)
            yield pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
        if start != chunk.num_rows:
            raise ExecutionError(_CHANGED)


def _write(path: Path, batches: Iterator[pa.RecordBatch]) -> None:
    first = next(batches)
    file = RowGroups(path, first.schema)
    try:
        for batch in chain([first], batches):
            file.append(batch)
        file.close()
    finally:
        file.abandon()
