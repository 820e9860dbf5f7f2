"""Handing events to sinks: each has a thread and a bounded queue of its own, and can neither break the run nor hold it up."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from batchrun.core.events import Event, EventSink

LONGEST_QUEUE = 10_000
"""The most events that wait for one sink."""

CLOSING_SECONDS = 5.0
"""How long the end of a run waits for sinks that have not taken all events yet."""

_STUCK_SECONDS = 1.0


class ManyAtOnce(Protocol):
    """A sink that takes events in groups, and must miss none of them if that can be helped."""

    def take(self, events: Sequence[Event]) -> None:
        """Take events, in the order in which they were told."""


class SinkReport(NamedTuple):
    """What became of the events of one sink.

    Attributes:
        name: of its function or class.
        told: events that were handed to it.
        failed: events for which it raised.
        dropped: events that it was not told of, because it hangs or is too slow.
        error: what it raised first.
        is_late: whether it had not come to its end when the run ended.
    """

    name: str
    told: int
    failed: int
    dropped: int
    error: str | None
    is_late: bool


class SinkThread:
    """Hands events to one sink, in a daemon thread.

    Args:
        sink: a function of one event, sync or async, or an object with `take`. Its `close()`, if it has one, is called at the end.
        on_note: called with a line for people when it fails for the first time; from its thread.
        longest_queue: events that wait for it at most; whatever comes then is dropped.
        clock: seconds.
    """

    def __init__(
        self,
        sink: EventSink | ManyAtOnce,
        on_note: Callable[[str], None],
        longest_queue: int = LONGEST_QUEUE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = _name_of(sink)
        self._sink = sink
        self._is_many = hasattr(sink, "take")
        self._on_note = on_note
        self._longest_queue = longest_queue
        self._clock = clock
        self._queue: deque[Event] = deque()
        self._lock = threading.Condition()
        self._is_closing = False
        self._is_given_up = False
        self._told = self._failed = self._dropped = 0
        self._in_hand = 0
        self._moved_at = clock()
        self._error: str | None = None
        self._runner: asyncio.Runner | None = None
        self._thread = threading.Thread(target=self._work, name=f"batchrun-events-{self.name}", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """Events for which the run should wait: those of a sink that must miss none, for as long as it is getting on."""
        with self._lock:
            return len(self._queue) + self._in_hand if self._is_many and not self._is_stuck else 0

    @property
    def _is_stuck(self) -> bool:
        return self._clock() - self._moved_at > _STUCK_SECONDS

    def put(self, events: Iterable[Event]) -> None:
        """Hand over events, from any thread; never blocks. Whatever does not fit into the queue is dropped."""
        with self._lock:
            if not self._queue and not self._in_hand:
                self._moved_at = self._clock()  # it was idle, not stuck
            may_grow = self._is_many and not self._is_stuck  # it slows the run down instead; see `backlog`
            for event in events:
                if self._is_closing or (len(self._queue) >= self._longest_queue and not may_grow):
                    self._dropped += 1
                else:
                    self._queue.append(event)
            self._lock.notify()

    def ask_to_close(self) -> None:
        """Take no more events; those in the queue are still told."""
        with self._lock:
            self._is_closing = True
            self._lock.notify()

    def report(self, timeout_seconds: float) -> SinkReport:
        """Wait for the last event, but no longer than that; returns what became of all of them."""
        self._thread.join(timeout_seconds)
        with self._lock:
            self._is_given_up = True
            dropped = self._dropped + len(self._queue) + self._in_hand
            self._queue.clear()
            return SinkReport(self.name, self._told, self._failed, dropped, self._error, self._thread.is_alive())

    def _work(self) -> None:
        while events := self._next():
            if self._is_many:
                self._hand(self._sink.take, events, len(events))  # type: ignore[union-attr]
            else:
                for event in events:
                    self._hand(self._sink, event, 1)  # type: ignore[arg-type]
                    if self._is_given_up:
                        return
        close = getattr(self._sink, "close", None)
        if callable(close):
            self._call(close)
        if self._runner is not None:
            self._runner.close()

    def _next(self) -> list[Event]:
        """The events that wait; nothing when there will be none any more."""
        with self._lock:
            while not self._queue and not self._is_closing:
                self._lock.wait()
            events = list(self._queue)
            self._queue.clear()
            self._in_hand = len(events)
            return events

    def _hand(self, call: Callable[[Any], Any], argument: Any, count: int) -> None:
        is_told = self._call(partial(call, argument))
        with self._lock:
            if self._is_given_up:  # it came back after all, too late to count
                return
            self._moved_at = self._clock()
            self._in_hand -= count
            self._told += count
            self._failed += 0 if is_told else count

    def _call(self, call: Callable[[], Any]) -> bool:
        """Call the sink. Returns whether that went well; what it raises the first time is told."""
        try:
            returned = call()
            if inspect.isawaitable(returned):
                self._runner = self._runner or asyncio.Runner()
                self._runner.run(_awaited(returned))
        except BaseException as error:  # whatever code of users raises is nothing to the run
            if self._error is None:
                self._error = f"{type(error).__name__}: {_text(error)}"
                self._on_note(f"{self.name} raised {self._error}; it is told of later events all the same")
            return False
        return True


class Broadcast:
    """Tells all sinks of an execution.

    Args:
        sinks: functions of one event, or objects with `take`.
        on_note: called with lines for people; from any thread.
    """

    def __init__(self, sinks: Sequence[EventSink | ManyAtOnce], on_note: Callable[[str], None]) -> None:
        self._on_note = on_note
        self._threads = [SinkThread(sink, on_note) for sink in sinks]

    @property
    def backlog(self) -> int:
        """Events for which the run should wait."""
        return max(thread.backlog for thread in self._threads)

    def put(self, events: Sequence[Event]) -> None:
        """Tell all sinks; from any thread. Never blocks and never raises."""
        for thread in self._threads:
            thread.put(events)

    def tell(self, event: Event) -> None:
        """Tell all sinks of one event; as `put`."""
        self.put((event,))

    def close(self, timeout_seconds: float = CLOSING_SECONDS) -> list[SinkReport]:
        """Tell what is left, for so long at most. Returns what became of the events, of each sink that did not take all of them."""
        for thread in self._threads:
            thread.ask_to_close()
        ends_at = time.monotonic() + timeout_seconds
        reports = [thread.report(max(ends_at - time.monotonic(), 0.0)) for thread in self._threads]
        troubled = [report for report in reports if report.failed or report.dropped or report.error or report.is_late]
        for report in troubled:
            self._on_note(said(report))
        return troubled


def said(report: SinkReport) -> str:
    """What people are told about a sink that did not take all events."""
    parts = []
    if report.failed:
        parts.append(f"raised for {report.failed:,} of {report.told:,} events, the first time {report.error}")
    elif report.error:
        parts.append(f"raised {report.error} when it was closed")
    if report.dropped:
        parts.append(f"was not told of {report.dropped:,} events: it hangs or is too slow")
    elif report.is_late:
        parts.append("was still being closed when the run ended; what it holds may be lost")
    return f"{report.name} {', and '.join(parts)}"


async def _awaited(awaitable: Any) -> None:
    await awaitable


def _name_of(sink: object) -> str:
    """A name for people: of the function, else of the class."""
    name = getattr(sink, "__qualname__", None)
    if name is None:
        return _name_of(sink.func) if isinstance(sink, partial) else type(sink).__name__
    return str(name).replace("<locals>.", "")


def _text(error: BaseException) -> str:
    try:
        return str(error)[:500]
    except BaseException:  # a __str__ of the user's
        return "(the message cannot be shown)"
