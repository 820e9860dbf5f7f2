"""The command line. Only click is loaded until a command runs: `--help` must be instant."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from keyword import iskeyword
from typing import NoReturn

import click

from batchrun.core.errors import BatchrunError, JobError
from batchrun.version import VERSION

_RARE_COLLECTIONS = (50_000, 20, 100)  # what is loaded stays: looking through it for garbage takes longer than some commands
_COMMANDS = {
    "run": "Run a job.",
    "list": "List executions: how far they are, or how they ended.",
    "show": "Show an execution, its nodes, or one of its items.",
    "watch": "Watch an execution to its end.",
    "resume": "Go on with an execution that was killed or stopped.",
    "retry": "Run the failed items of an execution again.",
    "rerun": "Run the job of an execution again, as a new execution.",
    "refresh": "Run what changed since the last good execution of a job, and reuse the rest.",
    "pause": "Stop a running execution, to be resumed.",
    "cancel": "End an execution for good.",
    "approve": "Let items go on that wait for a person.",
    "reject": "Have items fail that wait for a person.",
    "tune": "Change the limits of a running execution.",
    "try": "Run one item through a workflow and show what each node does.",
    "validate": "Check a job without running it.",
    "plan": "Show what a job would read and do.",
    "results": "Show, filter or export the result of an execution.",
    "publish": "Copy the result of an execution to an object store.",
    "report": "Write the report of an execution anew: a page for the browser.",
    "diff": "Compare the results of two executions, item by item.",
    "dataset": "Make, show, compare, tag and remove versions of named datasets.",
    "schedule": "Run jobs at certain times: make, show and pause schedules, and fire them.",
    "schema": "Print the JSON Schema of the job file.",
    "init": "Write a starter job file.",
}


class _LazyGroup(click.Group):
    """Commands whose modules are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name
        command: click.Command = import_module(f"batchrun.cli.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="batchrun")
def cli() -> None:
    """Run every item of a dataset through a workflow and get back one Arrow row per item.

    Exit codes: 0 all items completed; 3 some items failed; 4 paused or waiting; 1 failed or cancelled; 2 the job is invalid;
    130 stopped by a signal.
    """


def main() -> NoReturn:
    """Run the command line and exit."""
    gc.set_threshold(*_RARE_COLLECTIONS)
    _open_streams()
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:  # click's word for KeyboardInterrupt
        with suppress(OSError):
            click.echo("aborted", err=True)
        _leave(130)  # threads of calls that hang are left behind
    except click.ClickException as error:
        _end(error.show, error.exit_code)
    except JobError as error:
        _end(partial(click.echo, error, err=True), 2)
    except BatchrunError as error:
        _end(partial(click.echo, f"Error: {error}", err=True), 1)
    except OSError as error:
        if error.filename is not None:
            raise
        with suppress(OSError):
            click.echo(f"Error: the output cannot be written: {error.strerror}", err=True)
        _leave(1)  # what is not written yet cannot be written either
    except SystemExit:  # click's way out when whoever reads our output has closed it, which is no failure
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)


def _end(tell: Callable[[], None], code: int) -> NoReturn:
    """Say what is wrong, and end with this code, also when that cannot be said."""
    try:
        tell()
    except OSError:
        _leave(code)
    sys.exit(code)


def _leave(code: int) -> NoReturn:
    """End the process without what Python does at the end."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _open_streams() -> None:
    """Send standard streams that are closed nowhere: else the first file that is opened takes the number of one."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            os.set_inheritable(number, True)  # as those that are open: else it is closed again in each process that we start
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115 - lives as long as the process
