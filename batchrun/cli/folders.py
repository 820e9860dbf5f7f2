"""Finding the folder of an execution from what people type."""

from __future__ import annotations

from pathlib import Path


def execution_folder(execution: str, runs: Path) -> Path:
    """The folder of an execution, as `batchrun.client.finding.find_folder` finds it; near the working directory where it can be.

    Raises:
        NoSuchExecution: there is no such execution, or several.
    """
    from batchrun.client.finding import find_folder

    folder = find_folder(execution, runs)
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) and folder != here else folder
