"""One item of an execution, wherever it is written down; and what the journal says of all of them while there is no result."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchrun.core.errors import BatchrunError
from batchrun.core.items import DONE_STATUSES, ItemResult, KeptNode, RestoredItem, Told, shown_id
from batchrun.results.columns import ResultColumns
from batchrun.results.exports import json_lines
from batchrun.results.flat import nested
from batchrun.results.flat_values import flat_column
from batchrun.results.reader import RESULT_FILE, open_results
from batchrun.results.recovery import Recovered
from batchrun.results.schema import NODE_EXECUTION, RESULT_COLUMNS, ResultLayout
from batchrun.results.totals import ResultTotals, Tally

_BATCH_ROWS = 8192
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class NoSuchItem(BatchrunError):
    """No item of an execution has this id. The message names an id there is."""

    def __init__(self, text: str, folder: Path, example: str | None) -> None:
        known = f"an id there is: {example!r}" if example is not None else "no item of it has ended so far"
        super().__init__(f"there is no item {text!r} in {folder}; {known}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundItem:
    """One item of an execution.

    Attributes:
        row: its row as plain values, in the form of the `ndjson` export. An item that is open has the status `running`, or
            `pending` when nothing of it is written down, and the nodes that ended so far; one of them that has been called and
            has not ended is `running`, too.
        is_open: whether it has not ended, as far as is written down.
    """

    row: Mapping[str, Any]
    is_open: bool


class _Place(NamedTuple):
    """An item as it stands in a file: its ordinal and, as a batch of one row, what the file says of it."""

    ordinal: int
    row: pa.RecordBatch


def find_item(
    folder: Path, text: str, *, from_journal: bool, dataset: Iterator[tuple[Sequence[int], pa.RecordBatch]] | None = None
) -> FoundItem:
    """The item that people mean, from the result or from the journal. Reads without a lock: a process that runs it is not disturbed.

    Args:
        folder: the execution's folder.
        text: its `source_item_id`, as text in the form of the `ndjson` export.
        from_journal: the result, if there is one, is not that of the last run, so only the journal knows how the item is.
        dataset: gives the ordinals of all items and their columns `source_item_id`, `item_index` and the kept ones, in any number
            of parts. Read only if it must be: the journal does not know the ids of items that have never ended.

    Raises:
        NoSuchItem: no item has this id.
        ExecutionError: a file cannot be read.

    Example:
        >>> find_item(folder, "ticket 17", from_journal=False).row["status"]  # doctest: +SKIP
        'failed'
    """
    search = _Search(text)
    known = _in_result(folder, search)
    if known is not None and not from_journal:
        row = _plain(known.row)
        return FoundItem(row=row if row["status"] in DONE_STATUSES else _with_kept_nodes(row, folder, known.ordinal), is_open=False)
    if not from_journal and search.example is not None:  # the result has a row for every item
        raise NoSuchItem(text, folder, search.example)
    recovered = Recovered(folder)
    ended = _among(recovered.rows(), search)
    if ended is not None:
        return FoundItem(row=_plain(ended.row), is_open=False)
    if known is None and dataset is not None:
        known = _among(dataset, search)
    if known is None:
        raise NoSuchItem(text, folder, search.example)
    recovered.read_open_items()
    return FoundItem(row=_open_row(_plain(known.row), recovered.item(known.ordinal)), is_open=True)


def journal_totals(folder: Path, nodes: Sequence[tuple[str, str]]) -> ResultTotals:
    """What became of the items that are done, as the journal says: counters, nodes and failures as in a result of these items alone.

    Args:
        folder: the execution's folder.
        nodes: id and type of each node, in the order of the job.

    Raises:
        ExecutionError: the journal cannot be read.
    """
    tally = Tally(nodes)
    for _, rows in Recovered(folder).rows():
        tally.add_rows(rows)
    return tally.snapshot()


class _Search:
    """Looks for an id, and remembers one it came across."""

    def __init__(self, text: str) -> None:
        self._text = pa.scalar(text.encode(errors="replace").decode(), pa.string())  # an argument may hold bytes that are no text
        self.example: str | None = None

    def position(self, ids: pa.Array) -> int | None:
        """The position of the id that is looked for."""
        texts = _texts(ids)
        if self.example is None and len(texts):
            self.example = texts[0].as_py()
        position = pc.index(texts, self._text).as_py()
        return None if position < 0 else position


def _texts(ids: pa.Array) -> pa.Array:
    """Ids as text."""
    plain = flat_column(ids)
    if pa.types.is_integer(plain.type) or pa.types.is_large_string(plain.type):
        return plain.cast(pa.string())
    return plain if pa.types.is_string(plain.type) else pa.array([str(value) for value in plain.to_pylist()], pa.string())


def _among(rows: Iterator[tuple[Sequence[int], pa.RecordBatch]], search: _Search) -> _Place | None:
    for ordinals, batch in rows:
        position = search.position(batch.column("source_item_id"))
        if position is not None:
            return _Place(ordinals[position], batch.slice(position, 1))
    return None


def _in_result(folder: Path, search: _Search) -> _Place | None:
    """The row of an item in the result. Its position there is its ordinal: there is a row for each item, in their order."""
    if not (folder / RESULT_FILE).exists():
        return None
    with open_results(folder) as file:
        first = 0
        for batch in file.iter_batches(_BATCH_ROWS, columns=["source_item_id"]):
            position = search.position(batch.column(0))
            if position is not None:
                return _Place(first + position, _row(file, first + position))
            first += batch.num_rows
    return None


def _row(file: pq.ParquetFile, position: int) -> pa.RecordBatch:
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if position < rows:
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group]):
                if position < batch.num_rows:
                    return batch.slice(position, 1)
                position -= batch.num_rows
        position -= rows
    raise AssertionError("the file has fewer rows than ids")


def _plain(row: pa.RecordBatch) -> dict[str, Any]:
    (line,) = json_lines(nested(row))
    plain: dict[str, Any] = json.loads(line)  # not orjson, which refuses half characters and shortens large integers
    return plain


def _with_kept_nodes(row: dict[str, Any], folder: Path, ordinal: int) -> dict[str, Any]:
    """The row of an item that was not run to its end, with the nodes that ended in any of its runs."""
    recovered = Recovered(folder)
    recovered.read_open_items()
    restored = recovered.item(ordinal)
    nodes = {node["node_id"]: node for node in _kept(restored)}
    told = [{**node, **_since_then(node, nodes.pop(node["node_id"], None))} for node in row["node_executions"]]
    return {**row, "node_executions": [*nodes.values(), *told]}


def _since_then(told: Mapping[str, Any], kept: Mapping[str, Any] | None) -> dict[str, Any]:
    """What has become of a node that waited for a person at the end of the run: since when it does, or what was decided."""
    if told["status"] != "waiting" or kept is None:
        return {}
    return {"started_at": kept["started_at"]} if kept["status"] == "waiting" else {"checkpoint": kept.get("checkpoint")}


def row_of(layout: ResultLayout, result: ItemResult) -> dict[str, Any]:
    """The row of one item as plain values, in the form of the `ndjson` export, without a file."""
    return _plain(ResultColumns(layout).rows([result], [result.item.ordinal]).batch)


def _open_row(known: Mapping[str, Any], restored: RestoredItem | None) -> dict[str, Any]:
    nodes = _kept(restored)
    return dict.fromkeys(RESULT_COLUMNS) | {
        "source_item_id": known["source_item_id"],
        "item_index": known["item_index"],
        "status": "pending" if restored is None else "running",
        "attempts": 0 if restored is None else restored.attempts,
        "started_at": min((node["started_at"] for node in nodes if node["started_at"] is not None), default=None),
        "node_executions": nodes,
        **{name: value for name, value in known.items() if name not in RESULT_COLUMNS},
    }


def _kept(restored: RestoredItem | None) -> list[dict[str, Any]]:
    """The nodes of an open item as in a row, those that have not ended last."""
    nodes = restored.nodes if restored is not None else ()
    order = {node.node_id: node.record[0] if node.record is not None else len(nodes) for node in nodes}
    return [_node(node) for node in sorted(nodes, key=lambda node: (node.record is None, order[node.node_id]))]


def _node(node: KeptNode) -> dict[str, Any]:
    if node.record is None:
        told: dict[str, Any] = {"status": "running", "attempts": node.node_attempts, "checkpoint": _loaded(node.checkpoint)}
    else:
        _, status, attempts, started_at, duration_ms, given, output, error, call_key, usage = node.record[:10]
        told = {
            "status": status,
            "attempts": attempts,
            "started_at": None if started_at is None else _time(started_at),
            "duration_ms": duration_ms,
            "input": _loaded(given),
            "output": _loaded(node.output if node.output is not None else output),
            "error": error._asdict() if error is not None else None,
            "call_key": call_key,
            "usage": usage._asdict() if usage is not None else None,
            "prompt": usage.prompt if isinstance(usage, Told) else None,
            "external_id": usage.external_id if isinstance(usage, Told) else None,
            "cache_hit": any(node.record[10:]),
        }
    return {**dict.fromkeys(field.name for field in NODE_EXECUTION), "node_id": shown_id(node.node_id), "occurrence": 0, **told}


def _loaded(text: bytes | None) -> Any:
    return None if text is None else json.loads(text)


def _time(microseconds: int) -> str:
    return f"{_EPOCH + timedelta(microseconds=microseconds):%Y-%m-%dT%H:%M:%S.%fZ}"
