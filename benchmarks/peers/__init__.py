"""Other tools on the same work, each in an environment of its own. They need nothing of batchrun.

Each does what its users are told to write: a function for each of the three nodes, one after another. It has less to do than batchrun:
what it keeps of an item is its output. Start-up, imports and ten items to warm up are not measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

_WARM_ITEMS = 10


def ready(work: Callable[[int, Path], int], items: int, folder: str) -> tuple[Callable[[], int], float]:
    """Warm a tool up. Returns what is measured, and the seconds it takes when there is next to nothing to do.

    Args:
        work: does so many items, into an empty folder, and returns how many it did.
        items: how many are measured.
        folder: an empty one.
    """
    seconds = []
    for name in ("first", "second"):
        target = _made(Path(folder) / name)
        began = time.perf_counter()
        work(_WARM_ITEMS, target)
        seconds.append(time.perf_counter() - began)
    target = _made(Path(folder) / "all")
    return lambda: work(items, target), min(seconds)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
