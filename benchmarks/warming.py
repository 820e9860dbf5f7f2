"""Warming up, the same for all that is measured. Runs in the environments of other tools, too: needs the standard library only."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

WARM_ITEMS = 10
_RUNS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm:
    """What a few items took before anything was measured.

    Attributes:
        first_seconds: the first time, which pays for imports and for whatever a tool starts; it is part of the start-up.
        fixed_seconds: what each time costs whatever its items; it is taken off what is measured.
    """

    first_seconds: float = 0.0
    fixed_seconds: float = 0.0


def warm(work: Callable[[], Any]) -> Warm:
    """Do the same thing with a few items three times. The least it took is what each time costs whatever its items."""
    seconds = []
    for _ in range(_RUNS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return Warm(first_seconds=seconds[0], fixed_seconds=min(seconds))


def first(work: Callable[[], Any]) -> Warm:
    """Do it once, where all of what is measured counts."""
    began = time.perf_counter()
    work()
    return Warm(first_seconds=time.perf_counter() - began)
