"""`batchrun tune`."""

from __future__ import annotations

from pathlib import Path

import click

from batchrun.cli.folders import execution_folder, of_execution


@click.command("tune")
@of_execution
@click.option("--parallelism", type=click.IntRange(min=1), help="Items worked on at once.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="PATH=VALUE",
    help="Change a limit: --set resources.NAME.max_concurrency=4, requests_per_minute or tokens_per_minute; null: none.",
)
def command(execution: str, *, runs: Path, parallelism: int | None, settings: tuple[str, ...]) -> None:
    """Change limits of EXECUTION while it runs: an id, the beginning of one, a folder, or "latest" (default).

    What is changed is remembered by batchrun resume.
    """
    from batchrun.client import Execution

    overrides = [*settings, *([f"run.parallelism={parallelism}"] if parallelism is not None else [])]
    if not overrides:
        raise click.UsageError("say what is to change: --parallelism N, or --set resources.NAME.max_concurrency=N")
    tuned = Execution(execution_folder(execution, runs))
    tuned.tune(overrides)
    click.echo(f"{tuned.id} takes up {', '.join(overrides)} within a second", err=True)
