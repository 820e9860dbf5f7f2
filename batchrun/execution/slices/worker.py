"""What a worker process does: it runs the items that its parent gives it, as an execution in one process would."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, BinaryIO

import anyio

from batchrun.core.errors import BatchrunError
from batchrun.core.events import Event
from batchrun.core.executions import Stop
from batchrun.core.items import Item, ItemResult, RestoredItem
from batchrun.core.protocols import OutputCache, Slot
from batchrun.core.secrets import Mask
from batchrun.datasets.handing import unpacked_rows
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.dispatch.neighbours import Rooms
from batchrun.engine.engine import Engine, EngineSettings
from batchrun.engine.item_run import ItemRun
from batchrun.execution.event_loop import loop_options
from batchrun.execution.held import Look, end_when_held, limit_seconds
from batchrun.execution.item_events import events_of
from batchrun.execution.masking import MaskedCache, MaskedJournal, MaskedResults, masked_events
from batchrun.execution.process import rare_collections
from batchrun.execution.slices.marks import Marks
from batchrun.execution.slices.messages import (
    Beat,
    Broken,
    Ended,
    Halt,
    Link,
    MadeAgain,
    Note,
    Order,
    Over,
    Ready,
    Resize,
    Slice,
    Start,
    Stopped,
    Wanted,
    Written,
    told,
)
from batchrun.execution.slices.rooms import Pace, RowsSink, SliceFeed
from batchrun.flow.budget import Spending
from batchrun.nodes.worker_main import belong_to
from batchrun.store import Cache
from batchrun.workflows.compiler import Surroundings, compile_workflow
from batchrun.workflows.home import EXECUTION_FOLDER
from batchrun.workflows.plan import Plan

_BEAT_SECONDS = 0.25


def main() -> None:
    """Run as `worker.main()` with the numbers of the connection, the pipe for last words and the file of marks, and the parent's id."""
    connection, words = socket.socket(fileno=int(sys.argv[1])), os.fdopen(int(sys.argv[2]), "wb", buffering=0)
    for descriptor in (connection.fileno(), words.fileno()):
        os.set_inheritable(descriptor, False)
    marks, parent = Marks(int(sys.argv[3])), int(sys.argv[4])
    belong_to(parent)
    sys.argv[:] = ["batchrun-worker"]
    faulthandler.enable(words, all_threads=False)
    link = Link(connection)
    start = link.receive()
    if start is None:
        os._exit(1)
    try:
        worker = _Worker(told(start), link, marks, words)
        anyio.run(worker.run, backend_options=loop_options(worker.plan))
    except BatchrunError as error:
        link.send(Broken(str(error)))
    with suppress(OSError, ValueError):  # functions may have closed them
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)  # threads of calls that hang may be left


class _MarkedEngine(Engine):
    """Marks the items that it runs. Those in lanes are marked there."""

    slots: list[memoryview]
    marks: Marks

    async def run(self, item: Item, slot: Slot, *others: Any, **named: Any) -> ItemResult:
        place = self.slots.pop() if self.slots else self.marks.take()
        place[0] = item.ordinal
        try:
            return await super().run(item, slot, *others, **named)
        finally:
            place[0] = -1
            self.slots.append(place)


class _Worker:
    """Runs items.

    Args:
        start: what the parent said first.
        link: to the parent.
        marks: takes which items it is at.
        words: what is said there is heard when the process has died.

    Attributes:
        plan: what the items are run through.

    Raises:
        BatchrunError: the job cannot be prepared here.
    """

    def __init__(self, start: Start, link: Link, marks: Marks, words: BinaryIO) -> None:
        self._start = start
        self._link = link
        self._marks = marks
        self._words = words
        self._mask = Mask(start.secrets.values())
        self.plan = _compiled(start)
        self._spending = Spending(start.loaded.run.budget)
        self._sink = RowsSink(link, start.layout, self._spending, self._events if start.tells_events else None)
        self._restored: dict[int, RestoredItem] = {}
        self._is_cancelled = False
        self._parallelism = start.loaded.run.parallelism
        end_when_held(start.loaded.run.grace_seconds)
        EXECUTION_FOLDER.set(Path(start.folder))

    async def run(self) -> None:
        """Run all items that come.

        Raises:
            BatchrunError: the nodes cannot be set up.
        """
        start, mask = self._start, self._mask
        run, recording = start.loaded.run, start.loaded.job.output.node_executions
        sink = MaskedResults(self._sink, mask) if mask else self._sink
        with rare_collections(), self._cache() as cache:
            settings = EngineSettings(
                start.execution_id,
                run,
                recording,
                journal=None if not start.is_durable else MaskedJournal(self._sink, mask, self._note) if mask else self._sink,
                restored=self._restored.get if start.is_resumed else None,
                stale=start.stale,
                spending=self._spending,
                on_note=self._note,
                cache=cache,
                part_names=start.layout.parts,
                lane_slots=self._marks,
                is_cancelled=lambda: self._is_cancelled,
                on_sent_back=masked_events(lambda event: self._sink.tell(MadeAgain(event)), mask) if start.tells_sent_back else None,
                cores=1,  # others use the rest
                pack=sink.pack,
            )
            async with _MarkedEngine(self.plan, settings, on_stop=lambda cause: self._stop_by_call(dispatcher, cause)) as engine:
                engine.slots, engine.marks = [], self._marks
                feed = SliceFeed(lambda: self._sink.tell(Wanted()))
                dispatcher: Dispatcher[ItemRun] = Dispatcher(engine, Rooms(feed, sink), run)
                await self._work(engine, dispatcher, feed)

    async def _work(self, engine: Engine, dispatcher: Dispatcher[ItemRun], feed: SliceFeed) -> None:
        is_in_chunks = self.plan.is_in_chunks
        if is_in_chunks:
            pace = Pace(lambda: dispatcher.counts.ended, lambda: self._parallelism)
            feed.room = lambda: dispatcher.stop_cause is not None or _held(engine, feed, dispatcher) < pace.most_items
        loop, hear = asyncio.get_running_loop(), partial(self._hear, dispatcher, feed)
        Thread(
            target=self._listen,
            args=(lambda order, items: loop.call_soon_threadsafe(hear, order, items),),
            name="batchrun-listener",
            daemon=True,
        ).start()
        self._sink.tell(Ready())
        beating = asyncio.create_task(self._beat(engine))
        limit = limit_seconds(self.plan, self._start.loaded.run)
        look = Look(limit, self._words) if limit is not None else None
        try:
            await (dispatcher.run_chunks() if is_in_chunks else dispatcher.run_items())
        finally:
            beating.cancel()
            if look is not None:
                look.close()
        self._sink.tell(Ended(engine.batches.sizes, engine.abandoned_count > 0))
        self._sink.close()

    async def _beat(self, engine: Engine) -> None:
        while True:
            self._sink.tell(Beat(engine.activity()))
            await asyncio.sleep(_BEAT_SECONDS)

    def _listen(self, hear: Callable[[Order, list[Item]], object]) -> None:
        """In a thread: take what the parent says, as long as there is one."""
        try:
            while (frame := self._link.receive()) is not None:
                order = told(frame)
                items = self._start.shape.items(unpacked_rows(order.rows)) if isinstance(order, Slice) else []
                with suppress(RuntimeError):  # the loop is closed: it came too late
                    hear(order, items)
        finally:
            if sys.exc_info()[1] is not None:
                traceback.print_exc()
            os._exit(1)

    def _hear(self, dispatcher: Dispatcher[ItemRun], feed: SliceFeed, order: Order, items: list[Item]) -> None:
        if isinstance(order, Slice):
            self._restored.update(order.restored)
            feed.put(items)
        elif isinstance(order, Over):
            feed.end()
        elif isinstance(order, Halt):
            self._is_cancelled = order.cause.reason == "cancel"
            dispatcher.stop(order.cause)
            feed.end()
        elif isinstance(order, Resize):
            self._parallelism = order.parallelism
            dispatcher.resize(order.parallelism)
        elif isinstance(order, Written):
            self._sink.written(order)

    def _stop_by_call(self, dispatcher: Dispatcher[ItemRun], cause: Stop) -> None:
        masked = cause._replace(message=self._mask.text(cause.message))
        self._sink.tell(Stopped(masked))
        dispatcher.stop(masked)

    def _note(self, line: str) -> None:
        self._sink.tell(Note(self._mask.text(line)))

    def _events(self, results: Sequence[ItemResult]) -> list[Event]:
        return list(events_of(results, self._start.execution_id, self._start.layout))

    @contextmanager
    def _cache(self) -> Iterator[OutputCache | None]:
        if not any(step.is_cached for step in self.plan.steps):
            yield None
            return
        with closing(Cache(self._start.loaded.name, self._note)) as cache:
            yield MaskedCache(cache, self._mask) if self._mask else cache


def _compiled(start: Start) -> Plan:
    loaded = start.loaded
    surroundings = Surroundings(
        columns=start.columns,
        input_field=loaded.dataset.input_field,
        vars=loaded.job.vars,
        secrets=start.secrets,
        resources={},
        run=loaded.run,
        inputs=loaded.dataset.inputs,
        folder=loaded.folder,
        prices=loaded.job.prices,
    )
    return compile_workflow(loaded.workflow, surroundings)


def _held(engine: Engine, feed: SliceFeed, dispatcher: Dispatcher[ItemRun]) -> int:
    """Items that are at work or queued for it."""
    return feed.loaded - dispatcher.counts.ended - engine.activity().waiting_for["backoff"]
