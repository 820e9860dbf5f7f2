"""The loader: finds the files of a dataset, checks what a job asks of them, and yields the items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.core.lazy import loader

if TYPE_CHECKING:
    from batchrun.datasets.delta import is_delta, table_version
    from batchrun.datasets.discover import DataFile
    from batchrun.datasets.frames import ONE_VALUE, frame_of_values, spool_frame
    from batchrun.datasets.loaded import Loaded
    from batchrun.datasets.registry import describe, frame_of, head
    from batchrun.datasets.registry_copy import object_of, snapshot
    from batchrun.datasets.registry_diff import ChangedRow, DatasetDiff, DiffRefused, diff_frames
    from batchrun.datasets.source import Source, open_source
else:
    __getattr__ = loader(
        __name__,
        {
            "delta": "is_delta table_version",
            "discover": "DataFile",
            "frames": "ONE_VALUE frame_of_values spool_frame",
            "loaded": "Loaded",
            "registry": "describe frame_of head",
            "registry_copy": "object_of snapshot",
            "registry_diff": "ChangedRow DatasetDiff DiffRefused diff_frames",
            "source": "Source open_source",
        },
    )

__all__ = [
    "ONE_VALUE",
    "ChangedRow",
    "DataFile",
    "DatasetDiff",
    "DiffRefused",
    "Loaded",
    "Source",
    "describe",
    "diff_frames",
    "frame_of",
    "frame_of_values",
    "head",
    "is_delta",
    "object_of",
    "open_source",
    "snapshot",
    "spool_frame",
    "table_version",
]
