"""One measurement, in a process of its own: `python -m benchmarks.child TASK`. Runs in the environments of other tools, too."""

from __future__ import annotations

import gc
import json
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

from benchmarks.warming import Warm

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Do the work that the task names, and write what it took into the file that the task names."""
    Thread(target=_end_with_parent, daemon=True).start()
    task = json.loads(sys.argv[1])
    module, _, name = task["call"].partition(":")
    call = getattr(import_module(module), name)
    imported_seconds = time.monotonic() - task["started"]  # a clock that all processes of a machine share
    ready = call(**task["arguments"])
    work, warm = ready if isinstance(ready, tuple) else (ready, Warm())
    gc.collect()
    done, told = _clocked(work)
    told |= {"peak_mib": _peak_mib(), "fixed_seconds": warm.fixed_seconds, "start_seconds": imported_seconds + warm.first_seconds}
    done = done() if callable(done) else done
    items, facts = done if isinstance(done, tuple) else (done, {})
    Path(task["answer"]).write_text(json.dumps({**told, "items": items, "facts": facts}), encoding="utf-8")


def _end_with_parent() -> None:
    """Wait until whoever measures has gone, however it ended: it holds the other end of the standard input. Then end with all below."""
    os.read(0, 1)  # not `sys.stdin`, which has to be at rest when the interpreter ends
    kill_tree(os.getpid())


def _clocked(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    cpu, began = _cpu_seconds(), time.monotonic()
    done = work()
    ended = time.monotonic()
    after = _cpu_seconds()
    # Of what has ended in between, its parent knows more than was known before; or nobody does, and the harness has watched it.
    cpu_seconds = sum(spent - cpu.get(process, 0.0) for process, spent in after.items())
    return done, {"began": began, "ended": ended, "seconds": ended - began, "cpu_seconds": cpu_seconds}


def _cpu_seconds() -> dict[int, float]:
    """CPU time of this process, and of each that runs below it: with those that each has waited for."""
    own = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {0: own} | {number: sum(map(int, fields[11:15])) / TICKS_PER_SECOND for number, fields in descendants(os.getpid())}


def _peak_mib() -> float:
    """Peak resident memory of this process. Unlike `ru_maxrss` it does not begin with that of the parent."""
    try:
        return int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))[0]) / 1024
    except (OSError, IndexError):  # not on Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def descendants(root: int) -> Iterator[tuple[int, list[str]]]:
    """The processes below one, each with its fields of `/proc/PID/stat` from the third on. None where there is no `/proc`."""
    fields_of: dict[int, list[str]] = {}
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        number = int(path.parent.name)
        fields_of[number] = fields
        children.setdefault(int(fields[1]), []).append(number)
    below = list(children.get(root, ()))
    for number in below:
        yield number, fields_of[number]
        below.extend(children.get(number, ()))


def kill_tree(root: int) -> None:
    """End a process and all below it."""
    for number in [*(number for number, _ in descendants(root)), root]:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


if __name__ == "__main__":
    main()
