"""The columns of the result table and their types."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from batchrun.workflows.types import TypeSpec, decimal_of, field_name

JSON_MARK = {b"batchrun.encoding": b"json"}
"""Field metadata of plain string columns that hold JSON text."""

TIMESTAMP = pa.timestamp("us", "UTC")
STATUS = pa.dictionary(pa.int8(), pa.string())

ERROR = pa.struct(
    [
        ("type", pa.string()),
        ("message", pa.string()),
        ("node_id", pa.string()),
        ("retryable", pa.bool_()),
        ("http_status", pa.int32()),
        ("traceback", pa.string()),
    ]
)
"""The fields of `batchrun.core.errors.ErrorRecord`."""

USAGE = pa.struct([("input_tokens", pa.int64()), ("output_tokens", pa.int64()), ("cost", pa.float64())])

NODE_EXECUTION = pa.struct(
    [
        ("node_id", pa.string()),
        ("node_type", pa.string()),
        ("occurrence", pa.int32()),
        ("status", pa.string()),
        ("attempts", pa.int32()),
        ("started_at", TIMESTAMP),
        ("duration_ms", pa.float64()),
        pa.field("input", pa.string(), metadata=JSON_MARK),
        pa.field("output", pa.string(), metadata=JSON_MARK),
        ("prompt", pa.string()),
        ("error", ERROR),
        ("cache_hit", pa.bool_()),
        ("call_key", pa.string()),
        ("external_id", pa.string()),
        ("usage", USAGE),
    ]
)

_OUTCOME = (
    pa.field("error", ERROR),
    pa.field("attempts", pa.int32()),
    pa.field("started_at", TIMESTAMP),
    pa.field("completed_at", TIMESTAMP),
    pa.field("duration_ms", pa.float64()),
    pa.field("reused_from", pa.string()),
    pa.field("node_executions", pa.list_(NODE_EXECUTION)),
)
RESULT_COLUMNS = ("source_item_id", "item_index", "status", "output", *(field.name for field in _OUTCOME))
"""The columns every result has; a kept source column must have another name."""

_SCALARS = {
    "string": pa.string(),
    "bool": pa.bool_(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": TIMESTAMP,
    "duration": pa.duration("us"),
    "json": pa.string(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultLayout:
    """What the result table of one execution looks like.

    Attributes:
        window_schema: `source_item_id`, `item_index` and the kept source columns, with their types in the source.
        nodes: id and type of each node, by its position in the plan.
        parts: id and type of each node that runs as part of a call of another one; grows while items run. The n-th has the position -1 - n.
        output_type: type of the `output` column; null: JSON text.
        node_executions: `full`: with inputs and outputs; `summary`: without them; `none`: no node records. Failed rows
            are always full.
        flatten: the file has a column for each field of the output, a struct, in the place of `output`.
    """

    window_schema: pa.Schema
    nodes: tuple[tuple[str, str], ...]
    output_type: TypeSpec | None = None
    node_executions: Literal["full", "summary", "none"] = "full"
    parts: list[tuple[str, str]] = field(default_factory=list)
    flatten: bool = False

    @property
    def schema(self) -> pa.Schema:
        """Every column of the result, in order."""
        return pa.schema(
            [
                *(self.window_schema.field(name) for name in ("source_item_id", "item_index")),
                pa.field("status", STATUS),
                arrow_field("output", "json" if self.output_type is None else self.output_type),
                *_OUTCOME,
                *(self.window_schema.field(name) for name in self.kept),
            ]
        )

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of the kept source columns."""
        return tuple(name for name in self.window_schema.names if name not in RESULT_COLUMNS)


def arrow_field(name: str, spec: TypeSpec) -> pa.Field:
    """The Arrow field of a type spec. JSON text is a plain string, marked in the field's metadata.

    Example:
        >>> arrow_field("output", {"label": "string", "scores": ["float64"]}).type
        StructType(struct<label: string, scores: list<item: double>>)
    """
    if isinstance(spec, dict):
        return pa.field(name, pa.struct([arrow_field(field_name(key), inner) for key, inner in spec.items()]))
    if isinstance(spec, list):
        return pa.field(name, pa.list_(arrow_field("item", spec[0])))
    digits = decimal_of(spec)
    if digits is not None:
        return pa.field(name, pa.decimal128(*digits))
    return pa.field(name, _SCALARS[spec], metadata=JSON_MARK if spec == "json" else None)


def is_json(field: pa.Field) -> bool:
    """Whether a string field holds JSON text."""
    return bool(field.metadata) and field.metadata.get(b"batchrun.encoding") == b"json"
