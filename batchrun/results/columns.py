"""Turning finished items into record batches: each value is encoded once, a column at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain, groupby
from operator import itemgetter
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from batchrun.core.errors import ErrorRecord
from batchrun.core.items import ITEM_STATUSES, Item, ItemResult, ItemStatus, NodeRecord, Told, Usage
from batchrun.results.reorder import about_bytes
from batchrun.results.rows import ResultRows, ascending
from batchrun.results.schema import ERROR, NODE_EXECUTION, TIMESTAMP, USAGE, ResultLayout
from batchrun.results.totals import COUNTED

_STATUS_CODES = {status: code for code, status in enumerate(ITEM_STATUSES)}
_STATUSES = pa.array(ITEM_STATUSES, pa.string())
# Arrow scalars, because a plain number makes pyarrow look for numpy on the disk, every time.
_FAILED = pa.scalar(_STATUS_CODES["failed"], pa.int8())
_MICROSECONDS = pa.scalar(1000.0)
_NULL_TEXT = pa.scalar(None, pa.string())
FEWEST_ROWS = 200
"""Rows of fewer results cost more than is saved by making them at once."""
_MOST_BYTES = 16 * 2**20  # the writer makes more of them in parts: no column of a batch may reach 2 GiB
_NO_ERROR = ErrorRecord("", "", None, retryable=False, http_status=None, traceback=None)
_NODE_SCHEMA = pa.schema(list(NODE_EXECUTION))
_window = itemgetter(Item._fields.index("window"))  # of tuples: faster than by name
_row = itemgetter(Item._fields.index("row"))
_position = itemgetter(0)


class _Constant:
    """A column of one value, made once and sliced.

    To make it, pyarrow gives up the interpreter lock; beside busy threads, getting it back takes 5 ms.
    """

    def __init__(self, value: Any, kind: pa.DataType) -> None:
        self._value = pa.scalar(value, kind)
        self._column = pa.repeat(self._value, 0)

    def __call__(self, count: int) -> pa.Array:
        column = self._column  # several threads use it
        if len(column) < count:
            self._column = column = pa.repeat(self._value, 2 * count)
        return column.slice(0, count)


class _Mostly:
    """A column that mostly has one value in all rows, and then is that constant.

    To look whether it does takes a tenth of the time that making the column takes.
    """

    def __init__(self, value: Any, kind: pa.DataType) -> None:
        self._value = value
        self._kind = kind
        self._constant = _Constant(value, kind)

    def __call__(self, values: list[Any]) -> pa.Array:
        is_constant = values.count(self._value) == len(values)
        return self._constant(len(values)) if is_constant else pa.array(values, self._kind)


_null_text = _Constant(None, pa.string())
_null_error = _Constant(None, ERROR)
_null_usage = _Constant(None, USAGE)
_zeros = _Constant(0, pa.int32())
_attempts = _Mostly(1, pa.int32())
_node_statuses = _Mostly("completed", pa.string())
_status_codes = _Mostly(_STATUS_CODES["completed"], pa.int8())
_call_keys = _Mostly(None, pa.string())
_hits = _Mostly(False, pa.bool_())


class ResultColumns:
    """Makes rows of the result; from any thread.

    Args:
        layout: what the table looks like.
    """

    def __init__(self, layout: ResultLayout) -> None:
        self.layout = layout
        self.schema = layout.schema
        self._json_output = layout.output_type is None
        self._node_ids = pa.array([node_id for node_id, _ in layout.nodes], pa.string())
        self._node_types = pa.array([node_type for _, node_type in layout.nodes], pa.string())
        self._known = _Names([], self._node_ids[:0], self._node_types[:0])

    def packed(self, results: Sequence[ItemResult]) -> ResultRows | None:
        """The rows of results that come in any order; null for a few, and for those of which no rows can be made: `rows` tells why."""
        if len(results) < FEWEST_ROWS or about_bytes(results) > _MOST_BYTES:
            return None
        try:
            rows = self.rows(*ascending(results))
        except Exception:  # a thread that runs items must not end of it, and the writer's comes to the same and tells
            return None
        return rows if rows.size_bytes <= _MOST_BYTES and len(set(rows.ordinals)) == len(rows.ordinals) else None

    def rows(self, results: Sequence[ItemResult], ordinals: Sequence[int]) -> ResultRows:
        """The rows of results.

        Args:
            results: in ascending order.
            ordinals: of their items.

        Raises:
            pa.ArrowException: a value does not fit its column.
        """
        items, statuses, outputs, errors, attempts, started, durations, nodes = _transposed(results, len(ItemResult._fields))
        started_at = _timestamps(started)
        duration_ms = pa.array(durations, pa.float64())
        counts = _counts(statuses)
        status = _status_codes(list(map(_STATUS_CODES.__getitem__, statuses)))
        node_executions, hidden = self._node_executions(nodes, status)
        columns = {
            "status": pa.DictionaryArray.from_arrays(status, _STATUSES),
            "output": _json(outputs) if self._json_output else pa.array(outputs, self.schema.field("output").type),
            "error": _errors(errors),
            "attempts": _attempts(attempts),
            "started_at": started_at,
            "completed_at": _completed_at(started_at, duration_ms),
            "duration_ms": duration_ms,
            "reused_from": _null_text(len(results)),
            "node_executions": node_executions,
        }
        failures = [(item.id, error) for item, error in zip(items, errors, strict=True) if error is not None] if any(errors) else ()
        batch = self._assemble(_source(items), columns)
        return ResultRows(ordinals, batch, hidden, counts, failures, batch.get_total_buffer_size())

    def unfinished(self, source: pa.RecordBatch, status: ItemStatus) -> pa.RecordBatch:
        """One row per row of `source`, for items that never ran."""
        count = source.num_rows
        codes = pa.repeat(pa.scalar(_STATUS_CODES[status], pa.int8()), count)
        node_executions = self.schema.field("node_executions").type
        columns = {field.name: pa.nulls(count, field.type) for field in self.schema if field.name not in source.schema.names} | {
            "status": pa.DictionaryArray.from_arrays(codes, _STATUSES),
            "attempts": _zeros(count),
            "node_executions": pa.ListArray.from_arrays(_zeros(count + 1), pa.array([], node_executions.value_type), type=node_executions),
        }
        return self._assemble(source, columns)

    def _assemble(self, source: pa.RecordBatch, columns: dict[str, pa.Array]) -> pa.RecordBatch:
        arrays = [columns[name] if name in columns else source.column(name) for name in self.schema.names]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _node_executions(self, nodes: list[Sequence[NodeRecord]], status: pa.Array) -> tuple[pa.Array, pa.RecordBatch | None]:
        """The column, and the executions themselves where it does not have all of them."""
        counts = list(map(len, nodes))
        records = self._records(list(chain.from_iterable(nodes)), self._occurrences(nodes))
        offsets = pa.array(list(accumulate(counts, initial=0)), pa.int32())
        if self.layout.node_executions == "full":
            return pa.ListArray.from_arrays(offsets, records.to_struct_array()), None
        failed = pc.equal(status, _FAILED)
        shown = failed.take(pc.list_parent_indices(pa.ListArray.from_arrays(offsets, records.column("occurrence"))))
        if self.layout.node_executions == "summary":
            for name in ("input", "output", "prompt"):
                text = pc.if_else(shown, records.column(name), _NULL_TEXT)
                records = records.set_column(records.schema.get_field_index(name), records.schema.field(name), text)
            return pa.ListArray.from_arrays(offsets, records.to_struct_array()), None
        kept = [count if flag else 0 for count, flag in zip(counts, failed.to_pylist(), strict=True)]
        offsets = pa.array(list(accumulate(kept, initial=0)), pa.int32())
        return pa.ListArray.from_arrays(offsets, records.filter(shown).to_struct_array()), records.select(COUNTED)

    def _occurrences(self, nodes: list[Sequence[NodeRecord]]) -> pa.Array:
        """How many executions of the same node each one follows in its item: only parts of calls run more than once."""
        if not self.layout.parts:
            return _zeros(sum(map(len, nodes)))
        occurrences: list[int] = []
        for each in nodes:
            positions = list(map(_position, each))
            if len(set(positions)) == len(positions):
                occurrences += [0] * len(positions)
                continue
            counts = Counter[int]()
            for position in positions:
                occurrences.append(counts[position])
                counts[position] += 1
        return pa.array(occurrences, pa.int32())

    def _named(self, positions: list[int]) -> tuple[pa.Array, pa.Array]:
        """Ids and types of nodes by their positions: mostly the same ones in the same order as in the batch before."""
        if not self.layout.parts:
            known, count = self._known, len(positions)
            if known.positions[:count] != positions:
                indices = pa.array(positions, pa.int32())
                self._known = known = _Names(positions, self._node_ids.take(indices), self._node_types.take(indices))
            return known.ids.slice(0, count), known.types.slice(0, count)
        nodes = [*self.layout.nodes, *reversed(self.layout.parts)]  # which counts from its end as negative positions do
        indices = pa.array([position if position >= 0 else len(nodes) + position for position in positions], pa.int32())
        return tuple(pa.array(names, pa.string()).take(indices) for names in zip(*nodes, strict=True))

    def _records(self, records: list[NodeRecord], occurrences: pa.Array) -> pa.RecordBatch:
        """The node executions of all items of a batch, one after another."""
        positions, statuses, attempts, started, durations, inputs, outputs, errors, call_keys, usages, hits = _transposed(records, 11)
        is_told = any(usages)
        ids, types = self._named(positions)
        columns = {
            "node_id": ids,
            "node_type": types,
            "occurrence": occurrences,
            "status": _node_statuses(statuses),
            "attempts": _attempts(attempts),
            "started_at": _timestamps(started),
            "duration_ms": pa.array(durations, pa.float64()),
            "input": _json(inputs),
            "output": _json(outputs),
            "prompt": _said(usages, "prompt") if is_told else _null_text(len(records)),
            "error": _errors(errors),
            "cache_hit": _hits(hits),
            "call_key": _call_keys(call_keys),
            "external_id": _said(usages, "external_id") if is_told else _null_text(len(records)),
            "usage": pa.array(list(map(_used, usages)), USAGE) if is_told else _null_usage(len(records)),
        }
        return pa.RecordBatch.from_arrays(list(columns.values()), schema=_NODE_SCHEMA)


class _Names(NamedTuple):
    """Ids and types of the nodes at these positions."""

    positions: list[int]
    ids: pa.Array
    types: pa.Array


def _counts(statuses: list[ItemStatus]) -> Mapping[ItemStatus, int]:
    count = len(statuses)
    return {"completed": count} if statuses.count("completed") == count else Counter(statuses)


def _transposed(rows: Iterable[Sequence[Any]], width: int) -> list[list[Any]]:
    """The columns of equally long tuples. Three times as fast as `zip(*rows)`, which makes an iterator per row."""
    flat = list(chain.from_iterable(rows))
    return [flat[column::width] for column in range(width)]


def _timestamps(microseconds: list[int | None]) -> pa.Array:
    return pa.array(microseconds, pa.int64()).view(TIMESTAMP)  # a third faster than one value by one


def _json(texts: list[bytes | None]) -> pa.Array:
    # Arrow checks UTF-8 a whole column at a time when it casts, and value by value when it converts.
    return pa.array(texts, pa.binary()).cast(pa.string())


def _text(values: list[str | None]) -> pa.Array:
    """Text that users and systems wrote: file names and messages can hold what has no UTF-8 form."""
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        return pa.array([None if value is None else value.encode("utf-8", "backslashreplace") for value in values], pa.string())


def _said(usages: list[Usage | None], name: str) -> pa.Array:
    """What calls said about themselves besides what they used."""
    return _text([getattr(usage, name) if isinstance(usage, Told) else None for usage in usages])


def _used(usage: Usage | None) -> Usage | None:
    """What calls used; null when all they said was something else."""
    return None if isinstance(usage, Told) and not any(usage) else usage


def _errors(errors: list[ErrorRecord | None]) -> pa.Array:
    if not any(errors):
        return _null_error(len(errors))
    columns = _transposed([error or _NO_ERROR for error in errors], len(ERROR))
    arrays = [
        _text(column) if pa.types.is_string(field.type) else pa.array(column, field.type)
        for column, field in zip(columns, ERROR, strict=True)
    ]
    return pa.StructArray.from_arrays(arrays, fields=list(ERROR), mask=pa.array([error is None for error in errors]))


def _completed_at(started_at: pa.Array, duration_ms: pa.Array) -> pa.Array:
    microseconds = pc.round(pc.multiply(duration_ms, _MICROSECONDS)).cast(pa.int64())
    return pc.add(started_at.view(pa.int64()), microseconds).view(TIMESTAMP)


def _source(items: list[Item]) -> pa.RecordBatch:
    """The copied source columns of items in ascending order: slices and takes of their windows, never Python values."""
    pieces = []
    for window, group in groupby(items, key=_window):
        rows = list(map(_row, group))
        first, count = rows[0], len(rows)
        together = rows == list(range(first, first + count))
        pieces.append(window.columns.slice(first, count) if together else window.columns.take(pa.array(rows, pa.int64())))
    return pieces[0] if len(pieces) == 1 else pa.concat_batches(pieces)
