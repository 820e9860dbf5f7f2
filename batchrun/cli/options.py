"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from batchrun.telemetry.prometheus import Prometheus

Command = TypeVar("Command", bound=Callable[..., Any])


def job_options(command: Command) -> Command:
    """The job file, and what overrides its fields."""
    for decorate in (
        click.option("--limit", type=click.IntRange(min=0), help="Read at most this many items."),
        click.option("--filter", "filter_", metavar="SQL", help="Read only rows for which this SQL expression is true."),
        click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="Override a field: --set run.parallelism=64."),
        click.argument("job", type=click.Path(path_type=Path)),
    ):
        command = decorate(command)
    return command


def waiting_options(command: Command) -> Command:
    """Which of the items that wait for a person are meant, and who decides."""
    for decorate in (
        click.option("--by", metavar="NAME", help="Who decides."),
        click.option("--node", metavar="ID", help="The node that waits, where an item waits at several."),
        click.option("--all", "everything", is_flag=True, help="All items that wait."),
        click.option("--item", "items", multiple=True, metavar="ID", help="An item, by its source_item_id; may be given again."),
    ):
        command = decorate(command)
    return command


def metrics_option(command: Command) -> Command:
    """Where metrics are served while the items run."""
    text = "Serve metrics for Prometheus on this port of 127.0.0.1 while it runs; 0: on any free one."
    return click.option("--metrics-port", type=click.IntRange(0, 65_535), metavar="PORT", help=text)(command)


def metrics_of(port: int | None) -> tuple[Prometheus, ...]:
    """Who is to be told of an execution, as `--metrics-port` has it."""
    from batchrun.telemetry.prometheus import Prometheus

    return () if port is None else (Prometheus(port=port),)


def overrides_of(settings: tuple[str, ...], filter_: str | None, limit: int | None) -> list[str]:
    """The overrides in the form `--set` has them."""
    overrides = list(settings)
    if filter_ is not None:
        overrides.append(f"dataset.filter={_quoted(filter_)}")
    if limit is not None:
        overrides.append(f"dataset.limit={limit}")
    return overrides


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
