"""The rows of an execution in a Delta table: one commit, which takes the place of an earlier one of the same execution."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batchrun.core.errors import ExecutionError
from batchrun.results.flat_values import flat_column

EXECUTION = "execution_id"
"""The column that tells the executions of a table apart."""

_ATTEMPTS = 5
_TYPES: list[tuple[Callable[[pa.DataType], bool], pa.DataType]] = [
    (pa.types.is_uint8, pa.int16()),
    (pa.types.is_uint16, pa.int32()),
    (pa.types.is_uint32, pa.int64()),
    (pa.types.is_uint64, pa.decimal128(20, 0)),
    (pa.types.is_float16, pa.float32()),
    (pa.types.is_null, pa.string()),
    (pa.types.is_time, pa.string()),
    (pa.types.is_duration, pa.float64()),
]


def write_delta(place: str, execution_id: str, batches: Callable[[], Iterator[pa.RecordBatch]]) -> None:
    """Write the rows of an execution to a table, in one commit.

    They get a column `execution_id` in front. Rows of the same execution that the table has already are replaced by the same
    commit, so that nobody ever sees none or both of them. New columns are added to the table.

    Args:
        place: folder or address of the table; made when it is not there.
        execution_id: names the execution.
        batches: reads the rows; at least one batch.

    Raises:
        ExecutionError: the library is missing, or the table cannot be written or is none of executions.
    """
    try:
        library, errors = import_module("deltalake"), import_module("deltalake.exceptions")
    except ImportError as error:
        raise ExecutionError("output.export delta needs the package deltalake: pip install 'batchrun[delta]'") from error
    try:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                _commit(library, place, execution_id, batches)
            except errors.CommitFailedError:  # another execution wrote to the table at the same time
                if attempt == _ATTEMPTS:
                    raise
            else:
                return
    except (errors.DeltaError, errors.SchemaMismatchError, OSError, ValueError, pa.ArrowException) as error:
        reason = str(error).split("\n", 1)[0][:300]
        raise ExecutionError(f"cannot write the Delta table {place}: {reason}; write to another one with output.export, path") from error


def _commit(library: Any, place: str, execution_id: str, batches: Callable[[], Iterator[pa.RecordBatch]]) -> None:
    table = library.DeltaTable(place) if library.DeltaTable.is_deltatable(place) else None
    before = None
    if table is not None:
        if EXECUTION not in [field.name for field in table.schema().fields]:
            raise ExecutionError(f"the Delta table {place} has no column {EXECUTION}, so it is none of results; choose another path")
        before = table.transaction_version(_app(execution_id))
    replaces = {"mode": "overwrite", "predicate": f"{EXECUTION} = '{execution_id}'"} if before is not None else {"mode": "append"}
    properties = library.CommitProperties(
        custom_metadata={EXECUTION: execution_id},
        app_transactions=[library.Transaction(_app(execution_id), 0 if before is None else before + 1)],
    )
    rows = _rows(execution_id, batches())
    if table is None and "://" not in place:
        Path(place).parent.mkdir(parents=True, exist_ok=True)
    library.write_deltalake(place if table is None else table, rows, schema_mode="merge", commit_properties=properties, **replaces)


def _app(execution_id: str) -> str:
    return f"batchrun/{execution_id}"


def _rows(execution_id: str, batches: Iterator[pa.RecordBatch]) -> pa.RecordBatchReader:
    first = _with_id(execution_id, next(batches))

    def converted() -> Iterator[pa.RecordBatch]:
        yield first
        for batch in batches:
            yield _with_id(execution_id, batch)

    return pa.RecordBatchReader.from_batches(first.schema, converted())


def _with_id(execution_id: str, batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [pa.repeat(pa.scalar(execution_id), batch.num_rows)]
    for column in batch.columns:
        plain = _without_times(column)
        columns.append(plain.cast(_type(plain.type)))
    return pa.RecordBatch.from_arrays(columns, names=[EXECUTION, *batch.schema.names])


def _without_times(column: pa.Array) -> pa.Array:
    """A column whose times of day are text and whose durations are seconds, in lists and objects as well."""
    kind = column.type
    if pa.types.is_time(kind) or pa.types.is_duration(kind):
        return flat_column(column)
    if pa.types.is_struct(kind):
        columns = [_without_times(inner) for inner in column.flatten()]
        fields = [pa.field(field.name, inner.type) for field, inner in zip(kind, columns, strict=True)]
        return pa.StructArray.from_arrays(columns, fields=fields, mask=column.is_null()) if fields else column
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        ends = pc.cumulative_sum(pc.fill_null(pc.list_value_length(column), 0).cast(pa.int64()))
        offsets = pa.concat_arrays([pa.array([0], pa.int64()), ends])
        return pa.LargeListArray.from_arrays(offsets, _without_times(column.flatten()), mask=column.is_null())
    return column


def _type(kind: pa.DataType) -> pa.DataType:
    """The type that Delta tables have for values of a type."""
    if isinstance(kind, pa.BaseExtensionType):
        return _type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _type(kind.value_type)
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz is not None else None)
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, _type(field.type)) for field in kind])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(_type(kind.value_type))
    return next((known for matches, known in _TYPES if matches(kind)), kind)
