"""The job file that `batchrun init` writes."""

from __future__ import annotations

from importlib.resources import files


def starter_job() -> str:
    """A small, complete job with a comment for each part of it."""
    return files(__package__).joinpath("starter.yaml").read_text(encoding="utf-8")
