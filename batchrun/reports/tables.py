"""The tables of a report: rows of texts, made safe to show and cut to a length that fits a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from batchrun.core.figures import Bin, SlowItem, Throughput
from batchrun.core.text import duration, one_line
from batchrun.reports.charts import shown_ms

MOST_ROWS = 50
_CELL_CHARS = 300

STATUSES = ("completed", "failed", "skipped", "waiting", "cancelled")
_WAITS = {
    "call": "calls",
    "lane": "waiting for a thread",
    "backoff": "waiting for another attempt",
    "resource": "waiting for a turn at a service or in a process",
    "batch": "waiting for others of their batch",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        is_number: numbers are set to the right.
    """

    name: str
    is_number: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a page.

    Attributes:
        caption: what it is about.
        more: how many rows are not shown.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    more: int = 0


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[object]], texts: Sequence[int] = (0,)) -> Table:
    """A table of values as texts.

    Args:
        caption: what it is about.
        header: names of the columns.
        rows: their cells.
        texts: positions of the columns that hold no numbers.
    """
    cells = [[cell(value) for value in row] for row in rows]
    columns = [Column(name, at not in texts) for at, name in enumerate(header)]
    return Table(caption, columns, cells[:MOST_ROWS], max(len(cells) - MOST_ROWS, 0))


def cell(value: object, most_chars: int = _CELL_CHARS) -> str:
    """A value as people read it, on one line, with nothing in it that does not show."""
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return one_line(str(value), most_chars)
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else one_line(str(value), most_chars)


def moment(text: object) -> str:
    """A time as it was written down, in UTC, to the second."""
    with suppress(ValueError, OverflowError):
        return f"{datetime.fromisoformat(str(text)).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return cell(text)


def node_table(nodes: Sequence[Mapping[str, Any]]) -> Table:
    """What each node did, in the order of the workflow; columns that would hold nothing are left out."""
    header = ["node", "type", "calls", "attempts", "failed", "skipped", "cached", "mean", "p50", "p95", "p99", "longest"]
    rows = [
        [
            *(node["node_id"], node["node_type"], node["calls"], node["attempts"], node["failed"], node["skipped"], node["cached"]),
            _ms(node["total_ms"] / node["calls"] if node["calls"] else None),
            *(_ms(node[name] if node["calls"] else None) for name in ("p50_ms", "p95_ms", "p99_ms", "max_ms")),
        ]
        for node in nodes
    ]
    for name in ("skipped", "cached"):
        at = header.index(name)
        if not any(row[at] for row in rows):
            header.pop(at)
            rows = [[*row[:at], *row[at + 1 :]] for row in rows]
    return table("What each node did", header, rows, texts=(0, 1))


def usage_table(nodes: Sequence[Mapping[str, Any]]) -> Table | None:
    """What calls used, by node, with the sum at the end; null when they used nothing."""
    names = ("input_tokens", "output_tokens", "cost")
    rows = [[node["node_id"], *(node.get(name) or 0 for name in names)] for node in nodes if any(node.get(name) for name in names)]
    if not rows:
        return None
    sums = ["all nodes", *(sum(row[at] for row in rows) for at in (1, 2, 3))] if len(rows) > 1 else []
    return table("Tokens and cost", ["node", "input tokens", "output tokens", "cost"], [*rows[: MOST_ROWS - 1], *([sums] if sums else [])])


def failure_table(groups: Sequence[Mapping[str, Any]]) -> Table:
    """Failed items by error type and node."""
    rows = [(group["error_type"], group["node_id"] or "(output)", group["count"]) for group in groups]
    return table("Failed items by type of error and node", ["error", "node", "items"], rows, texts=(0, 1))


def slow_table(items: Sequence[SlowItem]) -> Table:
    """The items that took longest."""
    rows = [(item.source_item_id, item.status, item.attempts, _ms(item.duration_ms)) for item in items]
    return table("The slowest items", ["item", "status", "attempts", "from first to last"], rows, texts=(0, 1))


def wait_table(waited_seconds: Mapping[str, float]) -> Table | None:
    """What items spent their time with."""
    total = sum(waited_seconds.values())
    if not total:
        return None
    rows = [(_WAITS.get(what, what), duration(seconds), f"{seconds / total:.1%}") for what, seconds in waited_seconds.items()]
    return table("What all items together spent their time with", ["what", "time", "share"], rows)


def service_table(resources: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """What services did."""
    rows = [
        (name, figures["calls"], figures["throttled"], figures["opened"], duration(figures["parked_seconds"]))
        for name, figures in resources.items()
    ]
    return table("Services", ["service", "calls", "throttled", "times parked", "parked for"], rows) if rows else None


def state_table(states: Sequence[Mapping[str, Any]]) -> Table:
    """What became of the execution, and which process did it."""
    rows = [(moment(each.get("at")), each.get("status"), each.get("reason"), _process(each)) for each in states]
    return table("States", ["when", "status", "reason", "process"], rows, texts=(0, 1, 2, 3))


def throughput_table(throughput: Throughput) -> Table:
    """The numbers of the chart of the throughput: intervals in which nothing ended are left out."""
    rows = [
        (f"{at * throughput.interval_seconds:,.4g} s", *pair)
        for at, pair in enumerate(zip(throughput.ended_items, throughput.failed_items, strict=True))
        if pair[0]
    ]
    columns = [Column("after", is_number=False), Column("items that ended"), Column("of them failed")]
    return Table("Items that ended, by time since the first", columns, [[cell(value) for value in row] for row in rows])


def histogram_table(bins: Sequence[Bin]) -> Table:
    """The numbers of a histogram."""
    rows = [(shown_ms(each.from_ms), shown_ms(each.to_ms), each.calls) for each in bins if each.calls]
    return table("Calls by how long they took", ["from", "to", "calls"], rows, texts=(0, 1))


def facts(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What ran: names, versions and fingerprints."""
    dataset = (record.get("job") or {}).get("dataset") or {}
    for label, value in (
        ("execution", record.get("execution_id")),
        ("job", record.get("job_name")),
        ("dataset", record.get("dataset_name")),
        ("dataset version", record.get("dataset_version")),
        ("dataset fingerprint", record.get("dataset_fingerprint")),
        *((f"dataset {name}", dataset.get(name)) for name in ("filter", "limit", "sample")),
        ("rows that did not parse", record.get("rejected_rows") or None),
        ("workflow fingerprint", record.get("workflow_fingerprint")),
        ("rerun of", record.get("rerun_of")),
        ("batchrun", record.get("batchrun_version")),
        ("Python", record.get("python_version")),
        ("job folder", record.get("job_folder")),
    ):
        if value is not None:
            yield label, cell(value)


def _ms(milliseconds: float | None) -> str:
    return "–" if milliseconds is None else shown_ms(milliseconds)


def _process(state: Mapping[str, Any]) -> str:
    return f"{state['pid']} on {state.get('host')}" if state.get("pid") is not None else "–"
