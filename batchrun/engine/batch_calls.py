"""Where calls for many items run: plain functions in threads of their own, async ones on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol

import anyio

from batchrun.engine.attempt import Outcome, outcome_of, outcome_on_loop


class RunningCall(Protocol):
    """A call that was begun."""

    def give_up(self, error: BaseException) -> None:
        """Nobody waits for it any more, or it takes too long: it ends with `error` unless it has ended."""


class ThreadCalls:
    """Calls of plain functions, each in a thread of its own. A thread is used again when its call has ended."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._idle: list[_CallThread] = []
        self._abandoned: list[Thread] = []
        self._started = 0

    def begin(self, call: Callable[[], Any], check: Callable[[Any], Any], on_end: Callable[[Outcome], None]) -> RunningCall:
        """Make a call.

        Args:
            call: makes it.
            check: turns what it returns into its value; may raise.
            on_end: called once, on the event loop, also when the call is given up.
        """
        if not self._idle:
            self._started += 1
            self._idle.append(_CallThread(f"batchrun-{self._name}-{self._started}", self._loop))
        return _InThread(self, self._idle.pop(), lambda: check(call()), on_end)

    @property
    def abandoned_count(self) -> int:
        """Threads of calls that were given up and have still not come back."""
        self._abandoned = [thread for thread in self._abandoned if thread.is_alive()]
        return len(self._abandoned)

    async def close(self) -> None:
        """End the threads that have nothing to do. The others stay behind; they are daemons."""
        for thread in self._idle:
            thread.close()
        self._idle.clear()

    def free(self, thread: _CallThread) -> None:
        """A thread has nothing to do any more."""
        self._idle.append(thread)

    def abandon(self, thread: _CallThread) -> None:
        """A thread is left to itself: it ends when its call does."""
        thread.close()
        self._abandoned.append(thread.thread)


class _CallThread:
    """A thread that makes calls, one after another."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._inbox: SimpleQueue[tuple[Callable[[], Any], Callable[[Outcome], None]] | None] = SimpleQueue()
        self.thread = Thread(target=self._main, name=name, daemon=True)
        self.thread.start()

    def give(self, call: Callable[[], Any], returned: Callable[[Outcome], None]) -> None:
        """Make a call; `returned` is called on the event loop."""
        self._inbox.put((call, returned))

    def close(self) -> None:
        """End after the call that it is in."""
        self._inbox.put(None)

    def _main(self) -> None:
        while (work := self._inbox.get()) is not None:
            call, returned = work
            outcome = outcome_of(call)
            with suppress(RuntimeError):  # the loop is closed: the execution ended without this call
                self._loop.call_soon_threadsafe(returned, outcome)
            del work, call, returned, outcome  # else they would live until the next call


class _InThread:
    """A call in a thread."""

    def __init__(self, calls: ThreadCalls, thread: _CallThread, call: Callable[[], Any], on_end: Callable[[Outcome], None]) -> None:
        self._calls = calls
        self._thread = thread
        self._on_end: Callable[[Outcome], None] | None = on_end
        thread.give(call, self._returned)

    def give_up(self, error: BaseException) -> None:
        """The thread cannot be stopped: it is left alone."""
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            self._calls.abandon(self._thread)
            on_end(Outcome(error=error))

    def _returned(self, outcome: Outcome) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            self._calls.free(self._thread)
            on_end(outcome)


class LoopCalls:
    """Calls of async functions, each in a task of its own."""

    abandoned_count = 0

    def __init__(self) -> None:
        self._running: set[_OnLoop] = set()

    def begin(self, call: Callable[[], Awaitable[Any]], check: Callable[[Any], Any], on_end: Callable[[Outcome], None]) -> RunningCall:
        """Make a call, as in a thread; `on_end` of one that was given up is called when it has cleaned up."""

        async def checked() -> Any:
            return check(await call())

        running = _OnLoop(checked(), on_end)
        self._running.add(running)
        running.task.add_done_callback(lambda _task: self._running.discard(running))
        return running

    async def close(self) -> None:
        """Cancel what still runs, and wait for it."""
        for running in self._running:
            running.give_up(asyncio.CancelledError())
        if self._running:
            await asyncio.wait([running.task for running in self._running])


class _OnLoop:
    """A call in a task."""

    def __init__(self, call: Coroutine[Any, Any, Any], on_end: Callable[[Outcome], None]) -> None:
        self._scope = anyio.CancelScope()
        self._error: BaseException | None = None
        self._on_end = on_end
        self.task = asyncio.create_task(self._run(call))
        self.task.add_done_callback(self._ended)

    def give_up(self, error: BaseException) -> None:
        """Cancel the call. It may still clean up."""
        self._error = self._error or error
        self._scope.cancel()

    async def _run(self, call: Coroutine[Any, Any, Any]) -> Outcome:
        with self._scope:
            return await outcome_on_loop(call, lambda: self._scope.cancel_called)
        return Outcome(error=self._error)  # it was cancelled

    def _ended(self, task: asyncio.Task[Outcome]) -> None:
        if task.cancelled():
            return  # with the event loop
        error = task.exception()
        self._on_end(task.result() if error is None else Outcome(error=error))
