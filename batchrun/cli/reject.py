"""`batchrun reject`."""

from __future__ import annotations

from pathlib import Path

import click

from batchrun.cli.folders import execution_folder, of_execution
from batchrun.cli.options import waiting_options


@click.command("reject")
@of_execution
@waiting_options
@click.option("--reason", metavar="TEXT", help="Why: it stands in the error of the item.")
def command(  # noqa: PLR0913 - one parameter per option
    execution: str,
    *,
    runs: Path,
    items: tuple[str, ...],
    everything: bool,
    node: str | None,
    by: str | None,
    reason: str | None,
) -> None:
    """Have items of EXECUTION fail that wait for a person: an id, the beginning of one, a folder, or "latest" (default).

    The node that waits fails with Rejected when the item goes on; what the job says under on_failure holds for it.
    """
    from batchrun.cli.deciding import chosen, decided
    from batchrun.client import Execution

    asked = Execution(execution_folder(execution, runs))
    about = asked.reject(chosen(items, everything=everything), reason=reason, node_id=node, by=by)
    click.echo(decided(asked, "rejected", about), err=True)
