"""`output.flatten`: the fields of the output as columns of the result file, and back again."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

_MARK = {b"batchrun.column": b"output"}
"""Field metadata of a column of the file that is a field of `output`."""


def is_of_output(field: pa.Field) -> bool:
    """Whether a column of the file is a field of the output, or all of it."""
    return field.name == "output" or (field.metadata or {}).get(b"batchrun.column") == b"output"


def flat_schema(schema: pa.Schema) -> pa.Schema:
    """The schema with the fields of `output`, a struct, in its place."""
    at = schema.get_field_index("output")
    fields = [field.with_metadata({**(field.metadata or {}), **_MARK}) for field in schema.field(at).type]
    return pa.schema([*list(schema)[:at], *fields, *list(schema)[at + 1 :]])


def flattened(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Rows with the fields of `output` as columns; those of a null are null."""
    at = batch.schema.get_field_index("output")
    return pa.RecordBatch.from_arrays([*batch.columns[:at], *batch.column(at).flatten(), *batch.columns[at + 1 :]], schema=schema)


def nested(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of the file with the column `output`, whether it was flattened or not; null where all its fields are."""
    schema = batch.schema
    positions = [at for at, field in enumerate(schema) if is_of_output(field)]
    if not positions or schema.field(positions[0]).name == "output":
        return batch
    fields = [_unmarked(schema.field(at)) for at in positions]
    columns = [batch.column(at) for at in positions]
    is_null = columns[0].is_null()
    for column in columns[1:]:
        is_null = pc.and_(is_null, column.is_null())
    output = pa.StructArray.from_arrays(columns, fields=fields, mask=is_null)
    first, after = positions[0], positions[-1] + 1
    whole = [*list(schema)[:first], pa.field("output", output.type), *list(schema)[after:]]
    return pa.RecordBatch.from_arrays([*batch.columns[:first], output, *batch.columns[after:]], schema=pa.schema(whole))


def _unmarked(field: pa.Field) -> pa.Field:
    metadata = {key: value for key, value in (field.metadata or {}).items() if key not in _MARK and not key.startswith(b"PARQUET:")}
    return field.with_metadata(metadata or None)
