"""`batchrun pause`."""

from __future__ import annotations

from pathlib import Path

import click

from batchrun.cli.folders import execution_folder, of_execution


@click.command("pause")
@of_execution
def command(execution: str, *, runs: Path) -> None:
    """Stop EXECUTION, so that batchrun resume goes on: an id, the beginning of one, a folder, or "latest" (default).

    Calls in flight get the grace period of the job to end.
    """
    from batchrun.client import Execution

    asked = Execution(execution_folder(execution, runs))
    if asked.pause() == "requested":
        click.echo(stopping(asked.id, asked.record["job"]["run"]["grace_seconds"]), err=True)
    else:
        click.echo(f"{asked.id} is paused: there is nothing to do", err=True)


def stopping(execution_id: str, grace_seconds: float) -> str:
    """What happens to a running execution that was told to stop, for people."""
    return f"{execution_id} stops within a second; calls in flight have {grace_seconds:g} s to end, see batchrun watch {execution_id}"
