"""`batchrun plan`."""

from __future__ import annotations

from pathlib import Path

import click

from batchrun.cli.options import job_options, overrides_of


@click.command("plan")
@job_options
@click.option("--explain", is_flag=True, help="Show how the files are scanned: which filter and columns are pushed down.")
def command(job: Path, *, settings: tuple[str, ...], filter_: str | None, limit: int | None, explain: bool) -> None:
    """Show what JOB would read and do."""
    from batchrun.execution import prepare

    prepared = prepare(job, overrides_of(settings, filter_, limit))
    plan, dataset = prepared.plan, prepared.loaded.dataset
    click.echo(f"dataset   {dataset.path}: {len(prepared.source.files)} file(s)")
    click.echo(f"filter    {dataset.filter or 'none'}")
    click.echo(f"columns   {', '.join(plan.columns) or 'none'} (of {len(prepared.source.columns)})")
    for number, stage in enumerate(plan.stages, start=1):
        how = "together, on the event loop" if stage.waits else "one after another, in a lane thread"
        click.echo(f"stage {number}   {', '.join(f'{step.id} ({step.type})' for step in stage.steps)}: {how}")
    click.echo(f"output    {'JSON text' if plan.output_type is None else plan.output_type}")
    if explain:
        click.echo(f"\n{prepared.explain()}")
