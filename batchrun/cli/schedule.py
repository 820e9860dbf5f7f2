"""`batchrun schedule`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchrun.cli.options import job_options, overrides_of
from batchrun.cli.text import one_line, table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from batchrun.client.schedules import Schedules
    from batchrun.core.schedules import Firing, StoredSchedule

_HEADER = ("name", "when", "zone", "does", "job", "next", "last", "execution")
_FIRINGS_HEADER = ("due", "status", "started", "ended", "execution", "why", "told")
_TEXT_CHARS = 60


@click.group("schedule")
def command() -> None:
    """Make, show, pause and remove schedules, and fire them.

    They are kept in .batchrun in the working directory, or in the folder that BATCHRUN_HOME names, and fire while
    `batchrun schedule run` runs there.
    """


@command.command("add")
@click.argument("name")
@job_options
@click.option(
    "--cron", required=True, metavar="EXPRESSION", help="Minute, hour, day, month, weekday: '30 2 * * *'; or @daily and the like."
)
@click.option("--timezone", default="UTC", show_default=True, metavar="ZONE", help="What the expression is about: Europe/Berlin.")
@click.option("--refresh", "is_refresh", is_flag=True, help="Run what changed, as `batchrun refresh` does, instead of everything.")
@click.option(
    "--overlap",
    type=click.Choice(["skip", "queue", "allow"]),
    default="skip",
    show_default=True,
    help="When an earlier firing still runs: leave this one out, begin it afterwards (one at most), or run both.",
)
@click.option(
    "--missed",
    type=click.Choice(["once", "skip"]),
    default="once",
    show_default=True,
    help="After times at which no scheduler ran: fire once for all of them, or not at all.",
)
@click.option(
    "--max-age-seconds", type=click.FloatRange(min=1), default=86_400, show_default=True, help="Missed times older than this are left out."
)
@click.option(
    "--jitter-seconds",
    type=click.FloatRange(min=0),
    default=0,
    show_default=True,
    help="Begin up to so much later, always by the same for a time.",
)
@click.option(
    "--on-failure-command", metavar="COMMAND", help="Run this after a failed firing; without a shell, details as JSON on its input."
)
@click.option("--on-failure-webhook", metavar="URL", help="Send the details of a failed firing there, as JSON.")
@click.option("--replace", is_flag=True, help="Take the place of the schedule of this name.")
@click.option("--json", "as_json", is_flag=True, help="Print the schedule as JSON.")
def add(  # noqa: PLR0913 - one parameter per option
    name: str,
    job: Path,
    *,
    settings: tuple[str, ...],
    filter_: str | None,
    limit: int | None,
    is_refresh: bool,
    replace: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Have JOB run at the times of a cron expression, as schedule NAME."""
    options |= {"overrides": overrides_of(settings, filter_, limit), "verb": "refresh" if is_refresh else "run", "replace": replace}
    stored = _schedules().add(name, job, **options)
    if as_json:
        click.echo(_json(stored.plain()))
        return
    click.echo(stored.schedule.name)
    zone = stored.schedule.timezone
    times = ", ".join(_zoned(time, zone) for time in _next_times(stored, 3))
    click.echo(f"next: {times} ({zone}); they fire while this runs: batchrun schedule run", err=True)


@command.command("list")
@click.argument("name", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Of NAME, the newest so many firings.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def list_(name: str | None, *, limit: int, as_json: bool) -> None:
    """List all schedules, or the firings of NAME, newest first."""
    schedules = _schedules()
    if name is not None:
        firings = _with_executions(schedules.firings(name, limit))
        if as_json:
            click.echo(_json([firing.plain() for firing in firings]))
        else:
            _show(_FIRINGS_HEADER, [_firing_row(firing) for firing in firings], f"{name} has not fired yet")
        return
    found = schedules.list()
    if as_json:
        click.echo(_json([stored.plain() for stored in found]))
        return
    rows = [_row(stored, _with_executions(schedules.firings(stored.schedule.name, 1))) for stored in found]
    _show(_HEADER, rows, "there are no schedules; to make one: batchrun schedule add NAME JOB --cron '30 2 * * *'")


@command.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Forget schedule NAME and its firings. Its executions stay, and those that run go on."""
    _schedules().remove(name)


@command.command("pause")
@click.argument("name")
def pause(name: str) -> None:
    """Let schedule NAME rest. An execution that runs goes on."""
    if not _schedules().pause(name):
        click.echo(f"{name} was paused already", err=True)


@command.command("resume")
@click.argument("name")
def resume(name: str) -> None:
    """Let schedule NAME fire again, from its next time on."""
    if not _schedules().resume(name):
        click.echo(f"{name} is not paused", err=True)


@command.command("run")
@click.option("--once", is_flag=True, help="Fire what is due now, and end: for a crontab that calls this every minute.")
def run(*, once: bool) -> None:
    """Fire schedules when their time comes, until Ctrl-C.

    Executions run in processes of their own, which go on when this one ends. Several may run at once: each time is fired once.
    """
    import signal
    import threading

    from batchrun.scheduler import Scheduler

    scheduler = Scheduler(on_note=lambda line: click.echo(one_line(line), err=True))
    if once:
        scheduler.look()
        return
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    click.echo("firing schedules; Ctrl-C ends this, and executions that run go on", err=True)
    scheduler.run(stop)
    click.echo("no schedule fires any more; executions that run go on: batchrun list --status running", err=True)


def _schedules() -> Schedules:
    from batchrun.client.schedules import Schedules
    from batchrun.store import store_home

    return Schedules(store_home().absolute())


def _with_executions(firings: list[Firing]) -> list[Firing]:
    """Firings with the executions of those that run, which are written down with them when they end."""
    from batchrun.scheduler.process import execution_of
    from batchrun.store import store_home

    told = []
    for firing in firings:
        is_open = firing.status == "running" and firing.execution_id is None
        execution = execution_of(firing, store_home().absolute()) if is_open else None
        told.append(firing if execution is None else replace(firing, execution_id=execution.id, folder=str(execution.folder)))
    return told


def _next_times(stored: StoredSchedule, count: int) -> list[datetime]:
    from batchrun.flow.cron import Cron

    cron, times = Cron(stored.schedule.cron, stored.schedule.timezone), [stored.next_at]
    while len(times) < count:
        times.append(cron.after(times[-1]))
    return times


def _row(stored: StoredSchedule, latest: list[Firing]) -> tuple[str, ...]:
    schedule = stored.schedule
    last = f"{latest[0].status}, {_zoned(latest[0].due_at, schedule.timezone)}" if latest else "-"
    return (
        schedule.name,
        schedule.cron,
        schedule.timezone,
        schedule.verb,
        one_line(_near(schedule.job), _TEXT_CHARS),
        "paused" if stored.is_paused else _zoned(stored.next_at, schedule.timezone),
        last,
        (latest[0].execution_id if latest else None) or "-",
    )


def _firing_row(firing: Firing) -> tuple[str, ...]:
    told = ", ".join(f"{each.hook}: {each.detail}" for each in firing.told)
    return (
        _zoned(firing.due_at, firing.schedule.timezone),
        firing.status,
        _zoned(firing.started_at, firing.schedule.timezone, ":%S") if firing.started_at else "-",
        _zoned(firing.ended_at, firing.schedule.timezone, ":%S") if firing.ended_at else "-",
        firing.execution_id or "-",
        one_line(firing.error or "-", _TEXT_CHARS),
        one_line(told or "-", _TEXT_CHARS),
    )


def _show(header: Sequence[str], rows: list[tuple[str, ...]], nothing: str) -> None:
    if rows:
        click.echo("\n".join(table(header, rows)).lstrip("\n"))
    else:
        click.echo(nothing, err=True)


def _zoned(time: datetime, zone: str, seconds: str = "") -> str:
    """A time on the clocks of a zone."""
    from zoneinfo import ZoneInfo

    return f"{time.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M{seconds}}"


def _near(job: str) -> str:
    from batchrun.cli.folders import near

    return str(near(Path(job)))


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
