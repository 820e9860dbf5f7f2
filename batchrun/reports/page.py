"""The page of a report. It holds no script, and tells the browser to load and run nothing, whatever an item has in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import minijinja
import orjson

from batchrun.core.figures import Bin, Figures
from batchrun.core.text import counted, duration, safe
from batchrun.reports import tables
from batchrun.reports.charts import histogram_chart, shown_ms, throughput_chart

_TEMPLATES = Path(__file__).parent
_MOST_HISTOGRAMS = 12
_JOB_CHARS = 100_000
_ERROR_CHARS = 2_000
_FEW_GROUPS = 5
_MESSAGE_CHARS = 600


def report_page(record: Mapping[str, Any], figures: Figures | None) -> str:
    """The report of an execution, as HTML that needs neither a network nor another file.

    Args:
        record: the content of its execution.json.
        figures: what is drawn of its result; null: there is none.
    """
    totals = record.get("totals")
    nodes: Sequence[Mapping[str, Any]] = totals["nodes"] if totals else ()
    return environment().render_template(
        "page.html",
        title=tables.cell(record.get("job_name") or record["execution_id"]),
        id=tables.cell(record["execution_id"]),
        status=tables.cell(record["status"]),
        error=safe(str(record.get("error") or "")[:_ERROR_CHARS]),
        subtitle=" · ".join(_subtitle(record)),
        counts=_counts(totals) if totals else None,
        throughput=_throughput(figures),
        nodes=tables.node_table(nodes) if nodes else None,
        histograms=list(_histograms(nodes, figures)),
        histogram_note=_histogram_note(figures, nodes),
        failures=tables.failure_table(totals["failures"]) if totals and totals["failures"] else None,
        similar=_similar(figures),
        similar_note=_similar_note(totals, figures),
        slowest=tables.slow_table(figures.slowest) if figures and figures.slowest else None,
        usage=tables.usage_table(nodes),
        waits=tables.wait_table(record.get("waited_seconds") or {}),
        services=tables.service_table(record.get("resources") or {}),
        states=tables.state_table(record.get("states") or ()),
        facts=list(tables.facts(record)),
        job=safe(orjson.dumps(record.get("job"), option=orjson.OPT_INDENT_2).decode()[:_JOB_CHARS]),
        written_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
    )


@cache
def environment() -> minijinja.Environment:
    """Where the templates of pages are: every value that they show is escaped."""
    names = ("page.html", "short.html")
    templates = {name: (_TEMPLATES / name).read_text(encoding="utf-8") for name in names}
    return minijinja.Environment(templates=templates, auto_escape_callback=lambda _name: True, undefined_behavior="strict")


def _subtitle(record: Mapping[str, Any]) -> Iterator[str]:
    if record.get("dataset_name"):
        yield tables.cell(record["dataset_name"])
    if record.get("started_at"):
        yield f"started {tables.moment(record['started_at'])}"
    if record.get("duration_seconds"):
        yield f"{duration(record['duration_seconds'])} of work"


def _counts(totals: Mapping[str, Any]) -> dict[str, Any]:
    total = totals["total_items"]
    shares = [(name, totals[f"{name}_items"]) for name in tables.STATUSES]
    return {
        "total": f"{total:,}",
        "label": ", ".join(f"{count:,} {name}" for name, count in shares if count),
        "shares": [
            {"name": name, "count": f"{count:,}", "share": f"{count / total:.1%}", "width": f"{100 * count / total:.4f}"}
            for name, count in shares
            if count
        ],
    }


def _throughput(figures: Figures | None) -> dict[str, Any] | None:
    if figures is None or figures.throughput is None:
        return None
    drawn = figures.throughput
    best = max(drawn.ended_items) / drawn.interval_seconds
    rate = f"{best:,.0f}" if best >= 100 else f"{best:,.3g}"
    return {
        "chart": throughput_chart(drawn),
        "table": tables.throughput_table(drawn),
        "has_failed": any(drawn.failed_items),
        "about": f"in intervals of {shown_ms(drawn.interval_seconds * 1000)}, at most {rate} items/s; times are UTC",
    }


def _histograms(nodes: Sequence[Mapping[str, Any]], figures: Figures | None) -> Iterator[dict[str, Any]]:
    if figures is None:
        return
    slowest = sorted(nodes, key=lambda node: -node["total_ms"])[:_MOST_HISTOGRAMS]
    chosen = {node["node_id"] for node in slowest}
    for node in nodes:
        bins: Sequence[Bin] = figures.histograms.get(node["node_id"], ())
        if node["node_id"] in chosen and bins:
            chart = histogram_chart(bins, "How long the calls of this node took; the table below has the numbers")
            yield {"node": tables.cell(node["node_id"]), "chart": chart, "table": tables.histogram_table(bins)}


def _histogram_note(figures: Figures | None, nodes: Sequence[Mapping[str, Any]]) -> str:
    said = ["Calls by how long their last attempt took, on a logarithmic scale."]
    if figures is not None and figures.histogram_rows < figures.total_rows:
        said.append(f"Drawn of {figures.histogram_rows:,} of {counted(figures.total_rows, 'item')}, spread evenly; the table is of all.")
    if len(nodes) > _MOST_HISTOGRAMS:
        said.append(f"Drawn of the {_MOST_HISTOGRAMS} nodes that took most time.")
    return " ".join(said)


def _similar(figures: Figures | None) -> list[dict[str, Any]]:
    return [
        {
            "error": tables.cell(group.error_type),
            "node": tables.cell(group.node_id or "(output)"),
            "count": f"{group.count:,}",
            "pattern": tables.cell(group.pattern),
            "examples": [(tables.cell(item_id), safe(message[:_MESSAGE_CHARS])) for item_id, message in group.examples],
            "is_open": at < _FEW_GROUPS,
        }
        for at, group in enumerate(figures.similar_failures if figures else ())
    ]


def _similar_note(totals: Mapping[str, Any] | None, figures: Figures | None) -> str:
    said = ["Messages that differ only in numbers, ids and quoted texts, with up to three examples."]
    if totals and figures and figures.grouped_failures < totals["failed_items"]:
        said.append(f"Of {figures.grouped_failures:,} of {totals['failed_items']:,} failed items, spread evenly.")
    return " ".join(said)
