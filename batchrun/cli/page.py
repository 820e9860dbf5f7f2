"""The pages of `batchrun show`: an execution, and its nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchrun.cli.folders import near
from batchrun.cli.services import service_now, services_of
from batchrun.cli.summary import (
    TIMES,
    WAITING,
    advice,
    cache_hits,
    counts,
    failures,
    files,
    slow_nodes,
    status,
    times,
    used_text,
    waited_text,
    without_empty,
)
from batchrun.cli.text import counted, duration, local_time, one_line, safe, table
from batchrun.execution.account import stored_of

if TYPE_CHECKING:
    from batchrun.cli.known import Known
    from batchrun.client import Execution
    from batchrun.core.executions import Progress

_LABEL_CHARS = 11
_USED = ("input tokens", "output tokens", "cost")


def execution_page(execution: Execution, known: Known) -> str:
    """All there is to say about an execution, without its nodes and items."""
    lines = [field(label, text) for label, text in _fields(execution, known)]
    if known.totals is not None:
        lines += slow_nodes(known.totals) if not execution.is_in_progress else ()
        lines += cache_hits(execution, known.totals)
        lines += failures(known.totals)
    lines += _paragraph(files(execution))
    lines += _paragraph(advice(execution, known.progress.failed_items))
    return "\n".join(lines)


def nodes_page(execution: Execution, known: Known) -> str:
    """The nodes of an execution."""
    lines = [f"{execution.id} {status(execution)}", _counts(execution, known)]
    nodes = known.totals.nodes if known.totals is not None else ()
    open_nodes = known.progress.open_nodes
    rows = [
        (
            node.node_id,
            node.node_type,
            *(f"{count:,}" for count in (node.calls, node.attempts, node.cached, node.completed, node.failed, node.skipped)),
            *times(node),
            f"{node.input_tokens:,}",
            f"{node.output_tokens:,}",
            f"{node.cost:,.6g}",
            f"{open_nodes.get(node.node_id, 0):,}",
        )
        for node in nodes
    ]
    header: Sequence[str] = ("node", "type", "calls", "attempts", "cached", "completed", "failed", "skipped", *TIMES, *_USED, "open now")
    cells: Sequence[Sequence[str]] = rows
    for name in ("cached", *_USED):
        header, cells = without_empty(name, header, cells)
    lines += table(header, cells) if rows else ["", "nothing is written down of its nodes so far"]
    if execution.totals is None and rows:
        lines += ["", "counted from the items that are done"]
    return "\n".join(lines)


def field(label: str, text: str) -> str:
    """A line, or lines, with what they are about in front."""
    first, *others = safe(text).split("\n")
    return "\n".join([f"{label:<{_LABEL_CHARS}}{first}", *(" " * _LABEL_CHARS + line for line in others)])


def _paragraph(lines: Iterator[str]) -> list[str]:
    found = list(lines)
    return ["", *found] if found else []


def _fields(execution: Execution, known: Known) -> Iterator[tuple[str, str]]:
    record = execution.record
    yield "execution", execution.id
    yield "job", one_line(execution.job_name)
    yield "status", _status(execution)
    if execution.error:
        yield "why", execution.error
    yield from _places(execution)
    yield from _times(execution)
    yield "items", _counts(execution, known)
    if known.totals is not None and any(known.totals.usage):
        yield "used", used_text(known.totals.usage)
    if waited := waited_text(execution.waited_seconds):
        yield "time", f"of all items together: {waited}"
    if execution.status in ("running", "finalizing"):
        yield from _activity(known.progress)
    elif services := services_of(record):
        yield "services", "\n".join(services)
    if record.get("trigger"):
        yield "trigger", one_line(str(record["trigger"]))
    if record.get("rerun_of"):
        yield "rerun of", str(record["rerun_of"])
    if record.get("refresh_of"):
        yield "refresh of", str(record["refresh_of"])


def _status(execution: Execution) -> str:
    reason = execution.stop_reason if execution.stop_reason not in (None, "cancel", "failure_policy", "waiting") else None
    text = f"{status(execution)}{f', by {reason}' if reason else ''}"
    asked = execution.record.get("cancel_requested_at")
    return f"{text}; told to cancel at {local_time(asked)}" if asked and execution.is_in_progress else text


def _places(execution: Execution) -> Iterator[tuple[str, str]]:
    record, folder = execution.record, execution.folder
    dataset: Mapping[str, Any] = (record.get("job") or {}).get("dataset") or {}
    name = dataset.get("path") or record.get("dataset_name")
    if name:
        version = record.get("dataset_version")
        is_file = record.get("job_folder") and "://" not in name  # a path would have one slash of an address less
        path = near(Path(record["job_folder"]) / name) if is_file else name
        path = path if version is None else f"{name}@{version}"
        limits = [f"{key} {dataset[key]}" for key in ("filter", "limit", "sample") if dataset.get(key) is not None]
        yield "dataset", "; ".join([str(path), *limits])
    before = record.get("folder")
    yield "folder", f"{near(folder)}{f', moved or copied from {before}' if before and Path(before) != folder else ''}"


def _times(execution: Execution) -> Iterator[tuple[str, str]]:
    record = execution.record
    for label, key in (("created", "created_at"), ("started", "started_at"), ("ended", "completed_at")):
        if record.get(key):
            took = f", after {duration(execution.duration_seconds)} of work" if label == "ended" and execution.duration_seconds else ""
            yield label, f"{local_time(record[key])}{took}"
    if execution.status == "interrupted":
        stored = stored_of(record, execution.folder)
        if stored is not None and stored.heartbeat_at is not None:
            yield "last seen", local_time(stored.heartbeat_at)
    states = [_state(change) for change in record.get("states") or ()]
    if states:
        widest = max(len(word) for _, word, _ in states)
        yield "states", "\n".join(f"{at}  {word:<{widest}}  {process}".rstrip() for at, word, process in states)


def _state(change: Mapping[str, Any]) -> tuple[str, str, str]:
    process = f"process {change['pid']}" if change.get("pid") is not None else ""
    host = f"on {change['host']}" if change.get("host") else ""
    return local_time(change.get("at") or "-"), one_line(str(change.get("status") or "-")), one_line(f"{process} {host}")


def _counts(execution: Execution, known: Known) -> str:
    progress = known.progress
    is_counted = progress.total_items > 0 or execution.totals is not None
    if not is_counted and known.totals is None:
        return "not counted yet" if execution.is_in_progress else "not known: nothing of them is written down"
    return counts(progress, is_counted=is_counted)


def _activity(progress: Progress) -> Iterator[tuple[str, str]]:
    """What a running execution is doing."""
    if not progress.total_items:
        yield "progress", "its process has not told yet; it does so once a second"
        return
    left = progress.remaining_seconds
    estimate = f", about {duration(left)} left" if left else ""
    share = progress.processed_items / progress.total_items
    yield "progress", f"{share:.1%} after {duration(progress.elapsed_seconds)}, {progress.items_per_second:,.1f} items/s{estimate}"
    if progress.open_items:
        nodes = ", ".join(f"{count:,} at {node}" for node, count in _largest_first(progress.open_nodes))
        yield "open", f"{counted(progress.open_items, 'item')}{f': {nodes}' if nodes else ''}"
    if any(progress.waiting_for.values()):
        yield "waiting", ", ".join(f"{count:,} {WAITING.get(what, f'for {what}')}" for what, count in _largest_first(progress.waiting_for))
    if progress.resources:
        yield "services", "\n".join(f"{name}: {service_now(state)}" for name, state in progress.resources.items())
    if progress.slowest_node_id is not None:
        yield "slowest", f"{progress.slowest_node_id} took most time so far"


def _largest_first(counts_: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(((name, count) for name, count in counts_.items() if count), key=lambda pair: -pair[1])
