"""The work all benchmarks share: a dataset, three small functions, and a hand-written loop that does the same."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from batchrun import Dataset, Job, Output, Run, Workflow
from batchrun.nodes.python import PythonNode

_ROWS_PER_BATCH = 10_000
_NODES = (("clean", "python"), ("score", "python"), ("label", "python"))


def clean(text: str) -> dict[str, Any]:
    """First node."""
    return {"text": text.strip().lower(), "length": len(text)}


def score(text: str, length: int) -> dict[str, Any]:
    """Second node."""
    return {"score": length * 0.5, "start": text[:4]}


def label(score: float) -> dict[str, Any]:
    """Third node."""
    return {"label": "long" if score > 8 else "short", "score": score}


def make_dataset(path: Path, rows: int) -> Path:
    """A Parquet file of `id`, `body` and `priority`, in row groups of 100,000."""
    frame = pl.select(id=pl.int_range(rows, eager=False)).with_columns(
        body=pl.format("  Ticket {} about a Thing ", pl.col("id") % 1013), priority=(pl.col("id") % 5).cast(pl.Int8)
    )
    frame.write_parquet(path, row_group_size=100_000)
    return path


def three_nodes(dataset: Path, runs: Path) -> Job:
    """The job: three sync nodes, everything recorded."""
    nodes = (
        PythonNode(id="clean", call=clean, inputs={"text": "{{ item.body }}"}),
        PythonNode(id="score", call=score, inputs={"text": "{{ nodes.clean.output.text }}", "length": "{{ nodes.clean.output.length }}"}),
        PythonNode(id="label", call=label, inputs={"score": "{{ nodes.score.output.score }}"}),
    )
    return Job(
        name="three-nodes",
        dataset=Dataset(path=str(dataset), id="id"),
        workflow=Workflow(nodes=nodes),
        run=Run(),
        output=Output(path=str(runs), keep=("priority",)),
    )


def hand_written(dataset: Path, target: Path, schema: pa.Schema) -> int:
    """The same work in a plain loop, into the same table. Returns the number of rows."""
    rows = 0
    with pq.ParquetWriter(target, schema, compression="zstd", compression_level=1) as writer:
        index = 0
        for batch in pq.ParquetFile(dataset, pre_buffer=False).iter_batches(_ROWS_PER_BATCH, columns=["id", "body", "priority"]):
            writer.write_batch(_run_batch(batch, index, schema))
            index += batch.num_rows
            rows += batch.num_rows
    return rows


def _run_batch(batch: pa.RecordBatch, index: int, schema: pa.Schema) -> pa.RecordBatch:
    outputs: list[bytes] = []
    started: list[int] = []
    durations: list[float] = []
    node_started: list[int] = []
    node_durations: list[float] = []
    node_inputs: list[bytes] = []
    node_outputs: list[bytes] = []
    now, dumps = time.perf_counter_ns, orjson.dumps
    epoch = time.time_ns() - now()
    for body in batch.column("body").to_pylist():
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
    count = batch.num_rows
    node_columns = {
        "node_id": pa.array([id for id, _ in _NODES] * count, pa.string()),
        "node_type": pa.array([node_type for _, node_type in _NODES] * count, pa.string()),
        "occurrence": pa.array([0] * (3 * count), pa.int32()),
        "status": pa.array(["completed"] * (3 * count), pa.string()),
        "attempts": pa.array([1] * (3 * count), pa.int32()),
        "started_at": pa.array(node_started, pa.int64()).cast(pa.timestamp("us", "UTC")),
        "duration_ms": pa.array(node_durations, pa.float64()),
        "input": pa.array(node_inputs, pa.binary()).cast(pa.string()),
        "output": pa.array(node_outputs, pa.binary()).cast(pa.string()),
        "cache_hit": pa.array([False] * (3 * count), pa.bool_()),
    }
    node_type = schema.field("node_executions").type.value_type
    nodes = pa.StructArray.from_arrays(
        [node_columns.get(field.name, pa.nulls(3 * count, field.type)) for field in node_type], fields=list(node_type)
    )
    columns = {
        "source_item_id": batch.column("id"),
        "item_index": pa.array(range(index, index + count), pa.int64()),
        "status": pa.array(["completed"] * count, pa.string()).cast(schema.field("status").type),
        "output": pa.array(outputs, pa.binary()).cast(pa.string()),
        "attempts": pa.array([1] * count, pa.int32()),
        "started_at": pa.array(started, pa.int64()).cast(pa.timestamp("us", "UTC")),
        "completed_at": pa.array([int(a + b * 1e3) for a, b in zip(started, durations, strict=True)], pa.int64()).cast(
            pa.timestamp("us", "UTC")
        ),
        "duration_ms": pa.array(durations, pa.float64()),
        "node_executions": pa.ListArray.from_arrays(
            pa.array(range(0, 3 * count + 1, 3), pa.int32()), nodes, type=schema.field("node_executions").type
        ),
        "priority": batch.column("priority"),
    }
    return pa.RecordBatch.from_arrays([columns.get(field.name, pa.nulls(count, field.type)) for field in schema], schema=schema)
