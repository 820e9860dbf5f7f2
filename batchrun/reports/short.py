"""An execution as a notebook shows it: a few lines and a bar, as HTML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batchrun.core.executions import Progress
from batchrun.core.text import duration, safe
from batchrun.reports import tables
from batchrun.reports.page import environment

_ERROR_CHARS = 500
_MOST_GROUPS = 5


def short_page(record: Mapping[str, Any], status: str, error: str | None, progress: Progress, folder: str) -> str:
    """The short form of a report, to be put into another page.

    Args:
        record: the content of its execution.json.
        status: what people are told of its status.
        error: why it did not complete; null when it did, or goes on.
        progress: how far it is.
        folder: where its files are.
    """
    counts = {
        "completed": progress.completed_items,
        "failed": progress.failed_items,
        "skipped": progress.skipped_items,
        "waiting": progress.waiting_items,
    }
    counts["not done"] = max(progress.total_items - sum(counts.values()), 0)
    groups = (record.get("totals") or {}).get("failures") or ()
    seconds = record.get("duration_seconds")
    return environment().render_template(
        "short.html",
        id=tables.cell(record["execution_id"]),
        job=tables.cell(record["job_name"]),
        status=tables.cell(status),
        error=safe((error or "")[:_ERROR_CHARS]),
        took=duration(seconds) if seconds else "",
        total=f"{progress.total_items:,}",
        counts=[(name, f"{count:,}", f"{100 * count / max(progress.total_items, 1):.4f}") for name, count in counts.items() if count],
        failures=[
            (tables.cell(group["error_type"]), tables.cell(group["node_id"] or "(output)"), f"{group['count']:,}", _example(group))
            for group in groups[:_MOST_GROUPS]
        ],
        more=max(len(groups) - _MOST_GROUPS, 0),
        folder=tables.cell(folder),
    )


def _example(group: Mapping[str, Any]) -> str:
    return tables.cell(f"{group['source_item_id']}: {group['message']}", 200)
