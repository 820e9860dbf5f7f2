"""Worker processes: where functions run that hold the interpreter, use a whole core, or may crash.

A worker makes one call at a time, so whatever ends it is the doing of that call. It is started when there is a call for it,
used for as many as come, and replaced when it is gone. Values cross over a private socket and are never on the disk.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from threading import Thread
from typing import Any

from batchrun.core.errors import NodeError, WorkerCrashed, WorkerNotStarted
from batchrun.nodes.crossing import LENGTH, RAISED, STARTED, error_of, packed, unpacked
from batchrun.nodes.worker_main import Start

_MOST_CRASHES = 10
_MOST_FAILED_STARTS = 3
_START_SECONDS = 600.0  # a model may take its time
_ENDING_SECONDS = 10.0  # for teardown
_LARGEST_READ = 2**20
_MOST_WORDS = 2**14
_PROGRAM = "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); from batchrun.nodes.worker_main import main; main()"


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class WorkerPool:
    """The worker processes of one node. All methods are called on the event loop.

    Args:
        node_id: names the node in errors.
        start: what each worker calls.
        most_workers: the most of them at once; there are never more than there are calls at once.
    """

    def __init__(self, node_id: str, start: Start, most_workers: int) -> None:
        self._node_id = node_id
        self._start = start
        self._most_workers = most_workers
        self._places = asyncio.Semaphore(most_workers)
        self._idle: list[_Worker] = []
        self._workers: set[_Worker] = set()
        self._crashes = 0  # since a call ended
        self._failed_starts = 0  # since a worker started

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """For as long as calls are made. Ends the workers, with time for their teardown."""
        self._places = asyncio.Semaphore(self._most_workers)
        self._crashes = self._failed_starts = 0
        try:
            yield
            await self._end()
        finally:
            for worker in self._workers:
                worker.abandon()
            self._idle.clear()

    async def call(self, frame: bytes, on_begin: Callable[[], None]) -> Any:
        """Make a call in a worker. When it is cancelled, its worker is killed.

        Args:
            frame: the packed arguments.
            on_begin: called when a worker is free.

        Raises:
            WorkerCrashed: the call ended its worker.
            WorkerNotStarted: no worker could be started.
            InvalidValue: the output cannot be sent.
            Exception: whatever the function raised.
        """
        async with self._places:
            worker = await self._free()
            try:
                on_begin()
                answer = await worker.ask(frame)
            finally:
                if worker.is_asked:  # the call was cancelled, or has ended its worker
                    worker.kill()
                else:
                    self._idle.append(worker)
            if answer is None:
                raise self._crashed(await worker.exit_code, worker.last_words)
        self._crashes = 0
        return _value(answer)

    async def _free(self) -> _Worker:
        while self._idle:
            worker = self._idle.pop()
            if not worker.exit_code.done():  # else it was killed while it had nothing to do
                return worker
        try:
            worker = _Worker(self._workers)
        except OSError as error:  # no memory, or too many processes
            raise self._not_started(None, str(error), "") from error
        answer, is_late = None, False
        try:
            async with asyncio.timeout(_START_SECONDS):
                answer = await worker.ask(packed(self._start, "the function"))
        except TimeoutError:
            is_late = True
        finally:
            if worker.is_asked:
                worker.kill()
        if answer == STARTED:
            self._failed_starts = 0
            return worker
        worker.kill()
        exit_code = await worker.exit_code
        reason = f"it was not ready after {_START_SECONDS:g} s" if is_late else f"it ended with {exit_shown(exit_code)}"
        raise self._not_started(answer, reason, worker.last_words)

    def _not_started(self, answer: bytes | None, reason: str, where: str) -> NodeError:
        self._failed_starts += 1
        if answer is not None:
            fault = unpacked(answer[1:], "an error")
            reason, where = f"{fault.names[0][1] if fault.names else 'Exception'}: {fault.message}", fault.traceback
        error = WorkerNotStarted(f"a worker process of node {self._node_id} did not start: {reason}")
        error.remote_traceback = where
        error.stops_execution = self._failed_starts >= _MOST_FAILED_STARTS
        return error

    def _crashed(self, exit_code: int, last_words: str) -> NodeError:
        self._crashes += 1
        message = f"the call ended its worker process with {exit_shown(exit_code)}"
        if self._crashes >= _MOST_CRASHES:
            message += f"; so did the {_MOST_CRASHES - 1} calls before it, and none has ended well in between"
        error = WorkerCrashed(message, exit_code)
        error.stops_execution = self._crashes >= _MOST_CRASHES
        error.remote_traceback = last_words
        return error

    async def _end(self) -> None:
        """Ask the workers to end."""
        for worker in self._idle:
            worker.end()
        if self._idle:
            await asyncio.wait([worker.exit_code for worker in self._idle], timeout=_ENDING_SECONDS)


class _Worker:
    """One process.

    Args:
        workers: of the pool; it is one of them for as long as it lives.

    Attributes:
        exit_code: of the process, once it has ended; negative: the number of a signal.
        is_asked: whether it owes an answer.
        last_words: what Python said when it broke down, such as the lines where a segmentation fault happened.
    """

    def __init__(self, workers: set[_Worker]) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection, theirs = socket.socketpair()
        self._connection.setblocking(False)
        self._last_words, words = os.pipe()
        os.set_blocking(self._last_words, False)
        self.last_words = ""
        path = json.dumps([str(entry) for entry in sys.path])
        numbers = (theirs.fileno(), words)
        with ExitStack() as undo, theirs, os.fdopen(words, "wb"):
            undo.callback(self._connection.close)
            undo.callback(os.close, self._last_words)
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter
                [sys.executable, "-c", _PROGRAM, path, *map(str, numbers), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=2,  # what functions print is for people: stdout belongs to programs
                pass_fds=numbers,
            )
            undo.pop_all()
        self.exit_code: asyncio.Future[int] = self._loop.create_future()
        self.is_asked = False
        self._workers = workers
        workers.add(self)
        Thread(target=self._watch, name=f"batchrun-watch-{self._process.pid}", daemon=True).start()

    async def ask(self, frame: bytes) -> bytes | None:
        """Send a frame and wait for the answer; null: the process is gone, or breaks off."""
        self.is_asked = True
        try:
            await self._loop.sock_sendall(self._connection, LENGTH.pack(len(frame)) + frame)
            header = await self._read(LENGTH.size)
            answer = await self._read(LENGTH.unpack(header)[0])
            self.is_asked = False
        except (ConnectionError, EOFError):
            self.kill()
            return None
        finally:
            if self.is_asked:
                self._connection.close()
        return answer

    def end(self) -> None:
        """Let it end when it has nothing to do; it may tidy up before."""
        with suppress(OSError):
            self._connection.send(LENGTH.pack(0))

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self._process.kill()

    def abandon(self) -> None:
        """End it at once. No call is made any more."""
        self.kill()
        self._connection.close()

    async def _read(self, size: int) -> bytes:
        data = bytearray(size)
        view, filled = memoryview(data), 0
        while filled < size:
            count = await self._loop.sock_recv_into(self._connection, view[filled : filled + _LARGEST_READ])
            if not count:
                raise EOFError
            filled += count
        return bytes(data)

    def _watch(self) -> None:
        """In a thread: wait for the end of the process."""
        exit_code = self._process.wait()
        with os.fdopen(self._last_words, "rb") as words:
            self.last_words = (words.read(_MOST_WORDS) or b"").decode(errors="replace")
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._ended, exit_code)

    def _ended(self, exit_code: int) -> None:
        self._workers.discard(self)
        if not self.is_asked:  # else the end of the connection is about to be read
            self._connection.close()
        if not self.exit_code.done():
            self.exit_code.set_result(exit_code)


def _value(answer: bytes) -> Any:
    if answer[:1] == RAISED:
        raise error_of(unpacked(answer[1:], "an error"))
    return unpacked(answer[1:], "the output")


def exit_shown(exit_code: int) -> str:
    """How a process ended, for people."""
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:  # those of real-time have none
        name = "signal"
    memory = "; the system kills processes like that when memory runs out" if -exit_code == signal.SIGKILL else ""
    return f"{name} (signal {-exit_code}){memory}"
