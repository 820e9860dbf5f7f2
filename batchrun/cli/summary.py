"""What people are told of an execution: counts, slow nodes, failures by type, where the files are, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from batchrun.cli.folders import near
from batchrun.cli.text import counted, duration, local_time, one_line, safe, table
from batchrun.execution.publishing import unpublished

if TYPE_CHECKING:
    from batchrun.cli.known import Known
    from batchrun.client import Execution
    from batchrun.core.executions import Progress
    from batchrun.core.items import Usage
    from batchrun.results import NodeTotals, ResultTotals

_MOST_ROWS = 8
_MESSAGE_CHARS = 100
_WORTH_TELLING_RATIO = 0.01

TIMES = ("mean ms", "p50 ms", "p95 ms", "p99 ms", "max ms")
WAITING = {
    "call": "in a call",
    "lane": "for a thread",
    "backoff": "for another attempt",
    "resource": "for a turn at a service or in a process",
    "batch": "for others of their batch",
}
"""What open items wait for, in words."""


def summary(execution: Execution, known: Known | None = None) -> str:
    """The summary of an execution that ended.

    Args:
        execution: the execution.
        known: what is known of its items; null: what the execution says.
    """
    totals, progress = known or (execution.totals, execution.progress)
    return "\n".join(_lines(execution, totals, progress))


def headline(execution: Execution) -> str:
    """How it ended, and why, in one line."""
    took = f" in {duration(execution.duration_seconds)}" if execution.duration_seconds and execution.status != "interrupted" else ""
    return f"{execution.id} {status(execution)}{took}{f': {safe(execution.error)}' if execution.error else ''}"


def _lines(execution: Execution, totals: ResultTotals | None, progress: Progress) -> Iterator[str]:
    yield ""
    yield headline(execution)
    yield counts(progress, is_counted=progress.total_items > 0 or execution.totals is not None)
    if totals is not None:
        yield from slow_nodes(totals)
        yield from spent(totals)
        yield from batches(execution)
        yield from waits(execution)
        yield from outages(execution)
        yield from cache_hits(execution, totals)
        yield from failures(totals)
    yield ""
    if execution.totals is None:
        yield "no result was written"
    else:
        yield from files(execution)
    yield from advice(execution, progress.failed_items)


def status(execution: Execution) -> str:
    """The status of an execution, in words where the word alone does not say what to do."""
    if execution.status == "pending":
        return "pending: no process has taken it on yet"
    if execution.status != "interrupted":
        return execution.status
    what = "to go on: batchrun resume" if _is_durable(execution) else "nothing was kept; to run its job again: batchrun rerun"
    return f"interrupted: its process is gone; {what} {_named(execution)}"


def counts(progress: Progress, *, is_counted: bool) -> str:
    """How many items there are, and what became of them.

    Args:
        progress: the counters.
        is_counted: whether it is known how many items there are.
    """
    if is_counted and not progress.total_items:
        return "0 items: the dataset is empty, or no row passes its filter"
    numbers = {
        "completed": progress.completed_items,
        "failed": progress.failed_items,
        "skipped": progress.skipped_items,
        "waiting": progress.waiting_items,
        "not done": progress.total_items - progress.processed_items - progress.waiting_items if is_counted else 0,
    }
    shown = ", ".join(f"{count:,} {name}" for name, count in numbers.items() if count or name == "completed")
    shown += f"; {progress.reused_items:,} of them reused" if progress.reused_items else ""
    return f"{counted(progress.total_items, 'item')}: {shown}" if is_counted else f"{shown}; how many there are in all is not known"


def slow_nodes(totals: ResultTotals) -> Iterator[str]:
    """The nodes that took most time."""
    nodes = sorted((node for node in totals.nodes if node.calls), key=lambda node: node.total_ms, reverse=True)[:_MOST_ROWS]
    if nodes:
        rows = [
            (
                node.node_id,
                f"{node.calls:,}",
                f"{node.cached:,}",
                f"{node.failed:,}",
                f"{node.attempts + node.cached - node.calls:,}",
                *times(node),
            )
            for node in nodes
        ]
        header, cells = without_empty("cached", ("node", "calls", "cached", "failed", "retries", *TIMES), rows)
        yield from table(*without_empty("retries", header, cells))


def times(node: NodeTotals) -> tuple[str, ...]:
    """How long the calls of a node took: the cells under `TIMES`."""
    if not node.calls:
        return ("-",) * len(TIMES)
    shares = (node.p50_ms, node.p95_ms, node.p99_ms)
    return (
        f"{node.total_ms / node.calls:,.3f}",
        *("-" if milliseconds is None else f"{milliseconds:,.{3 if milliseconds < 1 else 1}f}" for milliseconds in shares),
        f"{node.max_ms:,.1f}",
    )


def spent(totals: ResultTotals) -> Iterator[str]:
    """The tokens that all calls used, and what they cost, if they used any."""
    if any(totals.usage):
        yield f"used: {used_text(totals.usage)}"


def used_text(usage: Usage) -> str:
    """What calls used, for people."""
    cost = f", cost {usage.cost:,.6g}" if usage.cost else ""
    return f"{usage.input_tokens:,} input and {usage.output_tokens:,} output tokens{cost}"


def waits(execution: Execution) -> Iterator[str]:
    """What the items have spent their time with, if that was not only their calls."""
    waited = execution.waited_seconds
    if sum(waited.values()) > waited.get("call", 0.0) * (1 + _WORTH_TELLING_RATIO):
        yield f"time of all items together: {waited_text(waited)}"


def outages(execution: Execution) -> Iterator[str]:
    """The services that were out of order or asked for fewer calls."""
    for name, figures in (execution.record.get("resources") or {}).items():
        told = [f"{figures['throttled']:,} of {counted(figures['calls'], 'call')} throttled"] if figures["throttled"] else []
        if figures["opened"]:
            told.append(f"parked {counted(figures['opened'], 'time')}, {duration(figures['parked_seconds'])} in all")
        if told:
            yield f"resource {safe(name)}: {', '.join(told)}"


def waited_text(waited: Mapping[str, float]) -> str:
    """The times that items spent waiting, by what they waited for."""
    return ", ".join(f"{duration(seconds)} {WAITING.get(what, f'for {what}')}" for what, seconds in waited.items() if seconds >= 0.05)


def batches(execution: Execution) -> Iterator[str]:
    """How large the calls were that were made for several items at once."""
    for id, size in (execution.record.get("batches") or {}).items():
        yield f"{id}: {counted(size['items'], 'item')} in {counted(size['calls'], 'call')}, {size['items'] / size['calls']:,.1f} at a time"


def cache_hits(execution: Execution, totals: ResultTotals) -> Iterator[str]:
    """How many outputs of each cached node came from the cache, and why none did, where that is known."""
    nodes = {node.node_id: node for node in totals.nodes if node.completed}
    for id, since in (execution.record.get("cached_nodes") or {}).items():
        if id in nodes:
            cached, outputs = nodes[id].cached, counted(nodes[id].completed, "output")
            shown = f"{id}: {f'{cached:,}' if cached or since is None else 'none'} of {outputs} from the cache"
            own = ", all of this execution" if cached else ""  # equal items of one execution find one another's
            yield shown if since is None else f"{shown}{own}: its options or its function changed since {local_time(since)}"


def without_empty(name: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """A table without the column of this name if that is zero in each row."""
    column = header.index(name)
    if any(row[column] != "0" for row in rows):
        return header, rows
    return [*header[:column], *header[column + 1 :]], [[*row[:column], *row[column + 1 :]] for row in rows]


def failures(totals: ResultTotals) -> Iterator[str]:
    """The largest groups of failed items, with an example of each."""
    groups = totals.failures[:_MOST_ROWS]
    if groups:
        rows = [
            (group.error_type, group.node_id or "(output)", f"{group.count:,}", f"{group.source_item_id}: {_short(group.message)}")
            for group in groups
        ]
        yield from table(("error", "node", "items", "example"), rows)
        if more := len(totals.failures) - len(groups):
            yield f"and {more:,} more kinds of errors"


def files(execution: Execution) -> Iterator[str]:
    """The files of an execution that people read."""
    folder = execution.folder
    is_of_now = execution.totals is not None
    notes = {
        "results.parquet": "" if is_of_now else "   of an earlier end; it is written anew when the execution ends",
        "failures.parquet": "   the rows of the failed items: a dataset for another job" if is_of_now else "   as above",
        "rejects.parquet": f"   {execution.record.get('rejected_rows') or 0:,} rows of the dataset that do not parse",
        **{f"results.{name}": "" for name in ("csv", "ndjson", "arrow")},
        "report.html": "   counts, charts and failures, for a browser" if is_of_now else "   as above",
        "process.log": "   what its process had to say",
    }
    for name, note in notes.items():
        path = folder / name
        if path.exists() and (name != "process.log" or path.stat().st_size):
            yield f"{safe(str(near(path)))}{note}"
    told = execution.record.get("publish") or {}
    if told.get("published_at") is not None:
        yield f"{safe(told['url'])}   a copy of {local_time(told['published_at'])}"


def publishing_trouble(execution: Execution) -> Iterator[str]:
    """Where its files should be and are not, why, and what to do."""
    if (trouble := unpublished(execution.record)) is not None:
        yield f"not published to {safe(trouble[0])}: {safe(trouble[1])}"
        yield f"to publish it: batchrun publish {_named(execution)}"


def advice(execution: Execution, failed_items: int) -> Iterator[str]:
    """What can be done with an execution as it is now."""
    yield from publishing_trouble(execution)
    if execution.is_in_progress:
        yield f"to watch it: batchrun watch {_named(execution)}"
    if not _is_durable(execution):
        return
    if execution.status == "pending":
        yield f"if no process takes it on: batchrun resume {_named(execution)}"
    elif not execution.is_in_progress:
        if execution.status == "waiting":
            yield f"to see what they wait for: batchrun show {_named(execution)} --waiting"
            yield f"to decide: batchrun approve {_named(execution)} --item ID, or reject; --all for all of them"
        if execution.status not in ("completed", "rejected", "interrupted"):
            yield f"to go on: batchrun resume {_named(execution)}"
        if failed_items:
            yield f"to run the failed items again: batchrun retry {_named(execution)}"


def _is_durable(execution: Execution) -> bool:
    run = (execution.record.get("job") or {}).get("run") or {}
    return bool(run.get("durable", True)) and bool(execution.record.get("job_folder"))


def _named(execution: Execution) -> str:
    """The execution as an argument of a command."""
    return safe(shlex.quote(str(near(execution.folder))))


def _short(message: str) -> str:
    return one_line(message, _MESSAGE_CHARS)
