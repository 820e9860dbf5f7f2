"""Runs of an execution that die in the middle of one of their writes: each time at another one, until none is left.

`python -m tests.e2e.dying retry FOLDER` goes on with copies of an execution, `FOLDER-1`, `FOLDER-2`, …: the first one dies at
its first write, the second one at its second, and so on. Starting a Python for each would take minutes: these are forks.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import batchrun

JOB = """\
name: dying
dataset: {path: data.parquet, id: id}
workflow:
  nodes:
    - {id: fetch, type: python, call: "tests.e2e.dying:fetch", inputs: {size: "{{ item.size }}"}}
    - {id: judge, type: python, call: "tests.e2e.dying:judge", inputs: {size: "{{ nodes.fetch.output }}"}}
run: {parallelism: 2, retry: {max_attempts: 1}}
output: {path: runs}
"""


def _note(text: str) -> None:
    with Path(os.environ["CALLS"]).open("a") as log:
        log.write(text + "\n")


async def fetch(size: int) -> int:
    _note(f"fetch {size}")
    return size


async def judge(size: int) -> int:
    _note(f"judge {size}")
    await asyncio.sleep(0.06)
    if "DOWN" in os.environ and size % 4:
        raise LookupError("no judge")
    return size


def calls(folder: Path) -> Counter[str]:
    """The calls that were made for an execution."""
    log = log_of(folder)
    return Counter(log.read_text().splitlines()) if log.exists() else Counter()


def log_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.log")


def copy_of(folder: Path, name: str) -> Path:
    """A copy of an execution with the log of its calls."""
    copy = shutil.copytree(folder, folder.with_name(name))
    shutil.copyfile(log_of(folder), log_of(copy))
    return copy


class _Dying:
    """Counts writes, and dies in the middle of one of them."""

    def __init__(self, write: int) -> None:
        self._left = write
        self._writev = os.writev
        os.writev = self._halfway  # type: ignore[assignment]
        os.fsync = self._counted(os.fsync)
        os.replace = self._counted(os.replace)

    def _halfway(self, file: int, parts: Any, /) -> int:
        if self._is_last():
            content = b"".join(parts)
            self._writev(file, [content[: len(content) // 2]])
            os.kill(os.getpid(), signal.SIGKILL)
        return self._writev(file, parts)

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            if self._is_last():
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return counted

    def _is_last(self) -> bool:
        self._left -= 1
        return self._left == 0


def main(action: str, original: Path) -> None:
    """Go on with copies until one comes to its end, which is printed."""
    go_on: Callable[..., Any] = getattr(batchrun, action)  # loaded once, before the first fork
    write, status = 0, -1
    while status:
        write += 1
        folder = copy_of(original, f"{original.name}-{write}")
        process = os.fork()
        if not process:
            os.environ["CALLS"] = str(log_of(folder))
            _Dying(write)
            os._exit(0 if go_on(folder, quiet=True) is not None else 3)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if status not in (0, -signal.SIGKILL):
            sys.exit(f"{folder} ended with {status}")
    sys.stdout.write(f"{write}\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
