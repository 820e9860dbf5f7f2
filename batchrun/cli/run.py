"""`batchrun run`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from batchrun.cli.options import job_options, overrides_of


@click.command("run")
@job_options
@click.option("--quiet", "-q", is_flag=True, help="Show neither progress nor summary.")
@click.option("--json", "as_json", is_flag=True, help="Print the execution record as JSON.")
def command(job: Path, *, settings: tuple[str, ...], filter_: str | None, limit: int | None, quiet: bool, as_json: bool) -> int:
    """Run JOB and wait for its end.

    Progress and summary go to standard error.
    """
    from batchrun.cli.summary import summary
    from batchrun.client import execute

    execution = execute(job, overrides_of(settings, filter_, limit), quiet=quiet)
    if not quiet:
        click.echo(summary(execution), err=True)
    if as_json:
        click.echo((execution.folder / "execution.json").read_text())
    code = exit_code(execution.status, execution.stop_reason, execution.progress.failed_items)
    if execution.has_stuck_threads:
        # Everything is on disk. Threads that hang in a call would keep the process, so it ends without them.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def exit_code(status: str, stop_reason: str | None, failed_items: int) -> int:
    """The exit code of an execution that ended."""
    if status == "completed":
        return 3 if failed_items else 0
    if stop_reason == "signal":
        return 130
    return 4 if status in ("paused", "waiting") else 1
