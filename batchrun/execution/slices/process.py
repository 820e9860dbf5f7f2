"""A worker process, as its parent sees it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import tempfile
from contextlib import ExitStack, suppress
from typing import Any

from batchrun.core.errors import ExecutionError
from batchrun.execution.slices.marks import Marks
from batchrun.execution.slices.messages import Order, framed, told
from batchrun.nodes.crossing import LENGTH
from batchrun.nodes.workers import exit_shown

# The modules of the job are to be those of this process: so its path, before the first import. Ctrl-C reaches the whole group, also
# while modules are imported.
_PROGRAM = """\
import json, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.path[:] = json.loads(sys.argv.pop(1))
from batchrun.execution.slices.worker import main
main()
"""
_READ_BYTES = 2**22
_MOST_WORDS = 2**14
_HELD = "Timeout ("  # how faulthandler begins when it ends a process


class WorkerProcess:
    """One process; made by `started`. All methods are called on the event loop.

    Attributes:
        is_ready: whether its nodes are set up.
        last_words: what Python said when it broke down, such as the lines where a segmentation fault happened.
        marks: which items it is at, also when it has died.
    """

    def __init__(self, process: asyncio.subprocess.Process, marks: Marks, words: int) -> None:
        self.is_ready = False
        self.last_words = ""
        self.marks = marks
        self._process = process
        self._words = words
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    @classmethod
    async def started(cls) -> WorkerProcess:
        """Start one.

        Raises:
            ExecutionError: the system does not let us.
        """
        try:
            with ExitStack() as undo, tempfile.TemporaryFile() as shared:
                ours, theirs = socket.socketpair()
                undo.callback(theirs.close)
                words, their_words = os.pipe()
                undo.callback(os.close, their_words)
                os.set_blocking(words, False)
                marks = Marks.made(os.dup(shared.fileno()))
                numbers = (theirs.fileno(), their_words, shared.fileno())
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-c", _PROGRAM, json.dumps([str(entry) for entry in sys.path]), *map(str, numbers), str(os.getpid())),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=2,  # what functions print is for people: stdout belongs to programs
                    pass_fds=numbers,
                )
        except OSError as error:  # no memory, or too many processes or files
            raise ExecutionError(f"cannot start a worker process: {error.strerror}") from error
        worker = cls(process, marks, words)
        worker._reader, worker._writer = await asyncio.open_connection(sock=ours, limit=_READ_BYTES)
        return worker

    def send(self, order: Order) -> None:
        """Tell it something; never blocks. A process that has died does not hear it."""
        if not self._writer.is_closing():
            self._writer.write(framed(order))

    async def receive(self) -> Any:
        """What it tells next; null: it has died, and everything was read that it told before."""
        try:
            (size,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
            return told(await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def ended(self, patience_seconds: float = 0.0) -> int:
        """Wait for its end, with force when it takes longer. Returns its exit code; negative: the number of a signal."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_seconds):
                await self._process.wait()
        self.kill()
        code = await self._process.wait()
        self._writer.close()
        if self._words >= 0:
            with os.fdopen(self._words, "rb") as words:
                self.last_words = (words.read(_MOST_WORDS) or b"").decode(errors="replace")
            self._words = -1
        return code

    @property
    def was_held(self) -> bool:
        """Whether it ended itself because a call held the interpreter; known after `ended`."""
        return self.last_words.startswith(_HELD)

    def how_it_ended(self, code: int) -> str:
        """For people."""
        return exit_shown(code)

    def kill(self) -> None:
        """End it at once, whatever it does."""
        with suppress(ProcessLookupError):
            self._process.kill()
