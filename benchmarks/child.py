"""One measurement, in a process of its own: `python -m benchmarks.child TASK`. Runs in the environments of other tools, too."""

from __future__ import annotations

import gc
import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Do the work that the task names, and write what it took into the file that the task names."""
    task = json.loads(sys.argv[1])
    module, _, name = task["call"].partition(":")
    ready = getattr(import_module(module), name)(**task["arguments"])
    work, fixed_seconds = ready if isinstance(ready, tuple) else (ready, 0.0)
    gc.collect()
    start_seconds = time.monotonic() - task["started"]  # a clock that all processes of a machine share
    done, seconds, cpu_seconds = _clocked(work)
    items, facts = done if isinstance(done, tuple) else (done, {})
    told = {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mib": _peak_mib(), "start_seconds": start_seconds}
    Path(task["answer"]).write_text(json.dumps({**told, "fixed_seconds": fixed_seconds, "items": items, "facts": facts}), encoding="utf-8")


def _clocked(work: Callable[[], Any]) -> tuple[Any, float, float]:
    cpu, began = _cpu_seconds(), time.perf_counter()
    done = work()
    seconds = time.perf_counter() - began
    return done, seconds, _cpu_seconds() - cpu


def _cpu_seconds() -> float:
    """CPU time of this process, of those it has waited for, and of those that still run below it."""
    own = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own + sum(sum(map(int, fields[11:15])) for _, fields in descendants(os.getpid())) / _TICKS_PER_SECOND


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


if __name__ == "__main__":
    main()
