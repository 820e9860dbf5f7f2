"""Writing report.html, beside the result it is about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from batchrun.core.errors import ExecutionError
from batchrun.core.text import one_line
from batchrun.reports import report_page
from batchrun.results import RESULT_FILE, replacing, result_figures

REPORT_FILE = "report.html"


def write_report(folder: Path, record: Mapping[str, Any], told: Mapping[str, Any] = MappingProxyType({})) -> Path:
    """Write the report of an execution; one that is there is replaced.

    Args:
        folder: the execution's folder.
        record: the content of its record.
        told: what the report is to tell in the place of fields of the record: of an execution that goes on or was killed.

    Returns:
        The file.

    Raises:
        ExecutionError: its result cannot be read, or the file cannot be written.
    """
    # The totals are those of the result that is there: without them, it is that of an earlier end.
    has_result = record.get("totals") is not None and (folder / RESULT_FILE).exists()
    page = report_page({**record, **told}, result_figures(folder) if has_result else None)
    path = folder / REPORT_FILE
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")
    return path


def note_report(folder: Path, record: Mapping[str, Any], note: Callable[[str], None]) -> None:
    """Write the report of an execution that ends, if its job wants one. A report never breaks a run: what goes wrong is noted.

    Args:
        folder: the execution's folder.
        record: what its record will say.
        note: is told what went wrong.
    """
    if not ((record.get("job") or {}).get("output") or {}).get("report", True):
        return
    try:
        write_report(folder, record)
    except Exception as error:  # libraries draw whatever a result holds; the result itself is complete
        reason = str(error) if isinstance(error, ExecutionError) else f"{type(error).__name__}: {error}"
        note(f"report.html was not written: {one_line(reason.partition(chr(10))[0], 300)}; to write it: batchrun report {folder.name}")
