"""`batchrun plan`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchrun.cli.options import job_options, overrides_of

if TYPE_CHECKING:
    from batchrun.workflows.drawing import Form


@click.command("plan")
@job_options
@click.option("--explain", is_flag=True, help="Show how the files are scanned: which filter and columns are pushed down.")
@click.option("--graph", "form", type=click.Choice(["mermaid", "svg"]), help="Draw the workflow instead: --graph svg > workflow.svg.")
def command(job: Path, *, settings: tuple[str, ...], filter_: str | None, limit: int | None, explain: bool, form: Form | None) -> None:
    """Show what JOB would read and do."""
    from batchrun.execution import prepare
    from batchrun.workflows.drawing import draw

    prepared = prepare(job, overrides_of(settings, filter_, limit))
    if form is not None:
        click.echo(draw(prepared.loaded.workflow, form), nl=False)
        return
    plan, dataset = prepared.plan, prepared.loaded.dataset
    click.echo(f"dataset   {dataset.label}: {len(prepared.source.files)} file(s)")
    click.echo(f"filter    {dataset.filter or 'none'}")
    click.echo(f"columns   {', '.join(plan.columns) or 'none'} (of {len(prepared.source.columns)})")
    for number, stage in enumerate(plan.stages, start=1):
        how = "together, on the event loop" if stage.waits else "one after another, in a lane thread"
        click.echo(f"stage {number}   {', '.join(f'{step.id} ({step.type})' for step in stage.steps)}: {how}")
    click.echo(f"output    {'JSON text' if plan.output_type is None else plan.output_type}")
    if explain:
        click.echo(f"\n{prepared.explain()}")
