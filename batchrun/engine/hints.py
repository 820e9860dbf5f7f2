"""Noticing that processes would pay: functions in lanes keep one core busy, and other cores have nothing to do."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable

from batchrun.workflows.plan import Step

_PATIENCE_SECONDS = 5.0
_BUSY_RATIO = 0.8
_ONE_CORE = (_BUSY_RATIO, 1.2)  # above that, the functions let go of the interpreter lock and use several cores already
_SHORTEST_CALL_SECONDS = 0.001  # below that, the way to another process and back costs more than it saves


class ProcessHint:
    """Says once which node should run in processes. It is fed a few times a second with what the lanes know anyway.

    Args:
        on_note: called with the line.
        cores: that this process may use.
        load: how many cores of the machine are busy, on average.
    """

    def __init__(
        self,
        on_note: Callable[[str], None],
        cores: int | None = None,
        load: Callable[[], float] = lambda: os.getloadavg()[0],
    ) -> None:
        self._on_note = on_note
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._cores = usable if cores is None else cores
        self._load = load
        self._seconds = self._busy_seconds = 0.0
        self._seen: Counter[str] = Counter()
        self._is_said = self._cores < 2

    def saw(self, seconds: float, use: float, item_seconds: float, steps: list[Step]) -> None:
        """Look at lanes that have had work all the time.

        Args:
            seconds: since the last time.
            use: cores that this process kept busy meanwhile.
            item_seconds: what an item takes in a lane.
            steps: what the lanes are at.
        """
        if self._is_said:
            return
        self._seconds += seconds
        if _ONE_CORE[0] <= use <= _ONE_CORE[1] and item_seconds >= _SHORTEST_CALL_SECONDS:
            self._busy_seconds += seconds
            self._seen.update(step.id for step in steps if step.type == "python")
        if self._seconds < _PATIENCE_SECONDS:
            return
        if self._seen and self._busy_seconds >= _BUSY_RATIO * self._seconds and self._load() <= self._cores - 0.5:
            self._is_said = True
            (node_id, _), *_ = self._seen.most_common(1)
            self._on_note(
                f"node {node_id} keeps one of {self._cores} cores busy and waits for nothing, while others are idle: "
                "in: process would use them all"
            )
        self._seconds = self._busy_seconds = 0.0
        self._seen.clear()
