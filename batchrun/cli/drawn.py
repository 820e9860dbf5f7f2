"""The workflow of an execution as a drawing, with what became of its items at each node."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from batchrun.config import load_job
from batchrun.core.errors import ExecutionError
from batchrun.workflows.drawing import Note, draw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchrun.cli.known import Known
    from batchrun.client import Execution
    from batchrun.workflows.drawing import Form


def drawing(execution: Execution, known: Known, form: Form) -> str:
    """Draw the workflow that an execution runs, or ran: the one that is stored with it.

    Raises:
        ExecutionError: no job is stored: the execution never began.
        JobError: the stored job has node types that are not installed here.
    """
    job = execution.record.get("job")
    if not job:
        raise ExecutionError(f"{execution.folder} has no job that could be drawn: {execution.status} before its job was read")
    workflow = load_job(job, folder=Path(execution.record.get("job_folder") or ".")).workflow
    return draw(workflow, form, dict(_notes(known)))


def _notes(known: Known) -> Iterator[tuple[str, Note]]:
    for node in known.totals.nodes if known.totals is not None else ():
        counts = {
            "completed": node.completed,
            "failed": node.failed,
            "skipped": node.skipped,
            "open": known.progress.open_nodes.get(node.node_id, 0),
        }
        shown = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        if shown:
            yield node.node_id, Note(shown, is_bad=node.failed > 0)
