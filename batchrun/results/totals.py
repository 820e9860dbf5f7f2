"""What became of all items: counters, per-node statistics and groups of failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from operator import itemgetter
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from batchrun.core.errors import ErrorRecord
from batchrun.core.items import DONE_STATUSES, ITEM_STATUSES, ItemResult, ItemStatus, Usage
from batchrun.results.durations import buckets_of, percentile
from batchrun.results.rows import ResultRows

_MAX_GROUPS = 100
_NO_CALLS = (0, 0, 0.0, 0.0, 0)
_NOTHING_USED = (0, 0, 0.0)
_status = itemgetter(1)
COUNTED = ["node_id", "node_type", "status", "attempts", "duration_ms", "cache_hit", "usage"]
"""The columns of node executions that are looked at to count them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTotals:
    """One node over all items.

    Attributes:
        calls: items the node was run for.
        attempts: calls made for them that were not throttled.
        cached: outputs that came from the cache.
        total_ms: sum of the durations of their last calls.
        max_ms: the longest of them.
        p50_ms: half of them took no longer, give or take 5 %; null in records of older versions.
        p95_ms: the same for 95 of 100.
        p99_ms: the same for 99 of 100.
        input_tokens: tokens that its calls sent, those of failed ones included.
        output_tokens: tokens that they were answered.
        cost: what they cost, in the unit of the budget.
    """

    node_id: str
    node_type: str
    calls: int
    attempts: int
    completed: int
    failed: int
    skipped: int
    total_ms: float
    max_ms: float
    cached: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup:
    """Failed items with the same error type at the same node.

    Attributes:
        error_type: class name; `other` for whatever comes after the first 100 groups.
        node_id: null when the item failed outside of a node, and for `other`.
        source_item_id: the first such item, as text.
        message: its error message.
    """

    error_type: str
    node_id: str | None
    count: int
    source_item_id: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultTotals:
    """What became of the items so far. Nodes are in plan order, failures with the largest group first.

    Attributes:
        total_items: the sum of the five counters by status.
        processed_items: items that are done: completed, failed or skipped.
        reused_items: those of them whose row a refresh took over from an earlier execution; what nodes did for them is not counted.
    """

    total_items: int
    processed_items: int
    completed_items: int
    failed_items: int
    skipped_items: int
    waiting_items: int
    cancelled_items: int
    nodes: tuple[NodeTotals, ...]
    failures: tuple[FailureGroup, ...]
    reused_items: int = 0

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> ResultTotals:
        """The totals whose `dataclasses.asdict` was written down as JSON."""
        nodes = tuple(NodeTotals(**node) for node in values["nodes"])
        return cls(**{**values, "nodes": nodes, "failures": tuple(FailureGroup(**group) for group in values["failures"])})

    @property
    def usage(self) -> Usage:
        """What all nodes have used."""
        nodes = self.nodes
        tokens = sum(node.input_tokens for node in nodes), sum(node.output_tokens for node in nodes)
        return Usage(*tokens, sum(node.cost for node in nodes))

    def counters(self) -> dict[str, int]:
        """The counters by their names, which are also those in the metadata of the result file; `reused_items` only where there are any."""
        counters = {field.name: getattr(self, field.name) for field in fields(self) if field.name.endswith("_items")}
        return counters if self.reused_items else {name: count for name, count in counters.items() if name != "reused_items"}


class _Counted(NamedTuple):
    """What a tally has counted; see its attributes."""

    items: Counter[str]
    groups: dict[tuple[str, str | None], FailureGroup]
    calls: dict[tuple[str, str], tuple[int, int, float, float, int]]
    durations: dict[str, Counter[int]]
    used: dict[str, tuple[int, int, float]]
    parts: dict[str, str]


class Tally:
    """Counts while results come in. One thread counts; `snapshot` may be called from any."""

    def __init__(self, nodes: Sequence[tuple[str, str]]) -> None:
        self._known = nodes
        self._ids = {node_id for node_id, _ in nodes}
        self._parts: dict[str, str] = {}  # types of nodes that were called as parts of calls, by id
        self._items: Counter[str] = Counter()
        self._reused = 0
        self._groups: dict[tuple[str, str | None], FailureGroup] = {}
        self._calls: dict[tuple[str, str], tuple[int, int, float, float, int]] = {}
        self._durations: dict[str, Counter[int]] = {}
        self._used: dict[str, tuple[int, int, float]] = {}

    def add_results(self, results: Sequence[ItemResult]) -> None:
        """Count items and group their failures."""
        self._items.update(map(_status, results))
        for result in results:
            if result.error is not None:
                self._add_failure(result.item.id, result.error)

    def add_items(self, rows: ResultRows) -> None:
        """The same with items that are rows already."""
        self._items.update(rows.statuses)
        for item_id, error in rows.failures:
            self._add_failure(item_id, error)

    def add_executions(self, rows: ResultRows) -> None:
        """Count the node executions of rows whose items are counted."""
        self._add_nodes(_executions(rows.batch.column("node_executions")) if rows.executions is None else rows.executions)

    def add_rows(self, batch: pa.RecordBatch) -> None:
        """Count rows of the result: those of items that were done before."""
        statuses = batch.column("status").dictionary_decode()
        self._items.update(statuses.to_pylist())
        failed = batch.filter(pc.equal(statuses, pa.scalar("failed"))).select(["source_item_id", "error"])
        for row in failed.to_pylist():
            self._add_failure(row["source_item_id"], ErrorRecord(**row["error"]))
        reused_from = batch.column("reused_from")
        self._reused += batch.num_rows - reused_from.null_count
        if reused_from.null_count:
            rows = batch.filter(reused_from.is_null()) if reused_from.null_count < batch.num_rows else batch
            self._add_nodes(_executions(rows.column("node_executions")))

    def add_unfinished(self, status: ItemStatus, count: int) -> None:
        """Count items that never ran."""
        self._items[status] += count

    def merge(self, other: Tally) -> None:
        """Count what another one has counted, of other items."""
        items, groups, calls, durations, used, parts = other.counted()
        self._items.update(items)
        self._parts |= parts
        for key, group in groups.items():
            key = key if key in self._groups or len(self._groups) < _MAX_GROUPS else ("other", None)  # noqa: PLW2901 - the same group
            known = self._groups.get(key, replace(group, error_type=key[0], node_id=key[1], count=0))
            self._groups[key] = replace(known, count=known.count + group.count)
        for of, (count, attempts, total_ms, max_ms, hits) in calls.items():
            before = self._calls.get(of, _NO_CALLS)
            sums = (before[0] + count, before[1] + attempts, before[2] + total_ms)
            self._calls[of] = (*sums, max(before[3], max_ms), before[4] + hits)
        for node_id, buckets in durations.items():
            self._durations.setdefault(node_id, Counter()).update(buckets)
        for node_id, amounts in used.items():
            sent, answered, cost = self._used.get(node_id, _NOTHING_USED)
            self._used[node_id] = (sent + amounts[0], answered + amounts[1], cost + amounts[2])

    def counted(self) -> _Counted:
        """All that was counted."""
        return _Counted(self._items, self._groups, self._calls, self._durations, self._used, self._parts)

    def _add_nodes(self, batch: pa.RecordBatch) -> None:
        """Count node executions, given as columns."""
        columns = pa.Table.from_batches([batch.select(COUNTED[:-1])])
        columns = columns.append_column("bucket", buckets_of(batch.column("duration_ms")))
        measures = [([], "count_all"), ("attempts", "sum"), ("duration_ms", "sum"), ("duration_ms", "max"), ("cache_hit", "sum")]
        groups = columns.group_by(["node_id", "node_type", "status", "bucket"], use_threads=False).aggregate(measures)
        for node_id, node_type, status, bucket, count, attempts, total_ms, max_ms, hits in zip(*groups.to_pydict().values(), strict=True):
            if node_id not in self._ids:
                self._parts[node_id] = node_type
            if status not in ("skipped", "waiting"):
                self._durations.setdefault(node_id, Counter())[bucket] += count
            known = self._calls.get((node_id, status), _NO_CALLS)
            sums = (known[0] + count, known[1] + attempts, known[2] + total_ms)
            self._calls[node_id, status] = (*sums, max(known[3], max_ms), known[4] + (hits or 0))
        if batch.column("usage").null_count < batch.num_rows:
            self._add_usage(batch)

    def _add_usage(self, batch: pa.RecordBatch) -> None:
        usage = batch.column("usage")
        used = pa.Table.from_arrays([batch.column("node_id"), *usage.flatten()], names=["node_id", *usage.type.names])
        sums = used.group_by("node_id", use_threads=False).aggregate([(name, "sum") for name in usage.type.names])
        for node_id, *added in zip(*sums.to_pydict().values(), strict=True):
            known = self._used.get(node_id, _NOTHING_USED)
            self._used[node_id] = (known[0] + (added[0] or 0), known[1] + (added[1] or 0), known[2] + (added[2] or 0.0))

    def durations(self) -> dict[str, dict[int, int]]:
        """The executions of each node by the bucket of their duration; see `batchrun.results.durations`."""
        return {node_id: dict(self._durations.get(node_id, {})) for node_id, _ in self._nodes}

    @property
    def _nodes(self) -> Iterator[tuple[str, str]]:
        """All nodes, each before those that it calls."""
        parts = dict(self._parts)
        for node_id, node_type in self._known:
            yield node_id, node_type
            yield from ((part, kind) for part, kind in parts.items() if part.startswith(f"{node_id}."))

    def snapshot(self) -> ResultTotals:
        """The counts as they are now."""
        items = dict(self._items)
        return ResultTotals(
            total_items=sum(items.values()),
            processed_items=sum(items.get(status, 0) for status in DONE_STATUSES),
            **{f"{status}_items": items.get(status, 0) for status in ITEM_STATUSES},
            nodes=tuple(self._node(node_id, node_type) for node_id, node_type in self._nodes),
            failures=tuple(sorted(dict(self._groups).values(), key=lambda group: -group.count)),
            reused_items=self._reused,
        )

    def _node(self, node_id: str, node_type: str) -> NodeTotals:
        by_status = {status: self._calls.get((node_id, status), _NO_CALLS) for status in ITEM_STATUSES}
        max_ms = max(max_ms for _, _, _, max_ms, _ in by_status.values())
        buckets = dict(self._durations.get(node_id, {}))
        input_tokens, output_tokens, cost = self._used.get(node_id, _NOTHING_USED)
        return NodeTotals(
            node_id=node_id,
            node_type=node_type,
            calls=sum(calls for status, (calls, *_) in by_status.items() if status not in ("skipped", "waiting")),
            attempts=sum(attempts for _, attempts, *_ in by_status.values()),
            completed=by_status["completed"][0],
            failed=by_status["failed"][0],
            skipped=by_status["skipped"][0],
            total_ms=sum(total_ms for _, _, total_ms, *_ in by_status.values()),
            max_ms=max_ms,
            cached=by_status["completed"][4],
            p50_ms=percentile(buckets, 0.5, max_ms),
            p95_ms=percentile(buckets, 0.95, max_ms),
            p99_ms=percentile(buckets, 0.99, max_ms),
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cost=cost,
        )

    def _add_failure(self, item_id: object, error: ErrorRecord) -> None:
        key = (error.type, error.node_id)
        if key not in self._groups and len(self._groups) >= _MAX_GROUPS:
            key = ("other", None)
        group = self._groups.get(key)
        if group is None:
            group = FailureGroup(error_type=key[0], node_id=key[1], count=0, source_item_id=str(item_id), message=error.message)
        self._groups[key] = replace(group, count=group.count + 1)


def _executions(column: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_struct_array(pc.list_flatten(column))
