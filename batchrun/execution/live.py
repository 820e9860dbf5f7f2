"""What a running execution tells of itself, and what it is told: display, store and control files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import anyio

from batchrun.core.executions import Progress
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.engine.engine import Engine
from batchrun.engine.item_run import ItemRun
from batchrun.execution import control
from batchrun.execution.control import Request
from batchrun.results import ResultWriter
from batchrun.store import Heartbeat
from batchrun.telemetry.progress import Display, display

_TICK_SECONDS = 0.2
_TICKS_PER_LOOK = 5  # control files, heartbeat, and what the items are doing


class Followed(NamedTuple):
    """The rooms that know how far an execution is."""

    dispatcher: Dispatcher[ItemRun]
    engine: Engine
    writer: ResultWriter
    total_items: int


class Live:
    """Keeps everybody informed while the items of an execution run, and takes up requests.

    Args:
        folder: the execution's folder.
        name: of the job, for the display.
        quiet: show nothing.
        on_request: is called on the event loop with what was asked for in control files.

    Attributes:
        progress: how far it is; replaced several times a second.
        heartbeat: tells the store.
    """

    def __init__(self, folder: Path, name: str, *, quiet: bool, on_request: Callable[[Request], None]) -> None:
        self.progress = Progress()
        self.heartbeat = Heartbeat(self.note)
        self._folder = folder
        self._name = name
        self._quiet = quiet
        self._on_request = on_request
        self._display: Display | None = None
        self._early: list[str] = []  # notes from before there is a display

    def note(self, text: str) -> None:
        """Show a line of text; from any thread."""
        if self._display is None:
            self._early.append(text)
        else:
            self._display.note(text)

    @asynccontextmanager
    async def following(self, rooms: Followed) -> AsyncIterator[None]:
        """Tell how far the items are for as long as they run."""
        shown = self._display = display(self._name, rooms.total_items, quiet=self._quiet)
        for text in self._early:
            shown.note(text)
        snapshot = _snapshots(rooms)

        async def tick() -> None:
            looks = 0
            while True:
                await anyio.sleep(_TICK_SECONDS)
                looks += 1
                self.progress = snapshot(self.progress)
                if looks % _TICKS_PER_LOOK == 1:
                    await self._look(rooms)
                shown.update(self.progress)

        ticking = asyncio.create_task(tick())  # not in a task group, which would wrap the errors of the run
        try:
            yield
        finally:
            ticking.cancel()
            self.progress = snapshot(Progress())
            shown.close(self.progress)

    def end(self) -> None:
        """The execution has ended: tell the store how far it came, and nothing any more."""
        self.heartbeat.beat(asdict(self.progress))
        self.heartbeat.close()

    async def _look(self, rooms: Followed) -> None:
        self.progress = _with_activity(self.progress, rooms)
        self.heartbeat.beat(asdict(self.progress))
        for request in await anyio.to_thread.run_sync(control.take, self._folder):
            self._on_request(request)


def _snapshots(rooms: Followed) -> Callable[[Progress], Progress]:
    """Gives the progress at this moment; what the items are doing is as it was at the last look."""
    dispatcher, started = rooms.dispatcher, time.monotonic()
    restored_items = dispatcher.counts.ended

    def snapshot(before: Progress) -> Progress:
        counts = dispatcher.counts
        return replace(
            before,
            total_items=rooms.total_items,
            completed_items=counts.completed,
            failed_items=counts.failed,
            skipped_items=counts.skipped,
            cancelled_items=counts.cancelled,
            waiting_items=counts.waiting,
            open_items=dispatcher.open_items,
            restored_items=restored_items,
            elapsed_seconds=time.monotonic() - started,
            total_nodes=len(rooms.engine.plan.steps),
        )

    return snapshot


def _with_activity(progress: Progress, rooms: Followed) -> Progress:
    nodes, waiting_for = rooms.engine.activity()
    current = max(nodes, key=nodes.__getitem__, default=None)
    slowest = max(rooms.writer.totals.nodes, key=lambda node: node.total_ms, default=None)
    return replace(
        progress,
        current_node_id=current,
        current_node_idx=next((step.position for step in rooms.engine.plan.steps if step.id == current), None),
        slowest_node_id=slowest.node_id if slowest is not None and slowest.calls else None,
        open_nodes=nodes,
        waiting_for=waiting_for,
    )
