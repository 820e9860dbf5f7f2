"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

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
