"""Finding the folder of an execution from what people type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_HERE = Path.cwd()
"""Where the command was called: functions of the job may go elsewhere."""
Command = TypeVar("Command", bound=Callable[..., Any])


def of_execution(command: Command) -> Command:
    """The argument that names an execution, and where to look for it; see `execution_folder`."""
    for decorate in (
        click.option(
            "--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder with the executions."
        ),
        click.argument("execution", default="latest"),
    ):
        command = decorate(command)
    return command


def execution_folder(execution: str, runs: Path) -> Path:
    """The folder of an execution, as `batchrun.client.finding.find_folder` finds it; near the working directory where it can be.

    When people name a folder with `--runs`, they mean its executions and no others that are listed.

    Raises:
        NoSuchExecution: there is no such execution, or several.
    """
    from batchrun.client.finding import find_folder

    context = click.get_current_context(silent=True)
    is_default = context is None or context.get_parameter_source("runs") is click.core.ParameterSource.DEFAULT
    return near(find_folder(execution, runs, are_listed_meant=is_default))


def near(folder: Path) -> Path:
    """The folder as it is written in the working directory."""
    return folder.relative_to(_HERE) if folder.is_relative_to(_HERE) and folder != _HERE else folder
