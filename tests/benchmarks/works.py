"""Work that the tests of the harness have measured, in new processes."""

from __future__ import annotations

import atexit
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.warming import Warm

SPIN = "total = 0\nfor number in range(5_000_000):\n    total += number\nprint(total, flush=True)\n"


def noted(log: str, name: str, items: int, folder: str) -> Any:
    """Says when it was ready and when it worked."""
    del folder

    def work() -> tuple[int, dict[str, float]]:
        _note(log, f"{name} works")
        return items, {"size": 7.0}

    _note(log, f"{name} is ready")
    return work, Warm(first_seconds=100, fixed_seconds=0.25)


def _note(log: str, line: str) -> None:
    with Path(log).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def lazy(items: int, folder: str, **_: Any) -> Any:
    """Leaves the last item out."""
    del folder
    return lambda: items - 1


def broken(items: int, folder: str, **_: Any) -> Any:
    """Does not get ready."""
    del items, folder
    raise ValueError("nothing is as it should be")


def large(items: int, folder: str) -> Any:
    """Takes memory before it is measured, and gives it back."""
    del folder
    bytearray(b"\1") * (300 * 2**20)
    return lambda: items


def elsewhere(items: int, folder: str, then: str) -> Any:
    """Has another process compute, which is still there afterwards or not, or ends without anybody being told what it took."""
    del folder

    def work() -> int:
        if then == "ignored":
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            subprocess.Popen([sys.executable, "-c", SPIN * 8], stdout=subprocess.DEVNULL).wait()
            return items
        process = subprocess.Popen([sys.executable, "-c", SPIN + then], stdout=subprocess.PIPE, stdin=subprocess.PIPE)
        atexit.register(process.kill)
        if process.stdout is not None:
            process.stdout.readline()
        if not then:
            process.wait()
        return items

    return work
