"""The engines in which parts of calls run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import orjson

from batchrun.core.errors import NodeError
from batchrun.core.items import KeptNode, NodeRecord, RestoredItem
from batchrun.core.protocols import NodeJournal, Slot
from batchrun.engine.item_run import ItemRun
from batchrun.engine.part_run import PartJournal, PartRun
from batchrun.workflows.plan import Plan, Step

if TYPE_CHECKING:
    from batchrun.engine.quick import QuickCalls


class PartEngine(Protocol):
    """The engine of one plan, as far as its parts are concerned."""

    @property
    def plan(self) -> Plan:
        """What it runs."""

    @property
    def names(self) -> Sequence[int]:
        """By position of each node: the position that its records have."""

    @property
    def is_in_lanes(self) -> bool:
        """Whether anything is queued or at work in a lane."""

    @property
    def abandoned_count(self) -> int:
        """Threads of abandoned calls that have still not come back."""

    @property
    def quick(self) -> QuickCalls:
        """Calls its function, if that is all there is."""

    def run_here(self, run: ItemRun) -> None:
        """Run a plan in which nothing waits, in this lane thread, to its end or until it must wait."""

    async def drive(self, run: ItemRun, slot: Slot) -> ItemRun:
        """Run it to its end. Returns what has come to that end in its place."""

    def restore(self, run: ItemRun, restored: RestoredItem) -> None:
        """Take over what is kept of it."""

    def keep(self, runs: Iterable[ItemRun]) -> None:
        """Hand over what has ended to the journal."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


E = TypeVar("E", bound=PartEngine)
T = TypeVar("T")


class CannotBegin(NodeError):
    """What a part of a call needs could not be set up."""

    retryable = False


class PartEngines(Generic[E]):
    """The engines of the parts of all calls of one engine. All methods but `now` and `on_loop` are called on the event loop.

    Args:
        make: makes the engine of a plan whose parts belong to a node; it is told where what it keeps goes.
        journal: where that goes in the end; null: nothing is kept.
        on_open: told of each engine that is open, before anything runs in it.

    Attributes:
        runs: the parts of calls that have not ended, by their ordinals.
    """

    def __init__(
        self, make: Callable[[Plan, Step, NodeJournal | None], E], journal: NodeJournal | None, on_open: Callable[[E], object]
    ) -> None:
        self._make = make
        self._journal = journal
        self._on_open = on_open
        self._engines: dict[tuple[int, int], asyncio.Future[E | CannotBegin]] = {}
        self._ready: dict[tuple[int, int], E] = {}
        self._lives: list[asyncio.Task[None]] = []
        self._closing = asyncio.Event()
        self._ordinals = count(1)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.runs: dict[int, PartRun] = {}

    @property
    def is_durable(self) -> bool:
        """Whether anything is kept."""
        return self._journal is not None

    def next_ordinal(self) -> int:
        """Names a part among all parts."""
        return next(self._ordinals)

    def on_loop(self, function: Callable[[T], object], argument: T) -> None:
        """Call a function on the event loop; from any thread."""
        if threading.get_ident() == self._thread:
            function(argument)
        else:
            with suppress(RuntimeError):  # the loop is closed: the execution ended without this lane
                self._loop.call_soon_threadsafe(function, argument)

    def now(self, plan: Plan, step: Step) -> E:
        """The engine of a plan; in a lane thread."""
        engine = self._ready.get((id(plan), step.position))
        if engine is not None:
            return engine
        return asyncio.run_coroutine_threadsafe(self.of(plan, step), self._loop).result()

    async def of(self, plan: Plan, step: Step) -> E:
        """The engine of a plan; made when it is first asked for.

        Raises:
            CannotBegin: a node of it cannot be set up.
        """
        key = (id(plan), step.position)
        engine = self._ready.get(key)
        if engine is not None:
            return engine
        opened = self._engines.get(key)
        if opened is None:
            opened = self._engines[key] = asyncio.get_running_loop().create_future()
            journal = PartJournal(self._journal, self.runs) if self._journal is not None else None
            self._lives.append(asyncio.create_task(self._live(key, self._make(plan, step, journal), opened)))
        made = await asyncio.shield(opened)
        if isinstance(made, CannotBegin):
            raise CannotBegin(str(made))  # one of its own for each item, which holds on to what it goes through
        return made

    def keep_value(self, parent: ItemRun, path: str, value: Any) -> None:
        """Keep what a call was told and must be told again when it is made anew."""
        if self._journal is not None:
            text = orjson.dumps(value)
            record: NodeRecord = (0, "completed", 0, None, 0.0, None, text, None, None, None, False)
            source = parent.source
            self._journal.keep([KeptNode(source.ordinal, source.item_index, parent.attempts, path, record=record, output=text)])

    def each(self, action: Callable[[E], object]) -> None:
        """Do something with all of them."""
        for engine in self._ready.values():
            action(engine)

    @property
    def is_in_lanes(self) -> bool:
        """Whether any of them has anything in a lane."""
        return any(engine.is_in_lanes for engine in self._ready.values())

    @property
    def abandoned_count(self) -> int:
        """Threads of abandoned calls that have still not come back."""
        return sum(engine.abandoned_count for engine in self._ready.values())

    async def close(self) -> None:
        """End the engines. No part runs any more, and those that are still being set up are given up."""
        self._closing.set()
        for task, opened in zip(self._lives, self._engines.values(), strict=True):
            if not opened.done():
                task.cancel()
        for error in await asyncio.gather(*self._lives, return_exceptions=True):
            if error is not None and not isinstance(error, asyncio.CancelledError):
                raise error

    async def _live(self, key: tuple[int, int], engine: E, opened: asyncio.Future[E | CannotBegin]) -> None:
        """A task of its own: what an engine enters must be left in the same one."""
        try:
            async with engine:
                self._ready[key] = engine
                self._on_open(engine)
                opened.set_result(engine)
                await self._closing.wait()
        except Exception as error:  # what a node does before its first item may fail: its items do, then
            if opened.done():
                raise
            opened.set_result(CannotBegin(str(error)))
        finally:
            if not opened.done():
                opened.cancel()
