"""`batchrun validate`."""

from __future__ import annotations

import gc
from pathlib import Path

import click

from batchrun.cli.options import job_options, overrides_of
from batchrun.cli.text import safe


@click.command("validate")
@job_options
def command(job: Path, *, settings: tuple[str, ...], filter_: str | None, limit: int | None) -> None:
    """Check JOB, its dataset and its workflow, without running anything. Every mistake is reported."""
    from batchrun.execution.prepare import prepare

    gc.freeze()  # before functions of users are loaded: the exit would look through all of that for garbage
    prepared = prepare(job, overrides_of(settings, filter_, limit))
    for warning in prepared.warnings:
        click.secho(warning, err=True, bold=True)
    nodes = ", ".join(step.id for step in prepared.plan.steps)
    publish = prepared.loaded.job.output.publish
    published = "" if publish is None else f"; results will be published to {safe(publish)}"
    click.echo(f"{job}: valid; {len(prepared.source.columns)} columns, nodes: {nodes}{published}", err=True)
