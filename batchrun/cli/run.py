"""`batchrun run`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchrun.cli.folders import near
from batchrun.cli.options import job_options, metrics_of, metrics_option, overrides_of
from batchrun.cli.text import prints_aside

if TYPE_CHECKING:
    from batchrun.client import Execution


@click.command("run")
@job_options
@metrics_option
@click.option("--detach", "-d", is_flag=True, help="Run it in a process of its own; print its id and return at once.")
@click.option("--quiet", "-q", is_flag=True, help="Show neither progress nor summary; only why it did not complete.")
@click.option("--json", "as_json", is_flag=True, help="Print the execution record as JSON.")
def command(  # noqa: PLR0913 - one parameter per option
    job: Path,
    *,
    settings: tuple[str, ...],
    filter_: str | None,
    limit: int | None,
    metrics_port: int | None,
    detach: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Run JOB and wait for its end.

    Progress and summary go to standard error.
    """
    from batchrun.client import execute, submit
    from batchrun.execution import end_when_held

    overrides = overrides_of(settings, filter_, limit)
    if detach and metrics_port is not None:
        raise click.UsageError("--metrics-port is about this process; leave it out, or leave out --detach")
    if detach:
        return submitted(submit(job, overrides), quiet=quiet, as_json=as_json)
    end_when_held()
    with prints_aside(as_json=as_json):
        execution = execute(job, overrides, quiet=quiet, on_event=metrics_of(metrics_port))
    return told(execution, quiet=quiet, as_json=as_json)


def submitted(execution: Execution, *, quiet: bool, as_json: bool) -> int:
    """Show how to find an execution that another process runs."""
    click.echo(json.dumps(execution.record, indent=2, ensure_ascii=False) if as_json else execution.id)
    if not quiet:
        click.echo(f"runs in {near(execution.folder)}; to look at it: batchrun watch {execution.id}", err=True)
    return 0


def told(execution: Execution, *, quiet: bool, as_json: bool) -> int:
    """Show how an execution ended. Returns the exit code, if the process can end in the ordinary way."""
    from batchrun.cli.summary import headline, publishing_trouble, summary

    code = exit_code(execution.status, execution.stop_reason, execution.progress.failed_items)
    must_leave = execution.has_stuck_threads
    try:
        if not quiet:
            click.echo(summary(execution), err=True)
        elif execution.status == "completed":
            if trouble := "; ".join(publishing_trouble(execution)):
                click.echo(trouble, err=True)
        elif execution.error is not None and execution.stop_reason not in {"signal", "user", "cancel"}:
            click.echo(headline(execution), err=True)
    except OSError:  # nobody reads that, or it goes to a full disk
        must_leave = True
    try:
        if as_json:
            click.echo(json.dumps(execution.record, indent=2, ensure_ascii=False))
    except BrokenPipeError:  # nobody reads any more
        must_leave = True
    if must_leave:
        # Everything is on disk. Threads that hang in a call, and output nobody takes, would hold up an ordinary exit.
        os._exit(code)
    return code


def exit_code(status: str, stop_reason: str | None, failed_items: int) -> int:
    """The exit code of an execution that ended."""
    if status == "completed":
        return 3 if failed_items else 0
    if stop_reason == "signal":
        return 130
    return {"paused": 4, "waiting": 4, "rejected": 2}.get(status, 1)
