"""`batchrun approve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from batchrun.cli.folders import execution_folder, of_execution
from batchrun.cli.options import waiting_options


@click.command("approve")
@of_execution
@waiting_options
@click.option("--set", "settings", multiple=True, metavar="output=VALUE", help="The output, in place of what was shown: --set output=yes.")
def command(  # noqa: PLR0913 - one parameter per option
    execution: str,
    *,
    runs: Path,
    items: tuple[str, ...],
    everything: bool,
    node: str | None,
    by: str | None,
    settings: tuple[str, ...],
) -> None:
    """Let items of EXECUTION go on that wait for a person: an id, the beginning of one, a folder, or "latest" (default).

    They go on with batchrun resume; those of a running execution at the end of its run. batchrun show --waiting lists them.
    """
    from batchrun.cli.deciding import chosen, decided
    from batchrun.client import Execution

    asked = Execution(execution_folder(execution, runs))
    output = _output(settings)
    about = asked.approve(chosen(items, everything=everything), output=output, node_id=node, by=by)
    click.echo(decided(asked, "approved", about), err=True)


def _output(settings: tuple[str, ...]) -> Any:
    from batchrun.config import values_of

    values = values_of(settings, example="output=yes")
    unknown = [path for path in values if path != "output"]
    if unknown:
        raise click.UsageError(f"--set {unknown[0]}=…: only output can be set: --set output=VALUE")
    return values.get("output", ...)
