"""`batchrun plan`."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchrun.cli.folders import near
from batchrun.cli.options import job_options, overrides_of
from batchrun.cli.run import exit_code, told
from batchrun.cli.text import counted, prints_aside, safe

if TYPE_CHECKING:
    from batchrun.core.plans import JobPlan, SampleRun
    from batchrun.workflows.drawing import Form


@click.command("plan")
@job_options
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Run N items, chosen at random, to say what the others take.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Which items are chosen follows from it.")
@click.option("--yes", "-y", is_flag=True, help="Go on with the other items without asking.")
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON; nothing is asked.")
@click.option("--explain", is_flag=True, help="Show how the files are scanned: which filter and columns are pushed down.")
@click.option("--graph", "form", type=click.Choice(["mermaid", "svg"]), help="Draw the workflow instead: --graph svg > workflow.svg.")
def command(  # noqa: PLR0913 - one parameter per option
    job: Path,
    *,
    settings: tuple[str, ...],
    filter_: str | None,
    limit: int | None,
    sample: int | None,
    seed: int,
    yes: bool,
    quiet: bool,
    as_json: bool,
    explain: bool,
    form: Form | None,
) -> int:
    """Show what JOB would read and do, and with --sample what that would take.

    The sample is the first part of an execution that pauses after it. In a terminal it is asked whether to go on; elsewhere only
    --yes goes on. What the sample gave is kept for batchrun resume.
    """
    from batchrun.client import plan
    from batchrun.execution import end_when_held

    if yes and sample is None:
        raise click.UsageError("--yes is about what comes after a sample: give --sample, or use batchrun run")
    overrides = overrides_of(settings, filter_, limit)
    if form is not None:
        _draw(job, overrides, form)
        return 0
    if sample is not None:
        end_when_held()
    with prints_aside(as_json=as_json):
        made = plan(job, overrides, sample=sample, seed=seed, quiet=quiet)
    click.echo(json.dumps(made.plain(), indent=2, ensure_ascii=False, default=str) if as_json else str(made))
    if explain and not as_json:
        _explain(job, overrides)
    if made.sample is None:
        return 0
    return _after(made, made.sample, yes=yes, quiet=quiet, as_json=as_json)


def _draw(job: Path, overrides: list[str], form: Form) -> None:
    from batchrun.execution.prepare import prepare
    from batchrun.workflows.drawing import draw

    click.echo(draw(prepare(job, overrides).loaded.workflow, form), nl=False)


def _explain(job: Path, overrides: list[str]) -> None:
    from batchrun.execution.prepare import prepare

    click.echo(f"\n{prepare(job, overrides).explain()}")


def _after(made: JobPlan, sample: SampleRun, *, yes: bool, quiet: bool, as_json: bool) -> int:
    """What comes after the sample. Returns the exit code."""
    from batchrun.client import Execution, resume

    folder, rest = Path(sample.folder), made.total_items - sample.run_items
    if sample.reason is not None or not rest:
        return told(Execution(folder), quiet=quiet, as_json=False)
    goes_on = yes
    try:
        goes_on = yes or (not as_json and _agrees(rest))
    finally:  # also after Ctrl-C
        if not goes_on:
            named = safe(shlex.quote(str(near(folder))))
            advice = f"to run the rest: batchrun resume {named}; to end it: batchrun cancel {named}"
            click.echo(f"{sample.execution_id} is paused; {advice}", err=True)
    if not goes_on:
        return 0
    with prints_aside(as_json=as_json):
        resumed = resume(folder, quiet=quiet)
    if resumed is None:
        return exit_code("completed", None, sample.failed_items)
    return told(resumed, quiet=quiet, as_json=False)


def _agrees(rest: int) -> bool:
    """Ask whether to go on; whoever cannot be asked does not agree."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    return click.confirm(f"\nrun the other {counted(rest, 'item')}?", default=False, err=True)
