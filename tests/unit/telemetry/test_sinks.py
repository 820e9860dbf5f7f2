"""Handing events to sinks that raise, hang, await or are slow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from batchrun.core.events import Event, ExecutionStarted
from batchrun.telemetry.sinks import Broadcast, SinkThread, said

PATIENCE_SECONDS = 60.0
AT = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)


def event(number: int) -> ExecutionStarted:
    return ExecutionStarted(execution_id="one", at=AT, job_name="job", total_items=number, restored_items=0)


def numbers(events: Sequence[Any]) -> list[int]:
    return [each.total_items for each in events]


class Hanging:
    """Takes the first event and never comes back, until the test is over."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self.is_over = threading.Event()
        self.taken: list[Event] = []

    def __call__(self, taken: Event) -> None:
        self.taken.append(taken)
        self.has_begun.set()
        self.is_over.wait(PATIENCE_SECONDS)


class HangingLog(Hanging):
    """The same, of a sink that takes many at once."""

    def take(self, events: Sequence[Event]) -> None:
        self(events[0])


@pytest.fixture(params=[Hanging, HangingLog])
def hanging(request: pytest.FixtureRequest) -> Iterator[Hanging]:
    sink: Hanging = request.param()
    yield sink
    sink.is_over.set()


def told(sinks: Sequence[Any], events: Sequence[Event]) -> tuple[list[str], list[Any]]:
    """Tell sinks of events; returns the notes, and the reports of sinks in trouble."""
    notes: list[str] = []
    broadcast = Broadcast(sinks, notes.append)
    broadcast.put(events)
    return notes, broadcast.close(PATIENCE_SECONDS)


def test_every_event_comes_once_and_in_order() -> None:
    """A callback can count on what it is told."""
    taken: list[Any] = []
    assert told([taken.append], [event(number) for number in range(5_000)]) == ([], [])
    assert numbers(taken) == list(range(5_000))


def test_async_callbacks_are_awaited_in_a_loop_of_their_own() -> None:
    """Who has an async client can use it; what it needs of a loop stays there from event to event."""
    taken, loops, notes = [], set(), []

    async def sink(each: Any) -> None:
        await asyncio.sleep(0)
        loops.add(id(asyncio.get_running_loop()))
        taken.append(each)

    notes, troubled = told([sink], [event(number) for number in range(50)])
    assert (notes, troubled, numbers(taken), len(loops)) == ([], [], list(range(50)), 1)


@pytest.mark.parametrize("raised", [ValueError("no"), SystemExit(3), KeyboardInterrupt("no"), asyncio.CancelledError("no")], ids=repr)
def test_a_callback_that_raises_is_told_of_the_rest_and_noted_once(raised: BaseException) -> None:
    """One bad event is not the end of the log, and a thousand of them are not a thousand lines."""
    taken = []

    def picky(each: Any) -> None:
        taken.append(each)
        if each.total_items % 2:
            raise raised

    notes, troubled = told([picky], [event(number) for number in range(10)])
    assert numbers(taken) == list(range(10))
    assert [report[1:4] for report in troubled] == [(10, 5, 0)]
    assert len(notes) == 2
    assert "picky raised" in notes[0]
    assert "raised for 5 of 10 events" in notes[1]


def test_an_error_that_cannot_be_shown_breaks_nothing() -> None:
    """The message of an exception is code of its author, too."""

    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def sink(_event: Event) -> None:
        raise Unspeakable

    notes, _ = told([sink], [event(0)])
    assert "Unspeakable: (the message cannot be shown)" in notes[0]


def test_a_sink_that_hangs_loses_events_and_holds_up_nobody(hanging: Hanging) -> None:
    """The queue is bounded, the end comes in bounded time, other sinks hear everything, and people hear how many were lost."""
    taken: list[Any] = []
    notes: list[str] = []
    all_told = threading.Event()

    def take(each: Any) -> None:
        taken.append(each)
        if len(taken) == 101:
            all_told.set()

    broadcast = Broadcast([hanging, take], notes.append)
    broadcast.tell(event(0))
    assert hanging.has_begun.wait(PATIENCE_SECONDS)
    broadcast.put([event(number) for number in range(1, 101)])
    assert all_told.wait(PATIENCE_SECONDS)
    (report,) = broadcast.close(timeout_seconds=0.2)
    assert (report.told, report.failed, report.dropped) == (0, 0, 101)
    assert numbers(taken) == list(range(101))
    assert notes == [f"{type(hanging).__name__} was not told of 101 events: it hangs or is too slow"]


def test_what_does_not_fit_into_the_queue_is_dropped_and_counted() -> None:
    """Memory is bounded, however slow a callback is."""
    sink = Hanging()
    thread = SinkThread(sink, print, longest_queue=10)
    thread.put([event(0)])
    assert sink.has_begun.wait(PATIENCE_SECONDS)
    thread.put([event(number) for number in range(1, 31)])
    sink.is_over.set()
    thread.ask_to_close()
    assert thread.report(PATIENCE_SECONDS)[1:4] == (11, 0, 20)
    assert numbers(sink.taken) == list(range(11))


def test_the_run_waits_for_a_log_that_is_getting_on_and_not_for_one_that_hangs() -> None:
    """A log has every event of a run that is faster than it, but a disk that hangs does not hold up the run."""
    now = [0.0]
    sink = HangingLog()
    thread = SinkThread(sink, print, longest_queue=10, clock=lambda: now[0])
    thread.put([event(0)])
    assert sink.has_begun.wait(PATIENCE_SECONDS)
    thread.put([event(number) for number in range(1, 31)])
    assert thread.backlog == 31
    now[0] = 2.0
    assert thread.backlog == 0
    thread.put([event(31)])
    sink.is_over.set()
    thread.ask_to_close()
    assert thread.report(PATIENCE_SECONDS).dropped == 1


def test_nobody_waits_for_plain_callbacks() -> None:
    """A slow function of a user costs events, not speed."""
    sink = Hanging()
    broadcast = Broadcast([sink], print)
    broadcast.put([event(0), event(1)])
    assert broadcast.backlog == 0
    sink.is_over.set()
    broadcast.close(PATIENCE_SECONDS)


def test_a_sink_is_closed_after_its_last_event() -> None:
    """A sink that holds a file or a connection can let go of it; trouble with that is told."""
    heard: list[str] = []

    class Sink:
        def __call__(self, _event: Event) -> None:
            heard.append("event")

        def close(self) -> None:
            heard.append("close")
            raise OSError("the disk is full")

    notes, (report,) = told([Sink()], [event(0)])
    assert heard == ["event", "close"]
    assert said(report) == notes[-1] == "Sink raised OSError: the disk is full when it was closed"


def named(_event: Event) -> None:
    """Raises so that it is named."""
    raise ValueError("x")


@pytest.mark.parametrize("sink", [named, partial(named), partial(partial(named))], ids=["function", "partial", "partial of partial"])
def test_sinks_are_called_by_their_names(sink: Callable[[Event], None]) -> None:
    """Who gave five callbacks knows which one fails."""
    notes, _ = told([sink], [event(0)])
    assert notes[0].startswith("named raised ValueError: x")
