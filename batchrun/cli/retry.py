"""`batchrun retry`."""

from __future__ import annotations

from pathlib import Path

import click

from batchrun.cli.folders import execution_folder, of_execution
from batchrun.cli.options import metrics_of, metrics_option
from batchrun.cli.run import told
from batchrun.cli.text import prints_aside


@click.command("retry")
@of_execution
@click.option("--where", metavar="SQL", help="Only failed items for which this is true: \"error.type = 'Timeout'\".")
@click.option("--from-start", is_flag=True, help="Run all nodes of these items again, not only those that did not complete.")
@click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="Change a field from now on: --set run.parallelism=4.")
@click.option("--accept-changes", is_flag=True, help="Go on though the workflow was edited; items that are done keep their results.")
@metrics_option
@click.option("--quiet", "-q", is_flag=True, help="Show neither progress nor summary.")
@click.option("--json", "as_json", is_flag=True, help="Print the execution record as JSON.")
def command(  # noqa: PLR0913 - one parameter per option
    execution: str,
    *,
    runs: Path,
    where: str | None,
    from_start: bool,
    settings: tuple[str, ...],
    accept_changes: bool,
    metrics_port: int | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Run failed items of EXECUTION again, into the same result: an id, the beginning of one, a folder, or "latest" (default).

    Outputs of nodes that completed are kept, and attempts add up. May be done as often as wanted, also after the execution has
    completed. Items that have not ended stay as they are: batchrun resume runs these.
    """
    from batchrun.client import retry
    from batchrun.execution import end_when_held

    folder = execution_folder(execution, runs)
    options = {"from_start": from_start, "accept_changes": accept_changes, "quiet": quiet}
    end_when_held()
    with prints_aside(as_json=as_json):
        retried = retry(folder, where, settings, **options, on_event=metrics_of(metrics_port))
    if retried is None:
        condition = "" if where is None else f" for which {where}"
        click.echo(f"no failed item in {folder}{condition}: there is nothing to do", err=True)
        return 0
    return told(retried, quiet=quiet, as_json=as_json)
