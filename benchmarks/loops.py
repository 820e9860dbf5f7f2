"""The limit: hand-written loops that do the work of the jobs and write the same tables, with nothing around them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from batchrun.results import ResultLayout
from batchrun.results.parquet import RowGroups
from benchmarks.functions import clean, clean_later, label, label_later, score, score_later, weigh_many
from benchmarks.warming import WARM_ITEMS, warm

_ROWS_PER_BATCH = 1_000
"""As fast as ten times as many, with a tenth of the memory: each JSON text that is kept takes 4 KiB with orjson, however short it is."""
_ROW_OF_NODES = "node_executions.list.element"
_REPEATING = [
    *("status", "error.type", "error.node_id", "priority"),
    *(f"{_ROW_OF_NODES}.{name}" for name in ("node_id", "node_type", "status", "error.type", "error.node_id")),
]
THREE_NODES = ("clean", "score", "label")


@dataclass(slots=True)
class Records:
    """What the items of a batch left: lists that become columns, those of the nodes with an entry per node execution."""

    nodes: tuple[str, ...]
    outputs: list[Any] = field(default_factory=list)
    started: list[int] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)
    node_started: list[int] = field(default_factory=list)
    node_durations: list[float] = field(default_factory=list)
    node_inputs: list[bytes] = field(default_factory=list)
    node_outputs: list[bytes] = field(default_factory=list)

    def table(self, batch: pa.RecordBatch, index: int, schema: pa.Schema) -> pa.RecordBatch:
        """The rows of the result, given the source rows and the index of the first of them."""
        count, width = batch.num_rows, len(self.nodes)
        total = count * width
        node_columns = {
            "node_id": pa.array(list(self.nodes) * count, pa.string()),
            "node_type": pa.array(["python"] * total, pa.string()),
            "occurrence": pa.array([0] * total, pa.int32()),
            "status": pa.array(["completed"] * total, pa.string()),
            "attempts": pa.array([1] * total, pa.int32()),
            "started_at": pa.array(self.node_started, pa.int64()).cast(pa.timestamp("us", "UTC")),
            "duration_ms": pa.array(self.node_durations, pa.float64()),
            "input": pa.array(self.node_inputs, pa.binary()).cast(pa.string()),
            "output": pa.array(self.node_outputs, pa.binary()).cast(pa.string()),
            "cache_hit": pa.array([False] * total, pa.bool_()),
        }
        node_type = schema.field("node_executions").type.value_type
        nodes = pa.StructArray.from_arrays(
            [node_columns.get(each.name, pa.nulls(total, each.type)) for each in node_type], fields=list(node_type)
        )
        completed = [int(began + duration * 1e3) for began, duration in zip(self.started, self.durations, strict=True)]
        columns = {
            "source_item_id": batch.column("id"),
            "item_index": pa.array(range(index, index + count), pa.int64()),
            "status": pa.array(["completed"] * count, pa.string()).cast(schema.field("status").type),
            "output": self._output(schema.field("output").type),
            "attempts": pa.array([1] * count, pa.int32()),
            "started_at": pa.array(self.started, pa.int64()).cast(pa.timestamp("us", "UTC")),
            "completed_at": pa.array(completed, pa.int64()).cast(pa.timestamp("us", "UTC")),
            "duration_ms": pa.array(self.durations, pa.float64()),
            "node_executions": pa.ListArray.from_arrays(
                pa.array(range(0, total + 1, width), pa.int32()), nodes, type=schema.field("node_executions").type
            ),
            "priority": batch.column("priority"),
        }
        return pa.RecordBatch.from_arrays([columns.get(each.name, pa.nulls(count, each.type)) for each in schema], schema=schema)

    def _output(self, kind: pa.DataType) -> pa.Array:
        """JSON text comes as bytes, typed outputs as values."""
        return pa.array(self.outputs, pa.binary()).cast(kind) if pa.types.is_string(kind) else pa.array(self.outputs, kind)


def result_schema(*nodes: str, output_type: str | None = None) -> pa.Schema:
    """The columns that batchrun writes for these nodes, with the priority of each item kept."""
    source = pa.schema([("source_item_id", pa.int64()), ("item_index", pa.int64()), ("priority", pa.int8())])
    return ResultLayout(window_schema=source, nodes=tuple((node, "python") for node in nodes), output_type=output_type).schema


def batches(dataset: Path) -> Iterator[pa.RecordBatch]:
    """The rows of a dataset."""
    yield from pq.ParquetFile(dataset, pre_buffer=False).iter_batches(_ROWS_PER_BATCH, columns=["id", "body", "priority"])


@contextmanager
def writer(target: Path, schema: pa.Schema) -> Iterator[RowGroups]:
    """Writes a result as batchrun writes it: the same row groups, compression, dictionaries and statistics."""
    flat = [each.name for each in schema if each.name != "output" and not pa.types.is_nested(each.type)]
    file = RowGroups(target, schema, use_dictionary=_REPEATING, write_statistics=flat)
    yield file
    file.close()


def hand_written(dataset: Path, target: Path, schema: pa.Schema, run: Callable[[Sequence[str]], Records]) -> int:
    """Run all rows of a dataset through a loop, into a table. Returns the number of rows."""
    rows = 0
    with writer(target, schema) as file:
        for batch in batches(dataset):
            file.append(run(batch.column("body").to_pylist()).table(batch, rows, schema))
            rows += batch.num_rows
    return rows


def measured(dataset: Path, folder: Path, schema: pa.Schema, run: Callable[[Sequence[str]], Records]) -> Any:
    """A loop over a dataset, ready to be measured."""
    few = folder / "few.parquet"
    pq.write_table(pa.Table.from_batches([next(batches(dataset)).slice(0, WARM_ITEMS)]), few)
    warm_up = warm(lambda: hand_written(few, folder / "few-rows.parquet", schema, run))
    target = folder / "rows.parquet"

    def work() -> tuple[int, dict[str, float]]:
        rows = hand_written(dataset, target, schema, run)
        return rows, {"result_bytes": target.stat().st_size}

    return work, warm_up


def three_nodes(bodies: Sequence[str]) -> Records:
    """The three nodes, one item after another."""
    kept = Records(THREE_NODES)
    outputs, started, durations = kept.outputs, kept.started, kept.durations
    node_started, node_durations, node_inputs, node_outputs = kept.node_started, kept.node_durations, kept.node_inputs, kept.node_outputs
    now, dumps = time.perf_counter_ns, orjson.dumps
    epoch = time.time_ns() - now()
    for body in bodies:
        item_began = began = now()
        first_in = {"text": body}
        first = clean(**first_in)
        ended = now()
        node_started.append((began + epoch) // 1000)
        node_durations.append((ended - began) / 1e6)
        node_inputs.append(dumps(first_in))
        node_outputs.append(dumps(first))
        began = now()
        second_in = {"text": first["text"], "length": first["length"]}
        second = score(**second_in)
        ended = now()
        node_started.append((began + epoch) // 1000)
        node_durations.append((ended - began) / 1e6)
        node_inputs.append(dumps(second_in))
        node_outputs.append(dumps(second))
        began = now()
        third_in = {"score": second["score"]}
        third = label(**third_in)
        ended = now()
        node_started.append((began + epoch) // 1000)
        node_durations.append((ended - began) / 1e6)
        node_inputs.append(dumps(third_in))
        node_outputs.append(dumps(third))
        outputs.append(dumps(third))
        started.append((item_began + epoch) // 1000)
        durations.append((ended - item_began) / 1e6)
    return kept


def three_async_nodes(bodies: Sequence[str]) -> Records:
    """The three nodes as coroutines, one item after another: they do not wait, so there is nothing to do meanwhile."""
    return asyncio.run(_three_async_nodes(bodies))


async def _three_async_nodes(bodies: Sequence[str]) -> Records:
    kept = Records(THREE_NODES)
    node_started, node_durations, node_inputs, node_outputs = kept.node_started, kept.node_durations, kept.node_inputs, kept.node_outputs
    now, dumps = time.perf_counter_ns, orjson.dumps
    epoch = time.time_ns() - now()
    for body in bodies:
        item_began = began = now()
        value: Any = None
        for node in (clean_later, score_later, label_later):
            if node is clean_later:
                given: dict[str, Any] = {"text": body}
            elif node is score_later:
                given = {"text": value["text"], "length": value["length"]}
            else:
                given = {"score": value["score"]}
            value = await node(**given)
            ended = now()
            node_started.append((began + epoch) // 1000)
            node_durations.append((ended - began) / 1e6)
            node_inputs.append(dumps(given))
            node_outputs.append(dumps(value))
            began = now()
        kept.outputs.append(dumps(value))
        kept.started.append((item_began + epoch) // 1000)
        kept.durations.append((ended - item_began) / 1e6)
    return kept


def in_batches(bodies: Sequence[str], max_items: int = 64) -> Records:
    """One node, called with many items at a time."""
    kept = Records(("weigh",))
    now, dumps = time.perf_counter_ns, orjson.dumps
    epoch = time.time_ns() - now()
    for start in range(0, len(bodies), max_items):
        some = list(bodies[start : start + max_items])
        began = now()
        values = weigh_many(some)
        count, duration = len(some), (now() - began) / 1e6
        kept.node_inputs.extend([dumps({"text": body}) for body in some])
        kept.node_outputs.extend(map(dumps, values))
        kept.outputs.extend(values)
        for moments, spent in ((kept.started, kept.durations), (kept.node_started, kept.node_durations)):
            moments.extend([(began + epoch) // 1000] * count)
            spent.extend([duration] * count)
    return kept
