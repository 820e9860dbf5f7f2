"""`batchrun cancel`."""

from __future__ import annotations

from pathlib import Path

import click

from batchrun.cli.folders import execution_folder, of_execution
from batchrun.cli.pause import stopping


@click.command("cancel")
@of_execution
def command(execution: str, *, runs: Path) -> None:
    """End EXECUTION as far as it has come: an id, the beginning of one, a folder, or "latest" (default).

    A running one stops: its calls in flight get the grace period of the job to end.
    """
    from batchrun.client import Execution

    asked = Execution(execution_folder(execution, runs))
    answer = asked.cancel()
    if answer == "requested":
        click.echo(stopping(asked.id, asked.record["job"]["run"]["grace_seconds"]), err=True)
    elif answer == "done":
        click.echo(f"{asked.id} is cancelled", err=True)
    else:
        click.echo(f"{asked.id} is {asked.status}: there is nothing to do", err=True)
