"""`batchrun publish`."""

from __future__ import annotations

from pathlib import Path

import click

from batchrun.cli.folders import execution_folder, of_execution


@click.command("publish")
@of_execution
@click.option("--to", metavar="URL", help="Copy it below this address (s3://, gs://, az://), in the place of output.publish of its job.")
def command(execution: str, *, runs: Path, to: str | None) -> None:
    """Copy the result of EXECUTION to an object store: an id, the beginning of one, a folder, or "latest" (default).

    What an earlier end of it has left there is replaced. Prints the address of the copy.
    """
    from batchrun.execution import publish

    click.echo(publish(execution_folder(execution, runs), to))
