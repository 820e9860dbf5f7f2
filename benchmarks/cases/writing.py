"""Writing results with three node executions each, beside bare pyarrow that writes the same columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from batchrun.core.items import Item, ItemResult, NodeRecord
from batchrun.results import RESULT_FILE, ResultLayout, ResultWriter
from benchmarks import loops
from benchmarks.jobs import dataset_of, tickets
from benchmarks.model import Aim, Case, Variant

_WINDOW = pa.schema([("source_item_id", pa.int64()), ("item_index", pa.int64()), ("priority", pa.int8())])
_NODES = (("clean", "python"), ("score", "python"), ("label", "python"))
_CHUNK_ITEMS = 256
LAYOUT = ResultLayout(window_schema=_WINDOW, nodes=_NODES)


@dataclass(frozen=True, slots=True)
class _Window:
    columns: pa.RecordBatch


def by_pyarrow(dataset: str, items: int, folder: str) -> Any:
    """Columns of values are there; pyarrow makes arrays of them and writes them."""
    source, target = dataset_of(dataset, items, folder), Path(folder) / "bare.parquet"
    made = [(batch, _records(batch)) for batch in loops.batches(source)]

    def work() -> tuple[int, dict[str, float]]:
        rows = 0
        with loops.writer(target, LAYOUT.schema) as file:
            for batch, records in made:
                file.append(records.table(batch, rows, LAYOUT.schema))
                rows += batch.num_rows
        return rows, {"result_bytes": target.stat().st_size}

    return work


def by_batchrun(dataset: str, items: int, folder: str) -> Any:
    """Finished items are there, as the engine hands them over; the result writer makes columns of them and writes them."""
    made: list[Sequence[ItemResult]] = []
    for batch in loops.batches(dataset_of(dataset, items, folder)):
        made.extend(chunks(batch, sum(map(len, made))))

    def work() -> tuple[int, dict[str, float]]:
        writer = ResultWriter(Path(folder), LAYOUT)
        for chunk in made:
            writer.put(chunk)
        totals = writer.finish({}, items)
        return totals.total_items, {"result_bytes": (Path(folder) / RESULT_FILE).stat().st_size}

    return work


def _records(batch: pa.RecordBatch) -> loops.Records:
    """What the three nodes left, with texts that are no larger than they look: orjson gives each a page of memory, millions are kept."""
    kept = loops.three_nodes(batch.column("body").to_pylist())
    for texts in (kept.outputs, kept.node_inputs, kept.node_outputs):
        texts[:] = [bytes(memoryview(text)) for text in texts]
    return kept


def chunks(batch: pa.RecordBatch, first: int) -> list[list[ItemResult]]:
    """The finished items of rows, of which the first has this index, as they are handed over."""
    kept, count = _records(batch), batch.num_rows
    columns = [batch.column("id"), pa.array(range(first, first + count), pa.int64()), batch.column("priority")]
    window = _Window(pa.RecordBatch.from_arrays(columns, schema=_WINDOW))
    results = []
    for row, (source_id, output) in enumerate(zip(batch.column("id").to_pylist(), kept.outputs, strict=True)):
        nodes: list[NodeRecord] = [
            (at, "completed", 1, kept.node_started[n], kept.node_durations[n], kept.node_inputs[n], kept.node_outputs[n], *_PLAIN)
            for at, n in enumerate(range(3 * row, 3 * row + 3))
        ]
        item = Item(first + row, first + row, source_id, {}, window, row)
        results.append(ItemResult(item, "completed", output, None, 1, kept.started[row], kept.durations[row], nodes))
    return [results[start : start + _CHUNK_ITEMS] for start in range(0, count, _CHUNK_ITEMS)]


_PLAIN = (None, None, None, False)

CASES = (
    Case(
        group="writing",
        name="writing",
        about="finished items are in memory: as columns of Python values for pyarrow, as the engine leaves them for batchrun; no journal",
        baseline="pyarrow",
        variants=(
            Variant(name="pyarrow", call="benchmarks.cases.writing:by_pyarrow"),
            Variant(name="batchrun", call="benchmarks.cases.writing:by_batchrun"),
        ),
        files=tickets,
        items=200_000,
        quick_items=5_000,
        aims=(Aim(variant="batchrun", at_most=1 / 0.7, against="pyarrow"),),
    ),
)
