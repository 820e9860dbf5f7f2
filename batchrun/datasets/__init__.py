"""The loader: finds the files of a dataset, checks what a job asks of them, and yields the items."""

from __future__ import annotations

from batchrun.datasets.frames import spool_frame
from batchrun.datasets.loaded import Loaded
from batchrun.datasets.source import Source, open_source

__all__ = ["Loaded", "Source", "open_source", "spool_frame"]
