"""Columns in types that every format knows."""

from __future__ import annotations

import base64

import pyarrow as pa
import pyarrow.compute as pc

_UNITS_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


def flat_column(column: pa.Array) -> pa.Array:
    """A column in types that CSV and JSON know: times as ISO 8601 text, durations in seconds, bytes in base64."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_timestamp(kind):
        if kind.tz is None:
            return pc.strftime(column, format="%Y-%m-%dT%H:%M:%S")
        return pc.strftime(column.cast(pa.timestamp(kind.unit, "UTC")), format="%Y-%m-%dT%H:%M:%SZ")
    if pa.types.is_time(kind):
        return column.cast(pa.string())
    if pa.types.is_duration(kind):
        return pc.divide(column.cast(pa.int64()).cast(pa.float64()), pa.scalar(_UNITS_PER_SECOND[kind.unit]))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.array([None if value is None else base64.b64encode(value) for value in column.to_pylist()], pa.string())
    return column
