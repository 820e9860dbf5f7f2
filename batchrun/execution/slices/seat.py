"""The seat of one worker process: which items it has, and what becomes of them when it dies.

Items that were running in a worker when it died are run one at a time in its successor, so that whatever ends that one is the
doing of its only item. All others that it had go back to where they came from.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Protocol

import anyio
import polars as pl

from batchrun.core.errors import ExecutionError, InvalidValue
from batchrun.core.executions import Stop
from batchrun.datasets.handing import ORDINAL
from batchrun.engine.open_items import Activity
from batchrun.execution.slices.messages import Beat, Ended, Halt, Order, Over, Ready, Resize, Rows, Wanted
from batchrun.execution.slices.process import WorkerProcess
from batchrun.flow.slices import next_slice

_ENDING_SECONDS = 10.0  # for teardown


class Hub(Protocol):
    """What a seat asks of those who keep the execution."""

    @property
    def is_stopping(self) -> bool:
        """Whether no more items are begun."""

    @property
    def has_room(self) -> bool:
        """Whether rows are written as fast as they come."""

    def start(self, parallelism: int) -> Order:
        """What a worker is told first that works on so many items at once."""

    def slice(self, frame: pl.DataFrame) -> Order:
        """What a worker is told to run these items."""

    async def take(self, items: int) -> pl.DataFrame | None:
        """The next items to run, at most so many; null: there are none."""

    def give_back(self, frame: pl.DataFrame) -> None:
        """Take items back that were not run."""

    def has_rows(self, frame: pl.DataFrame) -> bool:
        """Whether all of these items have a row."""

    def unsettled(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Those of these items that have no row yet."""

    async def report(self, message: Any, seat: Seat) -> None:
        """Take what a worker tells."""

    def not_started(self, reason: str) -> None:
        """A worker has died before its first item. Ends it all when that goes on."""

    def died(self, reason: str) -> None:
        """A worker has died, and no item is to blame. Ends it all when that goes on."""

    def blame(self, frame: pl.DataFrame, process: WorkerProcess, code: int) -> None:
        """An item has ended its worker."""

    def note(self, line: str) -> None:
        """Say something to people, once."""

    def break_off(self, error: ExecutionError) -> None:
        """Nothing can go on."""


class Seat:
    """A worker process, replaced when it dies.

    Args:
        hub: keeps the execution.
        first_items: to begin with.
        parallelism: items at once.

    Attributes:
        activity: what its items are doing.
    """

    def __init__(self, hub: Hub, parallelism: int) -> None:
        self.activity = Activity({}, {})
        self._hub = hub
        self._parallelism = self._items = parallelism
        self._process: WorkerProcess | None = None
        self._given: deque[pl.DataFrame] = deque()
        self._suspects: deque[pl.DataFrame] = deque()  # of one item each
        self._is_alone = False
        self._is_told_over = self._has_ended = False
        self._since = time.monotonic()

    async def run(self) -> None:
        """Have workers run items until there are none. Tells the hub of whatever ends it all."""
        try:
            while not self._hub.is_stopping and not self._has_ended:
                await self._run_process()
        except (ExecutionError, InvalidValue) as error:
            self._hub.break_off(ExecutionError(str(error)))

    def send(self, order: Order) -> None:
        """Tell the worker something, if there is one."""
        if self._process is not None:
            self._process.send(order)

    def halt(self, cause: Stop) -> None:
        """Have the worker begin no more items. One that is not ready has none, and its nodes may take long to be set up."""
        if self._process is not None and not self._process.is_ready:
            self._process.kill()
        self.send(Halt(cause))

    def resize(self, parallelism: int) -> None:
        """Have it work on so many items at once."""
        self._parallelism = parallelism
        if not self._is_alone:
            self.send(Resize(parallelism))

    def kill(self) -> None:
        """End the worker at once."""
        if self._process is not None:
            self._process.kill()

    async def _run_process(self) -> None:
        self._is_alone, self._is_told_over = bool(self._suspects), False
        process = self._process = await WorkerProcess.started()
        patience_seconds = 0.0
        try:
            if self._hub.is_stopping:  # since it was started, so that nobody has told it
                process.kill()
            process.send(self._hub.start(1 if self._is_alone else self._parallelism))
            while (message := await process.receive()) is not None:
                await self._take(process, message)
            patience_seconds = _ENDING_SECONDS
        finally:
            with anyio.CancelScope(shield=True):
                code = await process.ended(patience_seconds)
            self._process, self.activity = None, Activity({}, {})
        if not self._has_ended and not self._hub.is_stopping:
            self._find_out(process, code)

    async def _take(self, process: WorkerProcess, message: Any) -> None:
        if isinstance(message, Ready):
            process.is_ready = True
            self._since = time.monotonic()
            await self._give()
            if not self._is_alone:
                await self._give()  # one to work on, and one ahead
        elif isinstance(message, Beat):
            self.activity = message.activity
        elif isinstance(message, Wanted):
            await self._taken_up()
        elif isinstance(message, Ended):
            self._has_ended = True
            await self._hub.report(message, self)
        else:
            while not self._hub.has_room:  # noqa: ASYNC110 - rows are written without telling
                await anyio.sleep(0.01)
            await self._hub.report(message, self)
            if isinstance(message, Rows):
                await self._settled()

    async def _taken_up(self) -> None:
        now = time.monotonic()
        if not self._is_alone:
            self._items = next_slice(self._items, now - self._since)
            self._since = now
            await self._give()

    async def _settled(self) -> None:
        """Some items have ended."""
        while self._given and self._hub.has_rows(self._given[0]):
            self._given.popleft()
        if self._is_alone and not self._given:
            if not self._suspects:  # none of them was it, or those that were have their rows
                self._is_alone = False
                self.send(Resize(self._parallelism))
                await self._give()
            await self._give()

    async def _give(self) -> None:
        """Give the worker something to do."""
        if self._is_told_over or self._hub.is_stopping:
            return
        frame = self._suspects.popleft() if self._suspects else await self._hub.take(self._items)
        if frame is not None:
            self._given.append(frame)
            self.send(self._hub.slice(frame))
        else:
            self._is_told_over = True
            self.send(Over())

    def _find_out(self, process: WorkerProcess, code: int) -> None:
        """A worker has died: find out why, or see to it that it is found out."""
        left = [frame for given in self._given if (frame := self._hub.unsettled(given)).height]
        self._given.clear()
        how = process.how_it_ended(code)
        if not process.is_ready:
            self._hub.not_started(f"it ended with {how}{_said(process.last_words)}")
        elif self._is_alone and left:
            self._hub.blame(left[0], process, code)
        else:
            running = process.marks.ordinals
            at_work = [frame.filter(pl.col(ORDINAL).is_in(list(running))) for frame in left]
            suspects = [item for frame in at_work for item in frame.iter_slices(1)]
            self._put_back([frame.filter(~pl.col(ORDINAL).is_in(list(running))) for frame in left])
            if len(suspects) == 1 and process.was_held:
                self._hub.blame(suspects[0], process, code)
            elif suspects:
                self._suspects.extend(suspects)
                self._hub.note(f"a worker process died with {how}: the items that it was at run again, one at a time")
            else:
                self._hub.died(f"it ended with {how}{_said(process.last_words)}")

    def _put_back(self, frames: list[pl.DataFrame]) -> None:
        for frame in reversed(frames):
            self._hub.give_back(frame)


def _said(last_words: str) -> str:
    return f":\n{last_words.strip()}" if last_words.strip() else ""
