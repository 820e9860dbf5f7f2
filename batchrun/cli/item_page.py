"""The page of one item: its row and everything that was done for it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from batchrun.cli.page import field
from batchrun.cli.text import counted, local_time, safe
from batchrun.core.errors import BatchrunError, ExecutionError
from batchrun.execution import Record, reopen_dataset
from batchrun.results import RESULT_COLUMNS, FoundItem
from batchrun.workflows.decisions import decision_of

if TYPE_CHECKING:
    import pyarrow as pa

    from batchrun.client import Execution

_LINE_CHARS = 100
_VALUE_CHARS = 5_000
_BEGAN = {"waiting": "since"}


def item_page(execution: Execution, found: FoundItem) -> str:
    """All there is to say about an item."""
    return "\n".join(_lines(execution, found))


def dataset_items(folder: Path, text: str) -> Iterator[tuple[list[int], pa.RecordBatch]]:
    """The items of the dataset of an execution, for `find_item`.

    Raises:
        ExecutionError: from reading on: the dataset cannot be read.
    """
    record = Record.read(folder)
    try:
        loaded, source = reopen_dataset(record)
        with TemporaryDirectory(prefix="batchrun-") as spool:
            items = source.load((), loaded.job.output.keep, spool=Path(spool), rejects=Path(spool, "rejects.parquet"))
            for ordinals, columns in items.rest(bytearray(b"\1") * items.total_items):
                yield ordinals.to_pylist(), columns
    except (BatchrunError, OSError) as error:
        raise ExecutionError(
            f"no item {text!r} has ended in {folder}, and whether there is one cannot be said: the dataset cannot be read: {error}"
        ) from error


def row_page(row: Mapping[str, Any]) -> str:
    """A row that belongs to no execution."""
    return "\n".join([field("item", _inline(row["source_item_id"])), field("status", row["status"]), *_row_lines(row)])


def _lines(execution: Execution, found: FoundItem) -> Iterator[str]:
    row = found.row
    yield field("item", _inline(row["source_item_id"]))
    yield field("execution", f"{execution.id} {execution.job_name}")
    yield field("status", _status(execution, found))
    if row["source_item_id"] != row["item_index"]:
        yield field("row", f"{row['item_index']:,} of the dataset, counted from 0")
    yield from _row_lines(row)


def _row_lines(row: Mapping[str, Any]) -> Iterator[str]:
    if row["attempts"]:
        yield field("attempts", f"{row['attempts']:,}")
    yield from _times(row)
    if row.get("reused_from"):
        yield field("reused from", row["reused_from"])
    kept = {name: value for name, value in row.items() if name not in RESULT_COLUMNS}
    yield from _parts("kept", kept)
    if row["error"] is not None:
        yield ""
        yield from _error(row["error"], "")
    if row["status"] == "completed":
        yield ""
        yield from _value("output", row["output"], "")
    for node in row["node_executions"] or ():
        yield ""
        yield from _node(node, row["error"])


def _status(execution: Execution, found: FoundItem) -> str:
    row = found.row
    waits = _waits(row["node_executions"] or ())
    if waits is not None and row["status"] in ("waiting", "running"):
        return waits
    if not found.is_open:
        where = (row["error"] or {}).get("node_id")
        if row["status"] == "cancelled":
            return "cancelled: it was not run to its end"
        return f"{row['status']}{f' at node {where}' if where else ''}"
    if row["status"] == "pending":
        return "open: nothing of it is written down yet"
    ended = sum(node["status"] not in ("running", "waiting") for node in row["node_executions"])
    goes_on = "" if execution.is_in_progress else "; a resume goes on from there"
    return f"open: it has not ended, {counted(ended, 'node')} of it did{goes_on}"


def _waits(nodes: Iterable[Mapping[str, Any]]) -> str | None:
    """That an item waits for a person, or has done so until now; null: it does not."""
    waiting = [node for node in nodes if node["status"] == "waiting" and _decided(node) is None]
    if waiting:
        since = min((node["started_at"] for node in waiting if node.get("started_at")), default=None)
        return f"waits for a person at node {waiting[0]['node_id']}{f', since {local_time(since)}' if since else ''}"
    decided = next(((node["node_id"], text) for node in nodes if (text := _decided(node)) is not None), None)
    return None if decided is None else f"{decided[1]} at node {decided[0]}; goes on with the next resume, or at the end of the run"


def _decided(node: Mapping[str, Any]) -> str | None:
    """What a person has decided about a node that has not gone on since; null: nothing."""
    decision = decision_of(node.get("checkpoint"))
    if decision is None or node["status"] not in ("waiting", "running"):
        return None
    return f"{'approved' if decision.is_approved else 'rejected'}{f' by {decision.by}' if decision.by else ''}"


def _decision(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The lines that tell of a decision; none when there is none."""
    decision = decision_of(node.get("checkpoint"))
    if decision is not None:
        yield "decided", _decided(node)
        if decision.has_output:
            yield "output", decision.output
        if decision.reason is not None:
            yield "reason", decision.reason


def _times(row: Mapping[str, Any]) -> Iterator[str]:
    for label, name in (("started", "started_at"), ("ended", "completed_at")):
        if row.get(name) is not None:
            took = f", after {_ms(row['duration_ms'])}" if label == "ended" and row.get("duration_ms") is not None else ""
            yield field(label, f"{local_time(row[name], to='milliseconds')}{took}")


def _node(node: Mapping[str, Any], told: Mapping[str, Any] | None) -> Iterator[str]:
    """A node execution; the traceback of an error that was told as that of the item is not told again."""
    kind = f" ({node['node_type']})" if node.get("node_type") else ""
    facts = [
        node["status"],
        *([counted(node["attempts"], "attempt")] if node["attempts"] else []),
        *([_ms(node["duration_ms"])] if node.get("duration_ms") is not None and node["status"] not in ("skipped", "waiting") else []),
        *(
            [f"{_BEGAN.get(node['status'], 'started')} {local_time(node['started_at'], to='milliseconds')}"]
            if node.get("started_at")
            else []
        ),
        *(["from the cache"] if node.get("cache_hit") else []),
    ]
    yield safe(f"node {node['node_id']}{kind}: {', '.join(facts)}")
    decided = list(_decision(node))
    for name in ("input", "prompt", "output", "checkpoint", "external_id", "usage"):
        if node.get(name) is not None and not (name == "checkpoint" and decided):
            label = "shown" if node["status"] == "waiting" and name == "output" else name.replace("_", " ")
            yield from _value(label, node[name], "  ")
    for label, value in decided:
        yield from _value(label, value, "  ")
    if node["status"] == "completed" and node.get("output") is None:
        yield "  output   null, or not recorded"
    if node.get("error") is not None:
        is_told = told is not None and told["traceback"] == node["error"]["traceback"]
        yield from _error({**node["error"], "traceback": None} if is_told else node["error"], "  ")
    if node.get("call_key"):
        yield from _value("call key", node["call_key"], "  ")


def _error(error: Mapping[str, Any], indent: str) -> Iterator[str]:
    facts = [
        *([f"HTTP status {error['http_status']}"] if error.get("http_status") is not None else []),
        "retryable" if error.get("retryable") else "not retryable",
    ]
    yield from _block(f"{indent}error    {error['type']}: {error['message']}", f"{indent}         ")
    yield f"{indent}         ({', '.join(facts)})"
    if error.get("traceback"):
        yield from _block(f"{indent}         {error['traceback'].rstrip()}", f"{indent}         ")


def _parts(label: str, values: Mapping[str, Any]) -> Iterator[str]:
    for position, (name, value) in enumerate(values.items()):
        yield field(label if position == 0 else "", f"{name}: {_inline(value)}")


def _value(label: str, value: Any, indent: str) -> Iterator[str]:
    """A value behind its label; below one another where it has several lines or is long."""
    start = f"{indent}{label:<8} "
    text = _inline(value)
    if len(text) <= _LINE_CHARS and "\n" not in text:
        yield safe(f"{start}{text}")
        return
    if not isinstance(value, str):
        text = json.dumps(value, indent=2, ensure_ascii=False)
    yield from _block(f"{start}{text[:_VALUE_CHARS]}", " " * len(start))
    if len(text) > _VALUE_CHARS:
        yield f"{' ' * len(start)}… and {len(text) - _VALUE_CHARS:,} more characters: --json prints all of them"


def _block(text: str, indent: str) -> Iterator[str]:
    first, *others = safe(text).split("\n")
    yield first.rstrip()
    yield from (f"{indent}{line}".rstrip() for line in others)


def _inline(value: Any) -> str:
    """A value as text: text is itself, anything else is JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:,.1f} ms"
