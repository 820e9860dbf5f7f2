"""Node executions of a result as what is kept of items that have not ended, so that they go on behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from batchrun.core.errors import ErrorRecord
from batchrun.core.items import KeptNode, NodeRecord, PartRecord, Told, Usage
from batchrun.engine.keeping import code_of
from batchrun.workflows.plan import Step


class Executed(NamedTuple):
    """The node executions of one item of a result, as plain values."""

    nodes: Sequence[Mapping[str, Any]]

    def of_item(self, ordinal: int, item_index: int, steps: Sequence[Step]) -> Iterator[KeptNode]:
        """What of them holds for an item of a later execution.

        Failures do not hold, nor do nodes whose output nobody wrote down.

        Args:
            ordinal: of the item.
            item_index: of the item.
            steps: nodes that were not edited, and are after no edited one.
        """
        by_id = {node["node_id"]: node for node in self.nodes if "." not in node["node_id"]}
        for step in steps:
            node = by_id.get(step.id)
            if node is None or node["status"] not in ("completed", "skipped"):
                continue
            output = node["output"] if node["status"] == "completed" else "null"
            if output is None:
                continue
            parts = (each for each in self.nodes if each["node_id"].startswith(f"{step.id}.")) if step.has_parts else ()
            yield KeptNode(
                ordinal=ordinal,
                item_index=item_index,
                item_attempts=1,
                node_id=step.id,
                record=_record(node, step.position, has_output=False),
                output=output.encode(),
                parts=tuple(PartRecord(part["node_id"], part["node_type"], _record(part, -1, has_output=True)) for part in parts),
                code=code_of(step),
            )


def kept_nodes(executions: pa.ListArray) -> Iterator[Executed]:
    """The node executions of each item of a column `node_executions`."""
    values = executions.flatten()
    at = values.type.get_field_index("started_at")
    fields = [*values.type]
    columns = values.flatten()
    fields[at], columns[at] = pa.field("started_at", pa.int64()), columns[at].cast(pa.int64())
    plain = pa.StructArray.from_arrays(columns, fields=fields).to_pylist()
    start = 0
    for count in executions.value_lengths().to_pylist():
        yield Executed(plain[start : start + (count or 0)])
        start += count or 0


def _record(node: Mapping[str, Any], position: int, *, has_output: bool) -> NodeRecord:
    usage = Usage(**node["usage"]) if node["usage"] is not None else None
    if node["prompt"] is not None or node["external_id"] is not None:
        usage = Told.of(usage, node["prompt"], node["external_id"])
    return (
        position,
        node["status"],
        node["attempts"],
        node["started_at"],
        node["duration_ms"],
        _bytes(node["input"]),
        _bytes(node["output"]) if has_output else None,
        ErrorRecord(**node["error"]) if node["error"] is not None else None,
        node["call_key"],
        usage,
        bool(node["cache_hit"]),
    )


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
