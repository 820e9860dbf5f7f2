"""Finding the folder of an execution from what people type."""

from __future__ import annotations

from pathlib import Path

import click

from batchrun.core.ids import is_execution_id


def execution_folder(execution: str, runs: Path) -> Path:
    """The folder of an execution.

    Args:
        execution: a folder; an execution id or the unique beginning of one; or `latest`.
        runs: where to look for ids.

    Raises:
        click.ClickException: there is no such execution, or several.
    """
    folder = Path(execution)
    if (folder / "execution.json").exists() or (folder / "results.parquet").exists():
        return folder
    known = sorted(path.name for path in runs.iterdir() if is_execution_id(path.name)) if runs.is_dir() else []
    if execution == "latest" and known:
        return runs / known[-1]
    matching = [name for name in known if name.startswith(execution)]
    if len(matching) == 1:
        return runs / matching[0]
    if matching:
        raise click.ClickException(f"{execution} is the beginning of {len(matching)} executions in {runs}: {', '.join(matching[-5:])}")
    if not known:
        raise click.ClickException(f"there are no executions in {runs}; name the folder that has them with --runs")
    raise click.ClickException(f"no execution {execution!r} in {runs}; the latest are {', '.join(known[-3:])}")
