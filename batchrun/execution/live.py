"""What a running execution tells of itself, and what it is told: display, store and control files."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import anyio

from batchrun.core.executions import Progress
from batchrun.execution import control
from batchrun.execution.control import Request
from batchrun.execution.progress import Followed, parking_notes, snapshots, with_activity
from batchrun.execution.waits import Waits
from batchrun.store import Heartbeat
from batchrun.telemetry.progress import Display, Lines, display

_TICK_SECONDS = 0.2
_TICKS_PER_LOOK = 5  # control files, heartbeat, and what the items are doing


class Live:
    """Keeps everybody informed while the items of an execution run, and takes up requests.

    Args:
        folder: the execution's folder.
        name: of the job, for the display.
        quiet: show nothing.
        on_request: is called with what was asked for in control files: on the event loop while there is one.
        mask: takes secrets out of lines for people.

    Attributes:
        progress: how far it is; replaced several times a second.
        heartbeat: tells the store.
        waits: what the items have spent their time with.
        on_progress: is handed the progress once a second.
    """

    def __init__(
        self, folder: Path, name: str, *, quiet: bool, on_request: Callable[[Request], None], mask: Callable[[str], str] = str
    ) -> None:
        self.progress = Progress()
        self.heartbeat = Heartbeat(self.note)
        self.waits = Waits()
        self.on_progress: Callable[[Progress], None] = lambda _progress: None
        self._folder = folder
        self._name = name
        self._quiet = quiet
        self._mask = mask
        self._on_request = on_request
        self._display: Display | None = None
        self._notes: deque[str] = deque()  # not shown yet; no lock, for a signal handler may come in between

    def note(self, text: str) -> None:
        """Show a line of text; from any thread. What comes before there is a display is shown as soon as there is."""
        self._notes.append(self._mask(text))
        self._show_notes()

    @asynccontextmanager
    async def following(self, rooms: Followed) -> AsyncIterator[None]:
        """Tell how far the items are for as long as they run. What was asked before is taken up before the first of them."""
        shown = self._display = display(self._name, rooms.total_items, restored=rooms.dispatcher.counts.ended, quiet=self._quiet)
        self._show_notes()
        snapshot, are_over = snapshots(rooms), asyncio.Event()
        limiter = anyio.CapacityLimiter(1)  # functions of users may have taken all threads of the common one

        def waiting_for() -> Mapping[str, int]:
            return rooms.engine.activity().waiting_for

        async def look() -> None:
            before, self.progress = self.progress, with_activity(snapshot(self.progress), rooms)
            for note in parking_notes(before.resources, self.progress.resources):
                self.note(note)
            self.heartbeat.beat(asdict(self.progress))
            self.on_progress(self.progress)
            for request in await anyio.to_thread.run_sync(control.take, self._folder, limiter=limiter):
                self._on_request(request)

        async def tick() -> None:
            ticks = 0
            while not are_over.is_set():
                with anyio.move_on_after(_TICK_SECONDS):
                    await are_over.wait()
                ticks += 1
                self.progress = snapshot(self.progress)
                self.waits.look(waiting_for)
                if ticks % _TICKS_PER_LOOK == 0:
                    await look()
                shown.update(self.progress)

        await look()
        self.waits.look(waiting_for)  # time begins to count
        ticking = asyncio.create_task(tick())  # not in a task group, which would wrap the errors of the run
        try:
            yield
        finally:
            are_over.set()
            await asyncio.wait([ticking])  # a request that was taken out of its file must not get lost
            self.waits.look(waiting_for)
            self.progress = with_activity(snapshot(self.progress), rooms)
            shown.close(self.progress)

    def take_requests(self) -> None:
        """Take up what was asked since the items have ended."""
        for request in control.take(self._folder):
            self._on_request(request)

    def end(self) -> None:
        """The execution has ended: tell the store how far it came, and nothing any more."""
        self.heartbeat.beat(asdict(self.progress))
        self.heartbeat.close()
        if self._display is None and not self._quiet:  # it ended before its first item
            self._display = Lines(self._name, sys.stderr)
        self._show_notes()

    def _show_notes(self) -> None:
        if self._display is not None:
            with suppress(IndexError):
                while True:
                    self._display.note(self._notes.popleft())
