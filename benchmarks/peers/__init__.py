"""Other tools on the same work, each in an environment of its own. They need nothing of batchrun.

Each does what its users are told to write: a function for each of the three nodes, one after another. It has less to do than batchrun:
what it keeps of an item is its output. Each reads a file that has the items it is given and no others, and writes Parquet files; when the
clock has stopped, every row of these is compared with what the functions return.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.functions import clean, label, score
from benchmarks.warming import WARM_ITEMS, Warm, warm

_ROWS_PER_GROUP = 100_000


def ready(work: Callable[[str, Path], None], dataset: str, items: int, folder: str) -> tuple[Callable[[], Callable[[], int]], Warm]:
    """Warm a tool up.

    Args:
        work: given a Parquet file and an empty folder, it writes Parquet files with the `id` and the `output` of each row into the folder.
        dataset: a Parquet file with at least so many rows.
        items: how many are measured.
        folder: an empty one.

    Returns:
        What is measured, which returns what counts the right rows afterwards; and what a few items took.
    """
    few, all_of = (first_rows(dataset, rows, Path(folder) / f"{rows}-rows.parquet") for rows in (WARM_ITEMS, items))
    turns = count()

    def once(source: Path, rows: int) -> Callable[[], int]:
        target = Path(folder) / f"written-{next(turns)}"
        target.mkdir()
        work(str(source), target)
        return lambda: right_rows(source, target, rows)

    def check() -> None:
        if (right := once(few, WARM_ITEMS)()) != WARM_ITEMS:
            raise ValueError(f"{WARM_ITEMS - right} of {WARM_ITEMS} rows are wrong or missing")

    return lambda: once(all_of, items), warm(check)


def first_rows(dataset: str, rows: int, target: Path) -> Path:
    """A file with the first rows of another, in row groups of the same size."""
    if pq.ParquetFile(dataset).metadata.num_rows == rows:
        return Path(shutil.copyfile(dataset, target))
    file, left = pq.ParquetFile(dataset), rows
    with pq.ParquetWriter(target, file.schema_arrow, compression="zstd") as writer:
        for batch in file.iter_batches(_ROWS_PER_GROUP):
            writer.write_table(pa.Table.from_batches([batch.slice(0, left)]))
            left -= min(left, batch.num_rows)
            if not left:
                break
    return target


def right_rows(source: Path, folder: Path, rows: int) -> int:
    """How many items have exactly one row, with the output it should have; none if there is any other row.

    An output is a struct in the column `output`, or its fields are columns.
    """
    table = pq.read_table(source, columns=["id", "body"])
    body_of = dict(zip(table.column("id").to_pylist(), table.column("body").to_pylist(), strict=True))
    written = right = 0
    for path in folder.rglob("*.parquet"):
        for batch in pq.ParquetFile(path).iter_batches():
            for record in batch.to_pylist():
                body = body_of.pop(record.pop("id"), None)
                written += 1
                right += body is not None and record.get("output", record) == _output(body)
    return right if written == rows else 0


def _output(body: str) -> dict[str, Any]:
    cleaned = clean(body)
    return label(score(cleaned["text"], cleaned["length"])["score"])
