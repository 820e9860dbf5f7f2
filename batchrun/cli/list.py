"""`batchrun list`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from batchrun.cli.text import counted, duration, local_time, one_line, table
from batchrun.core.executions import ExecutionStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchrun.client import Execution

_HEADER = ("id", "job", "status", "trigger", "items", "failed", "started", "duration")
_JOB_CHARS = 40


@click.command("list")
@click.option(
    "--status",
    type=click.Choice([*get_args(ExecutionStatus), "interrupted"]),
    multiple=True,
    help="Only executions that are this; may be given several times.",
)
@click.option("--job", metavar="NAME", help="Only executions of this job; * stands for any characters.")
@click.option("--since", metavar="TIME", help="Only executions made since then: 7d, 12h, yesterday, 2026-11-01, 2026-11-01T09:30.")
@click.option("--until", metavar="TIME", help="Only executions made before then.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="Print the records of the executions as a JSON list.")
@click.option("--rebuild", "is_rebuilt", is_flag=True, help="First list anew what is in the folders that are known, and in --runs.")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder with executions.")
def command(  # noqa: PLR0913 - one parameter per option
    *,
    status: tuple[str, ...],
    job: str | None,
    since: str | None,
    until: str | None,
    limit: int,
    as_json: bool,
    is_rebuilt: bool,
    runs: Path,
) -> None:
    """List executions, newest first.

    The list knows the executions that were made in this working directory, or with the same BATCHRUN_HOME.
    """
    import json

    from batchrun.client.finding import find_executions, rebuild

    after, before = _moment(since, "--since"), _moment(until, "--until")
    if is_rebuilt:
        count = rebuild(runs, on_note=lambda note: click.echo(f"left out: {note}", err=True))
        click.echo(f"listed anew: {counted(count, 'execution')}", err=True)
    found = find_executions(job=job, status=status, created_after=after, created_before=before, limit=limit + 1)
    shown = found[:limit]
    if as_json:
        click.echo(json.dumps([_plain(execution) for execution in shown], indent=2, ensure_ascii=False))
    elif shown:
        click.echo("\n".join(_table(shown)).lstrip("\n"))
    if not found:
        click.echo(_nothing(runs, is_filtered=bool(status or job is not None or since or until)), err=True)
    elif len(found) > limit:
        click.echo(f"the newest {limit:,}; for more: --limit", err=True)


def _moment(text: str | None, option: str) -> datetime | None:
    from batchrun.store import NotAMoment, moment

    try:
        return None if text is None else moment(text)
    except NotAMoment as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def _nothing(runs: Path, *, is_filtered: bool) -> str:
    """Why there is nothing to see."""
    from batchrun.client.finding import find_executions, folders_in

    if is_filtered and find_executions(limit=1):
        return "no execution matches"
    count = len(folders_in(runs))
    if not count:
        return f"no executions are listed, and there are none in {runs}"
    return f"no executions are listed, but {runs} has {count:,}: to list them, batchrun list --rebuild --runs {runs}"


def _plain(execution: Execution) -> dict[str, Any]:
    """An execution for programs: its record, as it is shown, without its job, which can be large."""
    from batchrun.cli.known import plain

    kept = {name: value for name, value in execution.record.items() if name != "job"}
    return {**kept, "status": execution.status, "error": execution.error, "progress": plain(execution.progress)}


def _table(shown: list[Execution]) -> Iterator[str]:
    """The executions as a table, and what started them where that was no person."""
    rows, column = [_row(execution) for execution in shown], _HEADER.index("trigger")
    if all(row[column] == "-" for row in rows):
        return table(_HEADER[:column] + _HEADER[column + 1 :], [row[:column] + row[column + 1 :] for row in rows])
    return table(_HEADER, rows)


def _row(execution: Execution) -> tuple[str, ...]:
    progress, started = execution.progress, execution.record.get("started_at")
    is_counted = progress.total_items > 0 or execution.totals is not None
    return (
        execution.id,
        one_line(execution.job_name, _JOB_CHARS),
        "interrupted, resumable" if execution.status == "interrupted" else execution.status,
        one_line(str(execution.record.get("trigger") or "-"), _JOB_CHARS),
        f"{progress.processed_items:,}/{progress.total_items:,}{_reused(progress.reused_items)}" if is_counted else "-",
        f"{progress.failed_items:,}" if is_counted else "-",
        local_time(started) if started else "-",
        _pace(execution),
    )


def _reused(count: int) -> str:
    return f", {count:,} reused" if count else ""


def _pace(execution: Execution) -> str:
    """How fast it is while it runs, then how long it took."""
    if execution.status in ("running", "finalizing"):
        return f"{execution.progress.items_per_second:,.1f} items/s"
    return duration(execution.duration_seconds) if execution.duration_seconds else "-"
