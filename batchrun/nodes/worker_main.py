"""What a worker process does: it makes the calls it is sent, one at a time, until its parent has had enough, or is gone.

Calls run in the main thread, as libraries expect. Another thread listens all the time, so that a worker whose parent has
died ends in the middle of a call.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import importlib
import inspect
import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import reduce
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

from batchrun.nodes.classes import begun, ended
from batchrun.nodes.crossing import NOT_STARTED, RAISED, STARTED, VALUE, Fault, fault_of, packed, read_frame, send_frame, unpacked
from batchrun.nodes.guarded import attempted

_PR_SET_PDEATHSIG = 1


class Start(NamedTuple):
    """What a worker is told first.

    Attributes:
        call: `module:name` of what it calls, or the function itself.
        init: keyword arguments of a class whose instance is called; null: `call` is called itself.
    """

    call: str | Callable[..., Any]
    init: dict[str, Any] | None


def main() -> None:
    """Run as `worker_main.main()` with the numbers of the connection and of the pipe for last words, and the id of the parent."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    last_words = int(sys.argv[2])
    os.set_inheritable(last_words, False)
    connection.set_inheritable(False)
    belong_to(int(sys.argv[3]))
    sys.argv[:] = ["batchrun-worker"]
    faulthandler.enable(last_words, all_threads=False)
    inbox: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_listen, args=(connection, inbox), name="batchrun-listener", daemon=True).start()
    with asyncio.Runner() as runner:
        _serve(connection, inbox, runner)


def belong_to(parent: int) -> None:
    """End this process when the one that started it ends, whatever ends that, and for no signal that the terminal sends them both."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # below `nohup`, also what functions start ignores it
            signal.signal(number, lambda _number, _frame: None)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that
        os._exit(1)


def _listen(connection: socket.socket, inbox: SimpleQueue[bytes]) -> None:
    while (frame := read_frame(connection)) is not None:
        inbox.put(frame)
    os._exit(1)  # the parent is gone


def _serve(connection: socket.socket, inbox: SimpleQueue[bytes], runner: asyncio.Runner) -> None:
    made, fault = _guarded(lambda: _target(inbox.get(), runner))
    if fault is not None:
        send_frame(connection, NOT_STARTED + pickle.dumps(fault))
        return
    target, has_life = made
    send_frame(connection, STARTED)
    while frame := inbox.get():
        send_frame(connection, _answer(target, frame, runner))
    _, fault = _guarded(lambda: ended(target, runner.run) if has_life else None)
    if fault is not None:
        sys.stderr.write(f"teardown failed: {fault.names[0][1]}: {fault.message}\n{fault.traceback}")


def _target(start: bytes, runner: asyncio.Runner) -> tuple[Callable[..., Any], bool]:
    """What is called, and whether it is an instance made here, which is taken down at the end."""
    call, init = unpacked(start, "the function")
    found: Any = call
    if isinstance(call, str):
        module, _, name = call.partition(":")
        found = reduce(getattr, name.split("."), importlib.import_module(module))
    return (found, False) if init is None else (begun(found, init, runner.run), True)


def _answer(target: Callable[..., Any], frame: bytes, runner: asyncio.Runner) -> bytes:
    data, fault = _guarded(lambda: packed(_value(target, frame, runner), "an output"))
    with suppress(OSError, ValueError):  # a function may have closed them
        sys.stdout.flush()
    return RAISED + pickle.dumps(fault) if data is None else VALUE + data


def _value(target: Callable[..., Any], frame: bytes, runner: asyncio.Runner) -> Any:
    args, kwargs = unpacked(frame, "the inputs")
    value = target(*args, **kwargs)
    return runner.run(value) if inspect.iscoroutine(value) else value


def _guarded(call: Callable[[], Any]) -> tuple[Any, Fault | None]:
    try:
        value, error = attempted(call)
    except KeyboardInterrupt as raised:  # by the function itself: signals are not told to this process
        value, error = None, raised
    return value, None if error is None else fault_of(error)
