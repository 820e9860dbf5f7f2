"""`batchrun refresh`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchrun.cli.folders import near
from batchrun.cli.options import job_options, metrics_of, metrics_option, overrides_of
from batchrun.cli.run import submitted, told
from batchrun.cli.text import prints_aside

if TYPE_CHECKING:
    from batchrun.client import Execution
    from batchrun.core.refreshes import RefreshPlan


@click.command("refresh")
@job_options
@click.option("--plan", "only_plans", is_flag=True, help="Say what would be done and why, and do nothing.")
@metrics_option
@click.option("--detach", "-d", is_flag=True, help="Run it in a process of its own; print its id when it is known what changed.")
@click.option("--quiet", "-q", is_flag=True, help="Show neither plan, progress nor summary.")
@click.option("--json", "as_json", is_flag=True, help="Print the execution record as JSON; with --plan, the plan.")
def command(  # noqa: PLR0913 - one parameter per option
    job: Path,
    *,
    settings: tuple[str, ...],
    filter_: str | None,
    limit: int | None,
    only_plans: bool,
    metrics_port: int | None,
    detach: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Run what changed in JOB or its dataset since its last completed execution, and reuse the rest.

    Makes a new execution with a row for each item of the dataset as it is now; none when nothing changed. One at a time: while
    another refresh of the job is at work, this one says so and does nothing, so it may be run by cron.
    """
    from batchrun.core.refreshes import AlreadyRefreshing

    overrides = overrides_of(settings, filter_, limit)
    if detach and (only_plans or metrics_port is not None):
        raise click.UsageError(f"{'--plan' if only_plans else '--metrics-port'} is about this process; leave it out, or leave out --detach")
    plans: list[RefreshPlan] = []

    def tell(plan: RefreshPlan) -> None:
        plans.append(plan)
        if not quiet:
            click.echo("\n".join((*plan.notes, plan.text)), err=True)

    try:
        if only_plans:
            return _planned(job, overrides, tell, as_json=as_json)
        execution = _refreshed(job, overrides, tell, metrics_port, is_detached=detach, quiet=quiet, as_json=as_json)
    except AlreadyRefreshing as busy:
        click.echo(busy, err=True)
        if as_json:
            click.echo("null")
        return 0
    if any(plan.has_work for plan in plans):
        return (submitted if detach else told)(execution, quiet=quiet, as_json=as_json)
    if not quiet:
        click.echo(f"current: {near(execution.folder)}", err=True)
    if as_json:
        click.echo(json.dumps(execution.record, indent=2, ensure_ascii=False))
    return 0


def _planned(job: Path, overrides: list[str], tell: Callable[[RefreshPlan], None], *, as_json: bool) -> int:
    from batchrun.client import plan_refresh

    plan = plan_refresh(job, overrides)
    tell(plan)
    if as_json:
        click.echo(json.dumps({**asdict(plan), "has_work": plan.has_work, "text": plan.text}, indent=2, ensure_ascii=False))
    return 0


def _refreshed(  # noqa: PLR0913 - what the command was told
    job: Path,
    overrides: list[str],
    tell: Callable[[RefreshPlan], None],
    metrics_port: int | None,
    *,
    is_detached: bool,
    quiet: bool,
    as_json: bool,
) -> Execution:
    from batchrun.client import Execution, refresh
    from batchrun.client.refreshing import refresh_detached
    from batchrun.execution import end_when_held
    from batchrun.store import store_home

    if is_detached:
        return Execution(refresh_detached(job, overrides, store_home(), tell))
    end_when_held()
    with prints_aside(as_json=as_json):
        return refresh(job, overrides, quiet=quiet, on_event=metrics_of(metrics_port), on_plan=tell)
