"""`batchrun rerun`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from batchrun.cli.folders import execution_folder, of_execution
from batchrun.cli.run import told
from batchrun.cli.text import prints_aside


@click.command("rerun")
@of_execution
@click.option(
    "--dataset-version",
    type=click.Choice(["latest", "original"]),
    default="latest",
    show_default=True,
    help="The dataset as it is now, or only if it is what it was.",
)
@click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="Override a field: --set run.parallelism=64.")
@click.option(
    "--override", "outputs", multiple=True, metavar="nodes.ID.output=VALUE", help="Give a node this output instead of calling it."
)
@click.option("--quiet", "-q", is_flag=True, help="Show neither progress nor summary.")
@click.option("--json", "as_json", is_flag=True, help="Print the execution record as JSON.")
def command(  # noqa: PLR0913 - one parameter per option
    execution: str,
    *,
    runs: Path,
    dataset_version: Literal["latest", "original"],
    settings: tuple[str, ...],
    outputs: tuple[str, ...],
    quiet: bool,
    as_json: bool,
) -> int:
    """Run the job of EXECUTION again, as a new one: an id, the beginning of one, a folder, or "latest" (default).

    The job is the one that was run, with what was overridden then, not what its file says now.
    """
    from batchrun.client import rerun
    from batchrun.execution import end_when_held

    folder = execution_folder(execution, runs)
    end_when_held()
    with prints_aside(as_json=as_json):
        again = rerun(folder, settings, dataset_version=dataset_version, outputs=outputs, quiet=quiet)
    return told(again, quiet=quiet, as_json=as_json)
