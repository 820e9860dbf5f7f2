"""The figures of a report, from the result file: in bounded memory, and in little time whatever the size of the file.

Items are counted over the whole file, of which three narrow columns are read. Durations of nodes and messages of failures lie
in wide columns: of a large file, row groups spread evenly over it are read, until there is enough for a picture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchrun.core.figures import Bin, Figures, SlowItem, Throughput
from batchrun.core.items import DONE_STATUSES
from batchrun.results.durations import BUCKETS_PER_DECADE, buckets_of
from batchrun.results.reader import open_results
from batchrun.results.similar import Similar

_INTERVALS = 60
_SLOWEST = 10
_ID_CHARS = 200
_MESSAGE_CHARS = 1_000
_MOST_GROUPS = 25
_MOST_BINS = 32
_WIDTHS = tuple(width for width in range(1, BUCKETS_PER_DECADE + 1) if BUCKETS_PER_DECADE % width == 0)  # buckets that make a bin
_ENOUGH_FAILURES = 20_000
_ENOUGH_EXECUTIONS = 100_000
_BATCH_ROWS = 8_192
_GROUPS_IN_TURN = 8

_TIMES = ["status", "completed_at", "reused_from"]
_ITEM = ["source_item_id", "attempts", "duration_ms"]
_EXECUTION = ["reused_from", *(f"node_executions.list.element.{name}" for name in ("node_id", "status", "duration_ms"))]
_FAILURE = ["source_item_id", *(f"error.{name}" for name in ("type", "message", "node_id"))]
_NOT_RUN = pa.array(["skipped", "waiting"])


def result_figures(folder: Path, *, enough_executions: int = _ENOUGH_EXECUTIONS, enough_failures: int = _ENOUGH_FAILURES) -> Figures:
    """What a report draws of the result in a folder.

    Args:
        folder: the execution's folder.
        enough_executions: histograms are of the rows read until there were this many node executions.
        enough_failures: failures are grouped by similar message until there were this many.

    Raises:
        ExecutionError: there is no readable result in the folder.
    """
    with open_results(folder) as file:
        throughput, slowest = _flat_figures(file)
        histograms, rows = _histograms(file, enough_executions)
        similar = _similar_failures(file, enough_failures)
        return Figures(
            throughput=throughput,
            histograms=histograms,
            total_rows=file.metadata.num_rows,
            histogram_rows=rows,
            slowest=slowest,
            similar_failures=similar.largest(_MOST_GROUPS),
            grouped_failures=similar.items,
        )


def _flat_figures(file: pq.ParquetFile) -> tuple[Throughput | None, list[SlowItem]]:
    """What plain columns tell: of items that were run here, for those carried over from elsewhere took no time."""
    at = [pl.col("completed_at").min().alias("first"), pl.col("completed_at").max().alias("last")]
    known = [time for frame in _ended_here(file, _TIMES) for time in frame.select(at).row(0) if time is not None]
    if not known:
        return None, []
    first, last = min(known), max(known)
    seconds = max((last - first).total_seconds() / _INTERVALS, 1e-3)
    interval = ((pl.col("completed_at") - first).dt.total_microseconds() / (seconds * 1e6)).floor().clip(0, _INTERVALS - 1).cast(pl.Int16)
    ended, failed = [0] * _INTERVALS, [0] * _INTERVALS
    slowest: list[SlowItem] = []
    for frame in _ended_here(file, [*_TIMES, *_ITEM]):
        for number, is_failed, count in frame.group_by(interval=interval, is_failed=pl.col("status") == "failed").len().iter_rows():
            ended[number] += count
            failed[number] += count if is_failed else 0
        slow = frame.top_k(_SLOWEST, by="duration_ms").select("source_item_id", "status", "attempts", "duration_ms")
        slowest += [SlowItem(str(item_id)[:_ID_CHARS], *rest) for item_id, *rest in slow.iter_rows()]
        slowest = sorted(slowest, key=lambda item: -item.duration_ms)[:_SLOWEST]
    return Throughput(began_at=first, interval_seconds=seconds, ended_items=ended, failed_items=failed), slowest


def _ended_here(file: pq.ParquetFile, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Rows of items that this execution ran to their end, a row group at a time: polars would have many of them in memory."""
    for group in range(file.num_row_groups):
        frame = pl.DataFrame(file.read_row_group(group, columns=columns, use_threads=False)).with_columns(pl.col("status").cast(pl.String))
        yield frame.filter(pl.col("reused_from").is_null(), pl.col("status").is_in(DONE_STATUSES), pl.col("completed_at").is_not_null())


def _histograms(file: pq.ParquetFile, enough: int) -> tuple[Mapping[str, Sequence[Bin]], int]:
    """How long the executions of each node took that there were here, and of how many rows that is."""
    counts: dict[str, Counter[int]] = {}
    rows = executions = 0
    for batch in _spread_batches(file, _EXECUTION, groups_in_turn=_GROUPS_IN_TURN):
        rows += batch.num_rows
        executions += len(pc.list_flatten(batch.column("node_executions")))  # what was read, for the time that takes
        here = batch.filter(pc.is_null(batch.column("reused_from")))
        ran = pa.RecordBatch.from_struct_array(pc.list_flatten(here.column("node_executions")))
        ran = ran.filter(pc.invert(pc.is_in(ran.column("status"), _NOT_RUN)))
        columns = pa.table({"node_id": ran.column("node_id"), "bucket": buckets_of(ran.column("duration_ms"))})
        groups = columns.group_by(["node_id", "bucket"], use_threads=False).aggregate([([], "count_all")])
        for node_id, bucket, count in zip(*groups.to_pydict().values(), strict=True):
            counts.setdefault(node_id, Counter())[bucket] += count
        if executions >= enough:
            break
    return {node_id: _bins(buckets) for node_id, buckets in counts.items()}, rows


def _bins(buckets: Mapping[int, int]) -> list[Bin]:
    """Buckets as bars, as narrow as leaves few enough of them; those between the first and the last may be empty."""
    first, last = min(buckets), max(buckets)
    width = next((width for width in _WIDTHS if last // width - first // width < _MOST_BINS), _WIDTHS[-1])
    bins: Counter[int] = Counter()
    for bucket, count in buckets.items():
        bins[bucket // width] += count
    bounds = [10 ** (number * width / BUCKETS_PER_DECADE) for number in range(first // width, last // width + 2)]
    return [Bin(*bound, bins[first // width + at]) for at, bound in enumerate(pairwise(bounds))]


def _similar_failures(file: pq.ParquetFile, enough: int) -> Similar:
    similar = Similar()
    for batch in _spread_batches(file, _FAILURE):
        failed = batch.filter(pc.is_valid(batch.column("error")))
        if failed.num_rows:
            similar.add(_failures(failed))
            if similar.items >= enough:
                break
    return similar


def _failures(batch: pa.RecordBatch) -> Iterator[tuple[Any, str, str | None, str]]:
    error = dict(zip((field.name for field in batch.column("error").type), batch.column("error").flatten(), strict=True))
    messages = pc.utf8_slice_codeunits(pc.fill_null(error["message"], ""), 0, _MESSAGE_CHARS)
    ids = (str(item_id)[:_ID_CHARS] for item_id in batch.column("source_item_id").to_pylist())
    return zip(ids, error["type"].to_pylist(), error["node_id"].to_pylist(), messages.to_pylist(), strict=True)


def _spread_batches(file: pq.ParquetFile, columns: Sequence[str], *, groups_in_turn: int = 1) -> Iterator[pa.RecordBatch]:
    """Rows of the file, a batch of each of some row groups in turn: any number of first groups is spread evenly over it."""
    groups = spread(file.num_row_groups)
    for first in range(0, len(groups), groups_in_turn):
        some = groups[first : first + groups_in_turn]
        readers = [file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False) for group in some]
        while readers:
            batches = [next(reader, None) for reader in readers]
            readers = [reader for reader, batch in zip(readers, batches, strict=True) if batch is not None]
            yield from (batch for batch in batches if batch is not None)


def spread(count: int) -> list[int]:
    """The numbers below `count`, in an order whose beginnings are spread evenly over them.

    Example:
        >>> spread(8)
        [0, 4, 2, 6, 1, 5, 3, 7]
    """
    bits = max(count - 1, 0).bit_length()
    return sorted(range(count), key=lambda number: int(f"{number:0{bits}b}"[::-1], 2) if bits else 0)
