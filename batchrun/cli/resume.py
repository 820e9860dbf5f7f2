"""`batchrun resume`."""

from __future__ import annotations

from pathlib import Path

import click

from batchrun.cli.folders import execution_folder
from batchrun.cli.options import metrics_of, metrics_option
from batchrun.cli.run import told
from batchrun.cli.text import prints_aside


@click.command("resume")
@click.argument("execution", default="latest")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder with the executions.")
@click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="Change a field from now on: --set run.parallelism=4.")
@click.option("--accept-changes", is_flag=True, help="Go on though the workflow was edited; items that are done keep their results.")
@metrics_option
@click.option("--quiet", "-q", is_flag=True, help="Show neither progress nor summary.")
@click.option("--json", "as_json", is_flag=True, help="Print the execution record as JSON.")
def command(  # noqa: PLR0913 - one parameter per option
    execution: str,
    *,
    runs: Path,
    settings: tuple[str, ...],
    accept_changes: bool,
    metrics_port: int | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Go on with EXECUTION: an id, the beginning of one, a folder or a copy of it, or "latest" (default).

    Items that are done stay as they are; only calls that were in flight when it ended are made again.
    """
    from batchrun.client import resume
    from batchrun.execution import end_when_held

    folder = execution_folder(execution, runs)
    end_when_held()
    with prints_aside(as_json=as_json):
        resumed = resume(folder, settings, accept_changes=accept_changes, quiet=quiet, on_event=metrics_of(metrics_port))
    if resumed is None:
        click.echo(f"{folder} has completed: there is nothing to do", err=True)
        return 0
    return told(resumed, quiet=quiet, as_json=as_json)
