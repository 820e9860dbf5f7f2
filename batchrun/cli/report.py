"""`batchrun report`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from batchrun.cli.folders import execution_folder, near, of_execution


@click.command("report")
@of_execution
def command(execution: str, *, runs: Path) -> None:
    """Write report.html of EXECUTION anew and print its path: an id, the beginning of one, a folder, or "latest" (default)."""
    from batchrun.cli.known import known
    from batchrun.client import Execution
    from batchrun.execution import write_report

    shown = Execution(execution_folder(execution, runs))
    totals = known(shown).totals
    told = {"status": shown.status, "error": shown.error, "totals": asdict(totals) if totals is not None else None}
    click.echo(near(write_report(shown.folder, shown.record, told)))
