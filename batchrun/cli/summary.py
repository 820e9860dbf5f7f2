"""The few lines at the end of a run: counts, slow nodes, failures by type, and where the files are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchrun.client import Execution
    from batchrun.core.executions import Progress

_MOST_ROWS = 8
_MESSAGE_CHARS = 100


def summary(execution: Execution) -> str:
    """The summary of an execution that ended."""
    return "\n".join(_lines(execution))


def _lines(execution: Execution) -> Iterator[str]:
    yield ""
    yield f"{execution.id} {execution.status} in {execution.duration_seconds:,.1f} s" + (f": {execution.error}" if execution.error else "")
    yield _counts(execution.progress)
    totals = execution.totals
    if totals is None:
        yield "no result was written"
        yield from _advice(execution)
        return
    nodes = sorted((node for node in totals.nodes if node.calls), key=lambda node: node.total_ms, reverse=True)[:_MOST_ROWS]
    if nodes:
        rows = [
            (node.node_id, f"{node.calls:,}", f"{node.failed:,}", f"{node.total_ms / node.calls:,.3f}", f"{node.max_ms:,.1f}")
            for node in nodes
        ]
        yield from _table(("node", "calls", "failed", "mean ms", "max ms"), rows)
    if totals.failures:
        groups = [
            (group.error_type, group.node_id or "(output)", f"{group.count:,}", f"{group.source_item_id}: {_short(group.message)}")
            for group in totals.failures[:_MOST_ROWS]
        ]
        yield from _table(("error", "node", "items", "example"), groups)
    yield ""
    yield from _files(execution)
    yield from _advice(execution)


def _advice(execution: Execution) -> Iterator[str]:
    if execution.status != "completed" and execution.record["job"]["run"]["durable"]:
        yield f"to go on: batchrun resume {_near(execution.folder)}"


def _counts(progress: Progress) -> str:
    if not progress.total_items:
        return "0 items: the dataset is empty, or no row passes its filter"
    counts = {
        "completed": progress.completed_items,
        "failed": progress.failed_items,
        "skipped": progress.skipped_items,
        "not done": progress.total_items - progress.processed_items,
    }
    shown = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count or name == "completed")
    return f"{progress.total_items:,} {'item' if progress.total_items == 1 else 'items'}: {shown}"


def _files(execution: Execution) -> Iterator[str]:
    notes = {
        "results.parquet": "",
        "failures.parquet": "   the rows of the failed items: a dataset for another job",
        "rejects.parquet": f"   {execution.record.get('rejected_rows', 0):,} rows of the dataset that do not parse",
        **{f"results.{name}": "" for name in ("csv", "ndjson", "arrow")},
    }
    for file, note in notes.items():
        if (execution.folder / file).exists():
            yield f"{_near(execution.folder / file)}{note}"


def _near(path: Path) -> str:
    """The path as it is written in the working directory."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _short(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= _MESSAGE_CHARS else f"{line[:_MESSAGE_CHARS]}…"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    yield ""
    for row in (header, *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
