"""What an execution changes in its process while it runs, and puts back afterwards."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_RARE_COLLECTIONS = (50_000, 20, 100)


@contextmanager
def signals_to(on_signal: Callable[[str], None]) -> Iterator[None]:
    """Call `on_signal` with the name of each SIGINT, SIGTERM and SIGHUP. Only in the main thread: Python gives signals to no other.

    Where SIGHUP was ignored, as `nohup` has it, it still is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        on_signal(signal.Signals(number).name)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def rare_collections() -> Iterator[None]:
    """Let the cyclic garbage collector run seldom: items and results are many, short-lived and free of cycles."""
    before = gc.get_threshold()
    gc.set_threshold(*_RARE_COLLECTIONS)
    try:
        yield
    finally:
        if before != _RARE_COLLECTIONS:  # else another execution of this process put them there, and will put them back
            gc.set_threshold(*before)
